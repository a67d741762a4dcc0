"""An evaluation: numbers, restart, refusal, failures, several processes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_restore.data.collate import collate
from lit_restore.data.synthetic_folder import SyntheticPeople
from lit_restore.errors import UserError
from lit_restore.evaluation.checkpoint_method import Checkpoint
from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
from lit_restore.evaluation.methods import InputCopy, NearestReference
from lit_restore.evaluation.output_folder import OutputFolder
from lit_restore.evaluation.pictures import restored_files
from lit_restore.image import read_rgb, to_uint8
from lit_restore.metrics.attention import landmark_attention_mass
from lit_restore.metrics.image import psnr, ssim
from lit_restore.metrics.measurement import unit
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.generator import fixed_noise


def images_csv(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "images.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def test_numbers_are_those_of_the_stored_pictures(
    photos: EvaluationSet, model: Path, evaluate: Callable, tmp_path: Path
) -> None:
    method = Checkpoint(model, size_px=64)
    summary = evaluate(photos, method, batch_size=3)
    rows = images_csv(tmp_path / "out")
    assert list(rows) == [target.key for target in photos.targets]
    expected = []
    for number, (key, row) in enumerate(rows.items()):
        batch = collate([photos[number]])
        stored = read_rgb(tmp_path / "out" / "restored" / f"{key.removesuffix('.png').replace('/', '__')}.png")
        assert np.abs(stored.astype(int) - to_uint8(method(batch)[0])).max() <= 1  # batches of 3 round differently
        picture = torch.from_numpy(stored).permute(2, 0, 1)[None] / 255
        expected.append(float(psnr(picture, unit(batch["hq"]))))
        assert float(row["psnr"]) == pytest.approx(expected[-1], abs=1e-4)
        assert float(row["ssim"]) == pytest.approx(float(ssim(picture, unit(batch["hq"]))), abs=1e-5)
    assert summary.metrics["psnr"].estimate.mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert (summary.num_photos, summary.num_people, summary.num_failed) == (8, 3, 0)


def test_examples_are_the_best_median_and_worst(photos: EvaluationSet, evaluate: Callable, tmp_path: Path) -> None:
    summary = evaluate(photos, InputCopy())
    ranked = sorted(images_csv(tmp_path / "out").values(), key=lambda row: -float(row["psnr"]))
    assert summary.examples_by == "psnr"
    assert [summary.examples[name] for name in ("best", "median", "worst")] == [
        ranked[0]["key"],
        ranked[3]["key"],
        ranked[-1]["key"],
    ]
    sheet = read_rgb(tmp_path / "out" / "sheet.png")
    assert sheet.shape == (3 * 64 + 2 * 4, 5 * 64 + 4 * 4, 3)  # degraded, two references, restored, truth
    worst = next(n for n, target in enumerate(photos.targets) if target.key == summary.examples["worst"])
    assert (sheet[-64:, -64:] == to_uint8(photos[worst]["hq"])).all()
    assert (read_rgb(tmp_path / "out/examples/worst/degraded.png") == to_uint8(photos[worst]["lq"])).all()


class Failing(InputCopy):
    """Counts what it restores and dies after so many photos."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.restored = after, []

    def __call__(self, batch):
        if len(self.restored) >= self.after:
            raise RuntimeError("power cut")
        self.restored += batch["key"]
        return super().__call__(batch)


def test_a_restarted_evaluation_does_only_what_is_missing_and_ends_equal(
    photos: EvaluationSet, evaluate: Callable, tmp_path: Path
) -> None:
    first = Failing(after=3)
    with pytest.raises(RuntimeError, match="power cut"):
        evaluate(photos, first)
    assert not (tmp_path / "out" / "summary.json").exists()
    second = Failing(after=100)
    resumed = evaluate(photos, second)
    assert sorted(first.restored + second.restored) == sorted(target.key for target in photos.targets)
    assert len(first.restored) == 3
    unbroken = evaluate(photos, InputCopy(), folder="unbroken")
    assert resumed == unbroken
    assert (tmp_path / "out/images.csv").read_bytes() == (tmp_path / "unbroken/images.csv").read_bytes()
    third = Failing(after=0)
    assert evaluate(photos, third) == resumed  # nothing left to do
    assert third.restored == []


def test_rows_of_another_protocol_are_never_mixed_in(
    photos: EvaluationSet, choice: InputChoice, evaluate: Callable
) -> None:
    with pytest.raises(RuntimeError):
        evaluate(photos, Failing(after=2))
    with pytest.raises(UserError, match=r"another protocol.*method\.kind: input copied -> nearest-reference"):
        evaluate(photos, NearestReference())
    with pytest.raises(UserError, match=r"degradation\.seed: 0 -> 1"):
        evaluate(EvaluationSet(replace(choice, seed=1)), InputCopy())
    with pytest.raises(UserError, match=r"references\.at_most: 2 -> 1"):
        evaluate(EvaluationSet(replace(choice, num_references=1)), InputCopy())


def test_software_is_part_of_the_protocol(photos: EvaluationSet, evaluate: Callable, tmp_path: Path) -> None:
    evaluate(photos, InputCopy())
    path = tmp_path / "out" / "protocol.json"
    stored = json.loads(path.read_text())
    stored["software"]["torch"] = "1.0"
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"another protocol.*software\.torch: 1\.0 -> "):
        evaluate(photos, InputCopy())


def test_metrics_are_added_without_restoring_again(photos: EvaluationSet, evaluate: Callable, tmp_path: Path) -> None:
    before = evaluate(photos, Failing(after=100), metrics=("psnr",))
    again = Failing(after=0)
    after = evaluate(photos, again, metrics=("ssim", "fid_synthetic"))
    assert again.restored == []
    assert after.metrics["psnr"] == before.metrics["psnr"]
    assert list(after.metrics) == ["psnr", "ssim", "fid_synthetic", "kid_synthetic"]
    assert set(after.protocol["metrics"]) == set(after.metrics)
    assert after.metrics["fid_synthetic"].estimate.mean > 0
    alone = evaluate(photos, InputCopy(), folder="alone", metrics=("fid_synthetic",))
    assert alone.metrics["fid_synthetic"] == after.metrics["fid_synthetic"]
    third = evaluate(photos, Failing(after=0), metrics=("ms_ssim",))
    assert third.metrics["fid_synthetic"] == after.metrics["fid_synthetic"]


def test_pictures_of_an_evaluation_get_the_same_numbers_as_outputs(
    photos: EvaluationSet, model: Path, evaluate: Callable, tmp_path: Path
) -> None:
    ours = evaluate(photos, Checkpoint(model, size_px=64))
    given = OutputFolder(tmp_path / "out" / "restored", photos.targets, size_px=64)
    theirs = evaluate(photos, given, folder="given")
    assert theirs.metrics == ours.metrics
    for name in ("psnr", "ssim"):
        columns = [[row[name] for row in images_csv(tmp_path / folder).values()] for folder in ("out", "given")]
        assert columns[0] == columns[1]


def test_failures_are_counted_and_shown_never_dropped(
    photos: EvaluationSet, people: Path, evaluate: Callable, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    evaluate(photos, InputCopy(), folder="copy")
    (tmp_path / "copy" / "restored").rename(made)
    (made / "anna__0.png").unlink()
    (made / "bert__1.png").write_bytes(b"rubbish")
    (people / "carl/0.png").write_bytes(b"rubbish")  # the reference of carl's other photo, too
    summary = evaluate(photos, OutputFolder(made, photos.targets, size_px=64), metrics=("psnr",))
    assert (summary.num_photos, summary.num_failed) == (8, 4)
    assert summary.failures["no picture for this photo"] == ["anna/0.png"]
    assert sorted(key for keys in summary.failures.values() for key in keys) == [
        "anna/0.png",
        "bert/1.png",
        "carl/0.png",
        "carl/1.png",
    ]
    assert summary.metrics["psnr"].estimate.num == 4
    assert list(summary.metrics["psnr"].not_measured) == ["not restored"]
    assert len(summary.metrics["psnr"].not_measured["not restored"]) == 4


def test_restored_files_are_found_again(photos: EvaluationSet, evaluate: Callable, tmp_path: Path) -> None:
    evaluate(photos, InputCopy())
    files = restored_files(tmp_path / "out")
    assert set(files) == {target.key for target in photos.targets}
    place = next(number for number, target in enumerate(photos.targets) if target.key == "bert/2.png")
    assert (read_rgb(files["bert/2.png"]) == to_uint8(photos[place]["lq"])).all()


def test_photos_without_truth_are_restored_and_said_to_have_none(
    people: Path, evaluate: Callable, tmp_path: Path, choice: InputChoice
) -> None:
    photos = EvaluationSet(replace(choice, root=(str(people / "anna"),), layout="lq_only", split="test"))
    summary = evaluate(photos, InputCopy())
    assert summary.num_failed == 0
    assert summary.metrics["psnr"].estimate is None
    assert summary.metrics["psnr"].not_measured == {"no true picture": ["0.png", "1.png", "2.png"]}
    assert json.loads((tmp_path / "out/protocol.json").read_text())["degradation"] == {"real": {"photos": 3}}


@pytest.mark.slow
def test_two_processes_share_the_photos(people: Path, tmp_path: Path) -> None:
    options = ["--baseline", "copy", "--data", str(people), "--split", "all", "--size", "64", "--scale-degradation"]
    options += ["--cache", str(tmp_path / "cache"), "--accelerator", "cpu", "--metrics", "psnr", "ssim"]
    for devices in ("1", "2"):
        command = [sys.executable, "-m", "lit_restore", "evaluate", *options, "--devices", devices]
        command += ["--output", str(tmp_path / devices), "--references", "1", "2"]
        subprocess.run(command, check=True, timeout=280, capture_output=True)
    for count in (1, 2):
        name = f"{count}_references"
        alone, shared = (images_csv(tmp_path / devices / name) for devices in ("1", "2"))
        assert alone == shared
        lines = [len(path.read_text().splitlines()) for path in sorted((tmp_path / "2" / name / "rows").iterdir())]
        assert lines == [4, 4]


def test_attention_mass_looks_into_the_restorer(model: Path, evaluate: Callable, tmp_path: Path) -> None:
    choice = InputChoice(
        synthetic=SyntheticPeople(identities=3, images_per_identity=2, seed=1),
        size_px=64,
        split="all",
        num_references=1,
        cache_dir=str(tmp_path / "cache"),
    )
    photos, method = EvaluationSet(choice), Checkpoint(model, size_px=64)
    evaluate(photos, method, metrics=("attention_mass",), batch_size=3)
    rows = list(images_csv(tmp_path / "out").values())
    for number in (0, 5):
        batch, probe = collate([photos[number]]), AttentionProbe(range(len(method.generator.shared_layers)))
        with torch.no_grad():
            draw = fixed_noise(0)
            method.generator(batch["lq"], batch["references"], batch["reference_mask"], draw=draw, probe=probe)
        layers = [landmark_attention_mass(seen.sample(0), batch, 0) for seen in probe.seen.values()]
        expected = np.mean([layer.mass for layer in layers]), np.mean([layer.even for layer in layers])
        assert float(rows[number]["attention_mass"]) == pytest.approx(expected[0], abs=1e-5)
        assert float(rows[number]["attention_mass_even"]) == pytest.approx(expected[1], abs=1e-6)


def test_attention_mass_has_no_value_without_references_and_is_refused_for_pictures(
    photos: EvaluationSet, choice: InputChoice, model: Path, evaluate: Callable, tmp_path: Path
) -> None:
    none = EvaluationSet(replace(choice, num_references=0, limit=1))
    summary = evaluate(none, Checkpoint(model, size_px=64), metrics=("psnr", "attention_mass"))
    assert summary.metrics["attention_mass"].estimate is None
    assert images_csv(tmp_path / "out")["anna/0.png"]["psnr"] != ""
    with pytest.raises(UserError, match=r"looks into a trained restorer; expected a checkpoint; found degraded-input"):
        evaluate(photos, InputCopy(), folder="copy", metrics=("attention_mass",))
