"""A scored user study of ours beside a published one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError
from lit_restore.evaluation.bootstrap import Estimate
from lit_restore.evaluation.comparability import Setting
from lit_restore.evaluation.definitions import MetricDefinition, PartDefinition
from lit_restore.evaluation.published import PublishedTable
from lit_restore.evaluation.study.report import FORMAT
from lit_restore.evaluation.summary import MetricSummary, Summary
from lit_restore.evaluation.table import Measured, Part, Unmeasured, fill_part

PREFIX = "preference_"
"""Of our metrics: ``preference_<question>``, the share of answers in percent."""


def study_part(
    published: PublishedTable,
    path: Path,
    part: PartDefinition,
    metrics: Mapping[str, MetricDefinition],
    contradictions: Iterable[str],
) -> Part:
    """The published table with the shares of ``score.json`` at ``path``: preferences for ``part.preferred``.

    Raises:
        UserError: the file is not a score, or the study did not show the preferred method.
    """
    content = _read(path)
    known = _preferences(content["preferences"], part.preferred)
    if not known:
        methods = sorted({one[kind] for one in content["preferences"] for kind in ("method", "other")})
        raise UserError(
            f"the study has no method '{part.preferred}'", where=path, found=", ".join(methods), fix="Name it so."
        )
    lacking = Unmeasured(((f"the study in {path} did not compare {part.preferred} with it", None),))
    results = {
        name: Measured(_summary(name, known[name], content["protocol"]), path.parent) if name in known else lacking
        for name in published.rows
    }
    data = content["protocol"]["data"]["name"]
    setting = Setting(data=published.dataset, measured_on=f"{data}, {len(content['raters'])} raters", same_data=False)
    filled = fill_part(published, results, metrics, setting, contradictions=contradictions, notes=part.notes)
    return replace(filled, intervals="95 % intervals, bootstrap over raters")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError("not the score of a study", where=path, expected="score.json as 'study score' writes it")
    return content


def _preferences(given: Iterable[dict[str, Any]], preferred: str | None) -> dict[str, list[dict[str, Any]]]:
    """Other method -> what was said about it, one entry per question, all as shares of the preferred one."""
    known: dict[str, list[dict[str, Any]]] = {}
    for one in given:
        if one["method"] == preferred:
            known.setdefault(one["other"], []).append(one)
        elif one["other"] == preferred:
            interval = one["over_raters"] and [1 - end for end in reversed(one["over_raters"])]
            known.setdefault(one["method"], []).append(one | {"share": 1 - one["share"], "over_raters": interval})
    return known


def _summary(method: str, preferences: Iterable[dict[str, Any]], protocol: dict[str, Any]) -> Summary:
    """In the form of an evaluation, so that a table takes it."""
    preferences = list(preferences)
    metrics = {}
    for one in preferences:
        low, high = (100 * end for end in one["over_raters"]) if one["over_raters"] else (None, None)
        estimate = Estimate(100 * one["share"], low, high, one["num_answers"], one["num_raters"])
        metrics[PREFIX + one["question"]] = MetricSummary(True, estimate, {})
    return Summary(
        method=method,
        num_photos=max(one["num_photos"] for one in preferences),
        num_people=max(one["num_people"] for one in preferences),
        num_failed=0,
        failures={},
        metrics=metrics,
        timing=None,
        examples_by=None,
        examples={},
        remarks=[],
        protocol=protocol | {"method": protocol["methods"].get(method, {}), "metrics": {}},
    )
