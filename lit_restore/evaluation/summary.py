"""Rows -> one summary: means with intervals, failures counted by reason, protocol and timing beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError
from lit_restore.evaluation.bootstrap import NUM_DRAWS, Estimate, estimate
from lit_restore.evaluation.protocol import Protocol
from lit_restore.evaluation.records import Row
from lit_restore.evaluation.timing import Timing
from lit_restore.image import atomic_path

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class MetricSummary:
    """One metric over all photos.

    Attributes:
        estimate: mean and interval; None = not one photo could be measured. Metrics of the whole set have no interval.
        not_measured: reason -> keys of the photos without a value, whether restored or not.
    """

    higher_is_better: bool | None
    estimate: Estimate | None
    not_measured: dict[str, list[str]]


@dataclass(frozen=True)
class Summary:
    """What an evaluation came to.

    Attributes:
        failures: reason -> keys of the photos without a restored image.
        timing: None = pictures of another program.
        examples: ``best``, ``median``, ``worst`` -> key of the photo, by the metric ``examples_by``.
    """

    method: str
    num_photos: int
    num_people: int
    num_failed: int
    failures: dict[str, list[str]]
    metrics: dict[str, MetricSummary]
    timing: Timing | None
    examples_by: str | None
    examples: dict[str, str]
    remarks: list[str]
    protocol: Protocol


def summarise(
    rows: Sequence[Row],
    directions: Mapping[str, bool | None],
    protocol: Protocol,
    *,
    method: str,
    set_values: Mapping[str, float | str] | None = None,
    timing: Timing | None = None,
    remarks: Sequence[str] = (),
) -> Summary:
    """Put together what is known.

    Args:
        rows: of all photos.
        directions: metric -> whether higher is better (None = neither), in the order to be shown.
        set_values: metric of the whole set -> its value, or why there is none.
    """
    failures: dict[str, list[str]] = {}
    for row in rows:
        if row.failure is not None:
            failures.setdefault(_general(row.failure), []).append(row.key)
    set_values = set_values or {}
    metrics = {
        name: _of_set(set_values[name], higher, rows) if name in set_values else _of_photos(name, higher, rows)
        for name, higher in directions.items()
    }
    by = _examples_metric(metrics)
    return Summary(
        method=method,
        num_photos=len(rows),
        num_people=len({row.identity for row in rows}),
        num_failed=sum(map(len, failures.values())),
        failures=failures,
        metrics=metrics,
        timing=timing,
        examples_by=by,
        examples=choose_examples(rows, by, bool(directions[by])) if by else {},
        remarks=list(remarks),
        protocol=protocol,
    )


def choose_examples(rows: Sequence[Row], metric: str, higher_is_better: bool) -> dict[str, str]:
    """Keys of the best, the median and the worst photo."""
    measured = [(row.values[metric], row.key) for row in rows if row.values.get(metric) is not None]
    if not measured:
        return {}
    ranked = [key for _, key in sorted(measured, reverse=higher_is_better)]
    return {"best": ranked[0], "median": ranked[(len(ranked) - 1) // 2], "worst": ranked[-1]}


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.json``, complete or not at all."""
    content = asdict(summary)
    content["bootstrap"] = {"draws": NUM_DRAWS, "over": "people", "level": 0.95, "seed": 0}
    with atomic_path(folder / SUMMARY_NAME) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_summary(folder: str | Path) -> Summary | None:
    """The summary of a finished evaluation; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = Path(folder) / SUMMARY_NAME
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content.pop("bootstrap")
        metrics = {name: _metric(values) for name, values in content.pop("metrics").items()}
        timing = content.pop("timing")
        return Summary(metrics=metrics, timing=None if timing is None else Timing(**timing), **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError("damaged summary", where=path, fix="Delete it and evaluate again.") from None


def _metric(values: dict[str, Any]) -> MetricSummary:
    known = values.pop("estimate")
    return MetricSummary(estimate=None if known is None else Estimate(**known), **values)


def _of_photos(name: str, higher: bool | None, rows: Sequence[Row]) -> MetricSummary:
    values, people, reasons = [], [], {}
    for row in rows:
        value = row.values.get(name)
        if value is None:
            reason = "not restored" if row.failure is not None else row.reasons.get(name, "unknown")
            reasons.setdefault(reason, []).append(row.key)
        else:
            values.append(value)
            people.append(row.identity)
    return MetricSummary(higher, estimate(values, people) if values else None, reasons)


def _of_set(value: float | str, higher: bool | None, rows: Sequence[Row]) -> MetricSummary:
    if isinstance(value, str):
        return MetricSummary(higher, None, {value: [row.key for row in rows]})
    restored = [row for row in rows if row.failure is None]
    known = Estimate(value, None, None, len(restored), len({row.identity for row in restored}))
    return MetricSummary(higher, known, {})


def _examples_metric(metrics: Mapping[str, MetricSummary]) -> str | None:
    """By which metric the best and the worst are chosen: what people see comes first."""
    measured = [n for n, m in metrics.items() if m.estimate is not None and m.higher_is_better is not None]
    wanted = [name for name in measured if name.startswith("lpips")] + [name for name in measured if name == "psnr"]
    return next(iter(wanted + measured), None)


def _general(reason: str) -> str:
    """A reason without the file it is about, so that equal reasons are counted together."""
    what, _, rest = reason.partition(": ")
    details = [part for part in rest.split("; ")[1:] if part.startswith(("expected", "found"))]
    return "; ".join([what, *details]) if details else what
