"""What a run writes: numbers that equal a direct computation, and pictures."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from face_networks import write_reid
from helpers import pictures
from PIL import Image
from small_training import fit, learner, people, trainer

from lit_restore.callbacks.images import ImageGrids
from lit_restore.callbacks.metrics import Metrics
from lit_restore.callbacks.reference_study import ReferenceStudy
from lit_restore.data.collate import collate
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.errors import UserError
from lit_restore.image import read_rgb, to_uint8
from lit_restore.losses.composite import LossConfig
from lit_restore.losses.identity import IdentityConfig
from lit_restore.metrics.suite import MetricSuite
from lit_restore.models.recognition import SmallRecognizer, load_recognizer
from lit_restore.training.restoration import RestorationModule
from lit_restore.visualization import GAP_PX, column, restoration_rows


@pytest.fixture(scope="module")
def recognition(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("recognition")
    torch.manual_seed(0)
    SmallRecognizer(widths=(4, 8), embedding=16, size_px=32).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def module(tiny_base: Path) -> RestorationModule:
    return learner(tiny_base).eval()


def prepared(cache: Path, **changes) -> RestorationDataModule:
    data = people(cache, **changes)
    data.prepare_data()
    data.setup()
    return data


@torch.no_grad()
def direct(module, data, split: str, recognition: str, count: int | None = None) -> dict[str, list[float]]:
    """Every photo on its own."""
    suite, dataset = MetricSuite(recognition=load_recognizer(recognition)), data.datasets[split]
    values: dict[str, list[float]] = {}
    for index in range(len(dataset)):
        batch = collate([dataset[index]])
        for name, value in suite(module.restore(batch, count), batch["hq"]).items():
            values.setdefault(name, []).append(value.item())
    return values


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_logged_metrics_are_means_over_photos_whatever_the_batches(
    module, people_cache: Path, tmp_path: Path, recognition: str, batch_size: int
) -> None:
    data = prepared(people_cache, eval_batch_size=batch_size)
    runner = trainer(tmp_path, Metrics(recognition=recognition), limit_val_batches=1.0)
    for run, stage in ((runner.validate, "val"), (runner.test, "test")):
        (logged,) = run(module, data, verbose=False)
        expected = direct(module, data, stage, recognition)
        assert set(logged) == {f"{stage}/{name}" for name in ("psnr", "ssim", "identity")}
        for name, values in expected.items():
            assert logged[f"{stage}/{name}"] == pytest.approx(np.mean(values), abs=2e-4)


def test_photos_without_truth_do_not_count(module, people_cache: Path, tmp_path: Path, recognition: str) -> None:
    data = prepared(people_cache, eval_batch_size=2)
    dataset = data.datasets["val"]
    original = type(dataset).__getitem__

    class HalfKnown(type(dataset)):
        def __getitem__(self, item):
            sample = original(self, item)
            if item == 1:
                sample["has_hq"] = torch.tensor(False)
                sample["hq"] = sample["lq"]
            return sample

    dataset.__class__ = HalfKnown
    expected = direct(module, prepared(people_cache), "val", recognition)["psnr"]
    (logged,) = trainer(tmp_path, Metrics(), limit_val_batches=1.0).validate(module, data, verbose=False)
    assert logged["val/psnr"] == pytest.approx(np.mean(expected[:1] + expected[2:]), abs=2e-4)


def test_a_missing_network_is_one_clear_error_before_training(module, people_cache: Path, tmp_path: Path) -> None:
    for callback in (Metrics(recognition="nowhere"), ReferenceStudy(recognition="nowhere")):
        with pytest.raises(UserError, match="no usable recognition network: nowhere"):
            fit(tmp_path, module, people(people_cache), callback)


def test_the_network_that_trains_does_not_judge(
    tiny_base: Path, people_cache: Path, tmp_path: Path, recognition: str
) -> None:
    losses = LossConfig(l1=1.0, ms_ssim=0.0, lpips=0.0, identity=IdentityConfig(weight=1.0, network=recognition))
    module = learner(tiny_base, max_iterations=1, losses=losses)
    copied = shutil.copytree(recognition, tmp_path / "under another name")
    for kind in (Metrics, ReferenceStudy):
        with pytest.raises(UserError, match=r"the identity metric uses the network.*another name.*allow_training_netw"):
            fit(tmp_path / "refused", module, people(people_cache), kind(recognition=str(copied)))
    torch.manual_seed(1)
    SmallRecognizer(widths=(4, 8), embedding=16, size_px=32).save(tmp_path / "other")
    runner = trainer(tmp_path / "run", limit_val_batches=1)
    for options in ({"recognition": str(tmp_path / "other")}, {"recognition": str(copied)}):
        callback = Metrics(**options, allow_training_network=options["recognition"] == str(copied))
        runner.callbacks = [callback]
        (logged,) = runner.validate(module, people(people_cache, eval_batch_size=2), verbose=False)
        assert "val/identity" in logged


def test_what_the_numbers_depend_on_is_kept_with_them(
    tiny_base: Path, people_cache: Path, tmp_path: Path, recognition: str
) -> None:
    protocol = {"identity": load_recognizer(recognition).protocol("target")}
    found, *_ = study(tiny_base, people_cache, tmp_path, recognition, batch_size=2)
    assert found["protocol"] == protocol
    fit(tmp_path / "fit", learner(tiny_base, max_iterations=1), people(people_cache), Metrics(recognition=recognition))
    assert json.loads((tmp_path / "fit" / "metrics_protocol.json").read_text()) == protocol


def test_only_photos_with_a_face_count_for_identity(module, people_cache: Path, tmp_path: Path) -> None:
    network = write_reid(tmp_path / "reid.safetensors")
    data = prepared(people_cache, eval_batch_size=2)
    dataset = data.datasets["val"]
    original = type(dataset).__getitem__

    class Hidden(type(dataset)):
        def __getitem__(self, item):
            sample = original(self, item)
            if item == 0:
                sample["landmark_mask"] = torch.zeros_like(sample["landmark_mask"])
            return sample

    dataset.__class__ = Hidden
    runner = trainer(tmp_path, Metrics(recognition=network), limit_val_batches=1.0)
    (logged,) = runner.validate(module, data, verbose=False)
    suite, values = MetricSuite(recognition=load_recognizer(network)), []
    for index in range(1, len(dataset)):
        batch = collate([dataset[index]])
        with torch.no_grad():
            restored = module.restore(batch)
        values.append(suite(restored, *(batch[n] for n in ("hq", "landmarks", "landmark_mask")))["identity"].item())
    assert logged["val/identity"] == pytest.approx(np.mean(values), abs=1e-3)
    assert logged["val/faces_found"] == pytest.approx(len(values) / len(dataset))
    assert "val/psnr" in logged


def study(tiny_base: Path, cache: Path, folder: Path, recognition: str, batch_size: int, **options) -> tuple:
    module, data = learner(tiny_base, max_iterations=1), people(cache, eval_batch_size=batch_size)
    fit(folder, module, data, ReferenceStudy(num_references=[0, 1, 2], recognition=recognition, **options))
    return json.loads((folder / "references.json").read_text()), module, data


def test_the_study_equals_a_direct_computation(
    tiny_base: Path, people_cache: Path, tmp_path: Path, recognition: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, module, data = study(tiny_base, people_cache, tmp_path, recognition, batch_size=2)
    assert list(found["results"]) == ["degraded input", "0 references", "1 reference", "2 references"]
    assert (found["num_photos"], found["iteration"]) == (len(data.datasets["test"]), 1)
    for count in (0, 1, 2):
        for name, values in direct(module, data, "test", recognition, count).items():
            row = list(found["results"].values())[count + 1][name]
            assert row["mean"] == pytest.approx(np.mean(values), abs=2e-4)
            assert row["interval"] == pytest.approx(1.96 * np.std(values, ddof=1) / math.sqrt(len(values)), abs=2e-4)
    hq = torch.stack([data.datasets["test"][index]["hq"] for index in range(3)])
    lq = torch.stack([data.datasets["test"][index]["lq"] for index in range(3)])
    expected = MetricSuite()(lq, hq)["psnr"].mean().item()
    assert found["results"]["degraded input"]["psnr"]["mean"] == pytest.approx(expected, abs=2e-4)
    printed = capsys.readouterr().out
    assert f"{found['results']['2 references']['psnr']['mean']:.2f}" in printed
    assert "lit_restore restore --input" in printed
    assert printed.rstrip().endswith("--aligned yes --trust-references")  # whatever networks for real faces are at hand


def test_the_study_does_not_depend_on_the_batches(
    tiny_base: Path, people_cache: Path, tmp_path: Path, recognition: str
) -> None:
    results = []
    for batch_size in (1, 3):
        folder = tmp_path / str(batch_size)
        found, *_ = study(tiny_base, people_cache, folder, recognition, batch_size, max_photos=2, num_pictures=1)
        assert found["num_photos"] == 2
        assert read_rgb(folder / "restored.png").shape[0] == 64  # one row
        results.append(found["results"])
    for row, metrics in results[0].items():
        for name, numbers in metrics.items():
            for kind, value in numbers.items():
                assert value == pytest.approx(results[1][row][name][kind], abs=5e-4)


def test_the_study_leaves_an_example_to_restore(
    tiny_base: Path, people_cache: Path, tmp_path: Path, recognition: str
) -> None:
    (tmp_path / "example" / "references").mkdir(parents=True)
    (tmp_path / "example" / "references" / "9.png").write_bytes(b"of an earlier run")
    _, module, data = study(tiny_base, people_cache, tmp_path, recognition, batch_size=2)
    first = data.datasets["test"][0]
    files = {path.relative_to(tmp_path / "example").as_posix() for path in (tmp_path / "example").rglob("*.png")}
    assert files == {"degraded.png", "truth.png", "references/1.png", "references/2.png"}
    np.testing.assert_array_equal(read_rgb(tmp_path / "example" / "degraded.png"), to_uint8(first["lq"]))
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "example" / "references" / "2.png"), to_uint8(first["references"][1])
    )
    grid = read_rgb(tmp_path / "restored.png")
    assert grid.shape == (3 * 64 + 2 * GAP_PX, 5 * 64 + 4 * GAP_PX, 3)
    np.testing.assert_array_equal(grid[:64, :64], to_uint8(first["lq"]))
    np.testing.assert_array_equal(grid[:64, -64:], to_uint8(first["hq"]))
    with torch.no_grad():
        restored = to_uint8(module.restore(collate([first]), 2)[0])
    assert np.abs(grid[:64, 3 * (64 + GAP_PX) :][:, :64].astype(int) - restored).max() <= 1


def test_image_grids_show_the_first_photos_of_every_validation(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    options = {"limit_val_batches": 1.0, "val_check_interval": 1, "num_sanity_val_steps": 1}
    data = people(people_cache, eval_batch_size=2)
    fit(tmp_path, learner(tiny_base, max_iterations=2), data, ImageGrids(num_photos=2), **options)
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == ["iteration_000001.png", "iteration_000002.png"]
    first, second = (read_rgb(file) for file in files)
    assert first.shape == (2 * 64 + GAP_PX, 5 * 64 + 4 * GAP_PX, 3)
    sample = data.datasets["val"][1]
    np.testing.assert_array_equal(second[64 + GAP_PX :, :64], to_uint8(sample["lq"]))
    np.testing.assert_array_equal(first[:, :64], second[:, :64])
    assert (first != second).any()  # the restored column has moved on


def test_rows_leave_out_padding_and_columns_leave_its_place_white() -> None:
    batch = {
        "lq": pictures(0, 2, 3, 8, 8),
        "hq": pictures(1, 2, 3, 8, 8),
        "references": pictures(2, 2, 2, 3, 8, 8),
        "reference_mask": torch.tensor([[True, True], [False, False]]),
    }
    restored = pictures(3, 2, 3, 8, 8)
    rows = restoration_rows(batch, restored)
    assert [row.shape for row in rows] == [(8, 5 * 8 + 4 * GAP_PX, 3), (8, 3 * 8 + 2 * GAP_PX, 3)]
    grid = column(rows)
    assert grid.shape == (16 + GAP_PX, 5 * 8 + 4 * GAP_PX, 3)
    assert (grid[8 : 8 + GAP_PX] == 255).all()
    second = grid[8 + GAP_PX :]
    assert (second[:, 8 : 3 * (8 + GAP_PX)] == 255).all()
    np.testing.assert_array_equal(second[:, :8], to_uint8(batch["lq"][1]))
    np.testing.assert_array_equal(second[:, 3 * (8 + GAP_PX) : -8 - GAP_PX], to_uint8(restored[1]))
    np.testing.assert_array_equal(second[:, -8:], to_uint8(batch["hq"][1]))
    np.testing.assert_array_equal(grid[:8], rows[0])


def test_tensorboard_gets_the_same_picture(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    from pytorch_lightning.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="log", version="")
    runner = trainer(tmp_path, ImageGrids(num_photos=1), limit_val_batches=1)
    runner.loggers = [logger]
    runner.validate(learner(tiny_base), people(people_cache), verbose=False)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "log"), size_guidance={"images": 0})
    events.Reload()
    (image,) = events.Images("val/restored")
    (tmp_path / "logged.png").write_bytes(image.encoded_image_string)
    written = read_rgb(tmp_path / "images" / "iteration_000000.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "logged.png").convert("RGB")), written)
