"""Summaries, made by hand, for the tests of tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_restore.evaluation.bootstrap import Estimate
from lit_restore.evaluation.published import PublishedColumn, PublishedTable
from lit_restore.evaluation.summary import MetricSummary, Summary
from lit_restore.evaluation.table import Measured
from lit_restore.evaluation.timing import Timing

PUBLISHED = PublishedTable(
    paper="A paper",
    arxiv="0000.00000",
    id="1",
    caption="Main comparison",
    dataset="Faces, 10 photos",
    columns=(
        PublishedColumn("PSNR", "psnr", True, "dB"),
        PublishedColumn("LPIPS", "lpips", False, "1"),
        PublishedColumn("Time", "seconds_per_image", False, "s"),
        PublishedColumn("Votes", "votes", True, "percent"),
    ),
    rows={
        "Theirs": {"PSNR": 22.35, "LPIPS": 0.3, "Time": 0.1234, "Votes": 10.0},
        "Ours & more": {"PSNR": 23.3, "LPIPS": 0.225, "Time": 0.471, "Votes": None},
    },
    notes="A note of the paper.",
    second_hand=False,
)


def protocol(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "data": {"photos": 10, "people": 3, "only_the_first": False},
        "degradation": {"profile": "diffbir_face", "changed": {}, "scaled_to_resolution": False, "seed": 0},
        "image": {"size_px": 512},
        "method": {"kind": "checkpoint"},
        "metrics": {"psnr": {}, "lpips_alex": {"backbone": "AlexNet"}},
        "software": {},
    }
    return {name: {**section, **changes.get(name, {})} for name, section in values.items()}


def summary(psnr: float | None = 23.0, lpips: float = 0.25, *, seconds: float | None = 0.5, **changes: Any) -> Summary:
    values = {
        "psnr": MetricSummary(True, psnr and Estimate(psnr, psnr - 0.5, psnr + 0.6, 10, 3), {}),
        "lpips_alex": MetricSummary(False, Estimate(lpips, lpips - 0.01, lpips + 0.02, 10, 3), {}),
    }
    timing = None if seconds is None else Timing(0.9, seconds, None, None, 5, "networks", "cpu", 1)
    return Summary(
        method="m",
        num_photos=10,
        num_people=3,
        num_failed=changes.pop("num_failed", 0),
        failures=changes.pop("failures", {}),
        metrics=changes.pop("metrics", values),
        timing=timing,
        examples_by="psnr",
        examples={},
        remarks=[],
        protocol=changes.pop("protocol", protocol(**changes)),
    )


def measured(*args: Any, **changes: Any) -> Measured:
    return Measured(summary(*args, **changes), Path("nowhere"))
