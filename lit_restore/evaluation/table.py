"""Ours beside published: summaries and a published table -> cells, differences, marks, warnings. Pure arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lit_restore.evaluation.bootstrap import Estimate
from lit_restore.evaluation.comparability import Setting, column_warnings, row_warnings
from lit_restore.evaluation.definitions import MetricDefinition
from lit_restore.evaluation.published import PublishedTable
from lit_restore.evaluation.summary import Summary

Mark = Literal["best", "second"]
TIMING = "seconds"


@dataclass(frozen=True)
class Measured:
    """An evaluation and the folder it lies in."""

    summary: Summary
    folder: Path


@dataclass(frozen=True)
class Unmeasured:
    """Why a row has no numbers of ours, and what would give them.

    Attributes:
        reasons: what is missing, and a command or a sentence about how to get it.
    """

    reasons: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Column:
    """A column of the paper and what we measure for it.

    Attributes:
        metric: the paper's, normalised.
        ours: our metric; None = it is not measured.
    """

    name: str
    metric: str
    ours: str | None
    higher_is_better: bool
    digits: int
    unit: str | None


@dataclass(frozen=True)
class Cell:
    """One number and its counterpart.

    Attributes:
        missing: why there is no own number.
        num_missing: photos that do not count in ours, because they or their metric failed.
    """

    ours: Estimate | None
    published: float | None
    missing: str | None = None
    num_missing: int = 0

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.ours is None or self.published is None else self.ours.mean - self.published

    @property
    def difference_interval(self) -> tuple[float, float] | None:
        """The interval of ours, moved by the published number, which comes without one."""
        ours, published = self.ours, self.published
        if ours is None or published is None or ours.low is None or ours.high is None:
            return None
        return ours.low - published, ours.high - published


@dataclass(frozen=True)
class TableRow:
    """One method.

    Attributes:
        cells: column name -> cell.
        measured: the evaluation behind it.
        unmeasured: why there is none.
        warnings: why ours and published may not be compared as they stand.
    """

    name: str
    cells: Mapping[str, Cell]
    measured: Measured | None
    unmeasured: Unmeasured | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One published table, measured anew.

    Attributes:
        paper: empty where nothing is published.
        measured_on: the photos behind ours; None = nothing was measured.
        warnings: those that all measured rows share.
        notes: facts about the published numbers.
        intervals: what is in brackets behind ours.
    """

    caption: str
    paper: str
    arxiv: str | None
    published_id: str
    dataset: str
    measured_on: str | None
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    intervals: str = "95 % intervals, bootstrap over people"

    def marks(self, kind: Literal["ours", "published"]) -> dict[tuple[str, str], Mark]:
        """(row, column) -> best or second, among ours or among the published numbers, never across."""
        marks: dict[tuple[str, str], Mark] = {}
        for column in self.columns:
            values = {row.name: _value(row.cells[column.name], kind) for row in self.rows}
            known = {name: value for name, value in values.items() if value is not None}
            for name, mark in rank(known, column.higher_is_better, column.digits).items():
                marks[name, column.name] = mark
        return marks


@dataclass(frozen=True)
class Table:
    """What is rendered."""

    name: str
    title: str
    parts: tuple[Part, ...]


def rank(values: Mapping[str, float], higher_is_better: bool, digits: int) -> dict[str, Mark]:
    """Best and second best as printed. Equal prints share a place; two best leave no second; a single value none."""
    if len(values) < 2:
        return {}
    printed = {name: round(value, digits) for name, value in values.items()}
    order = sorted(set(printed.values()), reverse=higher_is_better)
    best = [name for name, value in printed.items() if value == order[0]]
    second = [name for name, value in printed.items() if len(order) > 1 and value == order[1]] if len(best) == 1 else []
    return dict.fromkeys(best, "best") | dict.fromkeys(second, "second")


def columns_of(published: PublishedTable, metrics: Mapping[str, MetricDefinition]) -> tuple[Column, ...]:
    """The paper's columns with our metrics."""
    columns = []
    for column in published.columns:
        definition = metrics.get(column.metric, MetricDefinition(digits=0))
        printed = [row.get(column.name) for row in published.rows.values()]
        common = Counter(decimals(value) for value in printed if value is not None)
        columns.append(
            Column(
                name=column.name,
                metric=column.metric,
                ours=definition.ours,
                higher_is_better=column.higher_is_better,
                digits=max(definition.digits, max(common, key=lambda digits: (common[digits], digits), default=0)),
                unit=column.unit,
            )
        )
    return tuple(columns)


def decimals(value: float) -> int:
    """As many as a paper printed: 23.31 -> 2. A last 0 is lost, so a column has as many as most of its numbers."""
    return len(repr(value).rstrip("0").partition(".")[2]) if isinstance(value, float) else 0


def fill_part(
    published: PublishedTable,
    results: Mapping[str, Measured | Unmeasured],
    metrics: Mapping[str, MetricDefinition],
    setting: Setting,
    *,
    unavailable: Mapping[str, str] | None = None,
    contradictions: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Part:
    """Put ours beside published.

    Args:
        results: row -> what came of it, in the order to be shown; rows without a published one are allowed.
        metrics: the paper's metric -> ours.
        setting: what the published numbers were measured on.
        unavailable: our metric -> why it could not be used.
    """
    columns = columns_of(published, metrics)
    unavailable = unavailable or {}
    rows = [_row(name, result, published, columns, metrics, setting, unavailable) for name, result in results.items()]
    measured = [row for row in rows if row.measured is not None]
    shared = [w for w in dict.fromkeys(w for row in measured for w in row.warnings) if _in_all(w, measured)]
    rows = [_without(row, shared) for row in rows]
    about = ["The published numbers are second-hand."] if published.second_hand else []
    return Part(
        caption=published.caption,
        paper=published.paper,
        arxiv=published.arxiv,
        published_id=published.id,
        dataset=published.dataset,
        measured_on=setting.measured_on if measured else None,
        columns=columns,
        rows=tuple(rows),
        warnings=tuple(shared),
        notes=(*contradictions, *about, *notes, *([published.notes] if published.notes else [])),
    )


def _row(
    name: str,
    result: Measured | Unmeasured,
    published: PublishedTable,
    columns: Sequence[Column],
    metrics: Mapping[str, MetricDefinition],
    setting: Setting,
    unavailable: Mapping[str, str],
) -> TableRow:
    printed = published.rows.get(name, {})
    if isinstance(result, Unmeasured):
        why = "; ".join(reason for reason, _ in result.reasons)
        cells = {column.name: Cell(None, printed.get(column.name), why) for column in columns}
        return TableRow(name, cells, None, result)
    summary = result.summary
    cells = {column.name: _cell(column, printed.get(column.name), summary, unavailable) for column in columns}
    warnings = row_warnings(setting, summary)
    for column in columns:
        if cells[column.name].ours is not None:
            warnings += column_warnings(column.name, column.ours, metrics.get(column.metric), summary)
    return TableRow(name, cells, result, None, tuple(warnings))


def _cell(column: Column, published: float | None, summary: Summary, unavailable: Mapping[str, str]) -> Cell:
    if column.ours is None:
        return Cell(None, published, f"{column.metric} is not measured by lit_restore")
    if column.ours == TIMING:
        seconds = None if summary.timing is None else summary.timing.steady_s
        if seconds is None:
            return Cell(None, published, "the method was not timed")
        return Cell(Estimate(seconds, None, None, summary.timing.num_photos, 0), published)
    metric = summary.metrics.get(column.ours)
    if metric is None:
        return Cell(None, published, unavailable.get(column.ours, f"{column.ours} was not measured"))
    num_missing = sum(map(len, metric.not_measured.values()))
    if metric.estimate is None:
        return Cell(None, published, "; ".join(metric.not_measured) or "no photo", num_missing)
    return Cell(metric.estimate, published, None, num_missing)


def _value(cell: Cell, kind: Literal["ours", "published"]) -> float | None:
    if kind == "published":
        return cell.published
    return None if cell.ours is None else cell.ours.mean


def _in_all(warning: str, rows: Sequence[TableRow]) -> bool:
    return all(warning in row.warnings for row in rows)


def _without(row: TableRow, warnings: Sequence[str]) -> TableRow:
    kept = tuple(warning for warning in row.warnings if warning not in warnings)
    return replace(row, warnings=kept)
