"""Rows to summary and back from the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lit_restore.errors import UserError
from lit_restore.evaluation.records import Row
from lit_restore.evaluation.summary import choose_examples, read_summary, summarise, write_summary
from lit_restore.evaluation.timing import of_program

ROWS = [
    Row("a/0", "a", None, {"psnr": 20.0, "lpips_alex": 0.3}),
    Row("a/1", "a", None, {"psnr": 22.0, "lpips_alex": None}, {"lpips_alex": "too small"}),
    Row("b/0", "b", None, {"psnr": 27.0, "lpips_alex": 0.1}),
    Row("b/1", "b", "picture of another size: x/b/1.png; expected 8x8; found 4x4"),
    Row("c/0", "c", "picture of another size: x/c/0.png; expected 8x8; found 4x4"),
]
DIRECTIONS = {"psnr": True, "lpips_alex": False, "fid": False}


def make(**changes):
    options = {"method": "m", "set_values": {"fid": 12.5}, "timing": of_program(9.0, 3), "remarks": ["a remark"]}
    return summarise(ROWS, DIRECTIONS, {"data": {"photos": 5}}, **(options | changes))


def test_means_and_counts() -> None:
    summary = make()
    assert (summary.num_photos, summary.num_people, summary.num_failed) == (5, 3, 2)
    assert summary.metrics["psnr"].estimate.mean == 23.0
    assert (summary.metrics["lpips_alex"].estimate.num, summary.metrics["lpips_alex"].estimate.mean) == (2, 0.2)
    assert summary.metrics["lpips_alex"].not_measured == {"too small": ["a/1"], "not restored": ["b/1", "c/0"]}
    assert (summary.metrics["fid"].estimate.mean, summary.metrics["fid"].estimate.low) == (12.5, None)
    assert summary.timing.steady_s == 3.0


def test_equal_reasons_are_counted_together_whatever_file_they_name() -> None:
    assert make().failures == {"picture of another size; expected 8x8; found 4x4": ["b/1", "c/0"]}


def test_a_set_metric_without_value_says_why() -> None:
    fid = make(set_values={"fid": "needs two pictures"}).metrics["fid"]
    assert fid.estimate is None
    assert list(fid.not_measured) == ["needs two pictures"]


def test_examples_go_by_what_people_see() -> None:
    summary = make()
    assert summary.examples_by == "lpips_alex"
    assert summary.examples == {"best": "b/0", "median": "b/0", "worst": "a/0"}
    assert choose_examples(ROWS, "psnr", True) == {"best": "b/0", "median": "a/1", "worst": "a/0"}
    assert choose_examples(ROWS, "niqe", False) == {}


def test_written_and_read_back(tmp_path: Path) -> None:
    summary = make()
    write_summary(summary, tmp_path)
    assert read_summary(tmp_path) == summary
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["bootstrap"] == {"draws": 2000, "over": "people", "level": 0.95, "seed": 0}


def test_a_perfect_copy_has_infinite_psnr_and_survives_the_disk(tmp_path: Path) -> None:
    rows = [Row("a", "a", None, {"psnr": math.inf}), Row("b", "b", None, {"psnr": 30.0})]
    summary = summarise(rows, {"psnr": True}, {}, method="m")
    write_summary(summary, tmp_path)
    assert read_summary(tmp_path).metrics["psnr"].estimate.mean == math.inf


def test_missing_and_damaged_summaries(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None
    (tmp_path / "summary.json").write_text('{"metrics": ')
    with pytest.raises(UserError, match="damaged summary"):
        read_summary(tmp_path)
