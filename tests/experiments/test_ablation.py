"""From measured photos to the table of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lit_restore.evaluation.records import Row
from lit_restore.evaluation.rendering.latex import latex
from lit_restore.evaluation.rendering.markdown import markdown
from lit_restore.evaluation.rendering.spreadsheet import spreadsheet
from lit_restore.experiments.ablation import Measurements, make_table
from lit_restore.experiments.expansion import expand
from lit_restore.experiments.study_file import Study, read_study
from lit_restore.experiments.sweep_file import Sweep

EASY = {"a/1": 3.0, "a/2": 1.0, "b/1": -2.0, "c/1": -2.0}  # how much easier a photo is than the mean


@pytest.fixture
def study(sweep: Callable[..., Sweep], tmp_path: Path) -> Study:
    sweep({"rank": {"values": [4, 8]}, "seed": {"values": [1, 2, 3]}})
    (tmp_path / "study.yaml").write_text(
        "title: Rank & file\nsweep: some.yaml\nseed: seed\nreferences: [2]\n"
        "rows: {rank 8: {rank: 8}, rank 4: {rank: 4}}\nnotes: [about ranks]\n"
    )
    return read_study("study", tmp_path)


def photos(mean: float, failed: str | None = None) -> list[Row]:
    return [
        Row(
            key,
            key[0],
            failure="no face" if key == failed else None,
            values={} if key == failed else {"psnr": mean + easy, "id_synthetic_ref_gt": 0.5},
        )
        for key, easy in EASY.items()
    ]


def measured(study: Study) -> list[Measurements]:
    """Means 21, 22, 23 of the first row; the second is 0.5 lower everywhere, lacks a seed and fails on a photo."""
    first, second = (Measurements(row) for row in study.rows(expand(study.sweep)))
    first.photos = {seed: photos(20.0 + seed) for seed in (1, 2, 3)}
    second.photos = {1: photos(20.5), 3: photos(22.5, failed="b/1")}
    second.missing = {2: "its training is failed"}
    return [first, second]


def test_means_and_differences(study: Study) -> None:
    table = make_table(study, measured(study), "4 photos", {"lpips_alex": "no weights"})
    means, differences = table.parts
    assert [column.metric for column in means.columns] == ["psnr"]  # what only puts others into perspective is left out
    cells = {row.name: row.cells["PSNR"] for row in means.rows}
    assert cells["rank 8"].ours.mean == pytest.approx(22)
    assert cells["rank 4"].ours.mean == pytest.approx((4 * 20.5 + 3 * 22.5 + 2) / 7)
    assert (cells["rank 8"].num_missing, cells["rank 4"].num_missing) == (0, 1)
    assert cells["rank 8"].ours.low < 21.5
    assert cells["rank 8"].ours.high > 22.5
    [row] = differences.rows
    found = row.cells["PSNR"].ours
    # The luck of photos and seeds is gone, where both have both.
    assert [found.mean, found.low, found.high] == pytest.approx([-0.5] * 3)
    assert found.num == 7
    assert means.rows[1].warnings == (
        "Only 2 of 3 seeds: seed 2: its training is failed.",
        "1 photos, counted once per seed, could not be restored and do not count.",
    )
    assert means.notes == (
        "about ranks",
        "2 seeds: the intervals say little about other trainings; 3 are advised.",
        "Not measured: lpips_alex: no weights",
    )


def test_every_format_has_the_numbers_and_nothing_published(study: Study) -> None:
    table = make_table(study, measured(study), "4 photos", {})
    text = markdown(table)
    assert "| rank 8 | ours | **22.00** [" in text
    assert "| rank 4 | ours | -0.50 [-0.50, -0.50] |" in text
    assert "Ours: 4 photos; in brackets 95 % intervals, bootstrap over seeds and people." in text
    assert r"\caption{Rank \& file: means. Ours on 4 photos; in brackets 95 \% intervals" in latex(table)
    assert "Published" not in text + latex(table)
    lines = spreadsheet(table).splitlines()
    assert lines[1].startswith("study,means,rank 8,PSNR,True,22.0,")
    assert lines[3].startswith("study,differences,rank 4,PSNR,True,-0.5")


def test_a_row_without_any_training_is_missing_with_its_reason(study: Study) -> None:
    first, second = measured(study)
    second.photos, second.missing = {}, dict.fromkeys((1, 2, 3), "its training is not started")
    table = make_table(study, [first, second], "4 photos", {})
    assert "- Missing: rank 4: its training is not started" in markdown(table)
    assert table.parts[1].rows[0].cells["PSNR"].ours is None
