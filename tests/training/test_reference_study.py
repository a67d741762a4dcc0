"""The study's file is JSON for every reader, and says where nothing could be measured."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from face_networks import write_reid
from small_training import fit, learner, people

from lit_restore.callbacks.reference_study import ReferenceStudy, _statistics, show_study


def strict_json(path: Path) -> dict:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_infinite_values_have_no_mean() -> None:
    assert _statistics([30.0, math.inf]) == {"mean": None, "interval": None, "num_photos": 2}
    assert _statistics([30.0, 32.0]) == {"mean": 31.0, "interval": pytest.approx(1.96), "num_photos": 2}


def test_one_photo_has_no_interval(
    tiny_base: Path, people_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = ReferenceStudy(num_references=[0, 1], max_photos=1)
    fit(tmp_path, learner(tiny_base, max_iterations=1), people(people_cache), callback)
    study = strict_json(tmp_path / "references.json")
    psnr = study["results"]["1 reference"]["psnr"]
    assert (study["num_photos"], psnr["num_photos"], psnr["interval"]) == (1, 1, None)
    printed = capsys.readouterr().out
    assert f"{psnr['mean']:.2f}" in printed
    assert "nan" not in printed
    assert "±" not in printed.split("mean)")[1]


def test_rows_say_where_there_were_fewer_references(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    callback = ReferenceStudy(num_references=[1, 2, 4], max_photos=1)  # three photos of a person: two references
    fit(tmp_path, learner(tiny_base, max_iterations=1), people(people_cache), callback)
    rows = strict_json(tmp_path / "references.json")["results"]
    assert list(rows) == ["degraded input", "1 reference", "2 references", "up to 4 references"]
    assert rows["up to 4 references"] == rows["2 references"]


def test_without_any_face_there_is_no_identity(
    tiny_base: Path, people_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = people(people_cache, eval_batch_size=2)
    data.prepare_data()
    data.setup()
    original = type(data.datasets["test"]).__getitem__

    class Hidden(type(data.datasets["test"])):
        def __getitem__(self, item):
            sample = original(self, item)
            sample["landmark_mask"] = torch.zeros_like(sample["landmark_mask"])
            return sample

    data.datasets["test"].__class__ = Hidden
    callback = ReferenceStudy(num_references=[0], recognition=write_reid(tmp_path / "reid.safetensors"))
    fit(tmp_path, learner(tiny_base, max_iterations=1), data, callback)
    row = strict_json(tmp_path / "references.json")["results"]["0 references"]
    assert row["identity"] == {"mean": None, "interval": None, "num_photos": 0}
    assert row["psnr"]["interval"] > 0
    capsys.readouterr()
    show_study(tmp_path)  # as a finished run does when it is started again
    printed = capsys.readouterr().out
    assert "–" in printed
    assert "nan" not in printed
