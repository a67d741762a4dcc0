"""The attention callback against a direct computation, photo by photo."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from small_training import learner, people, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_restore.callbacks.attention_maps import AttentionMaps
from lit_restore.data.collate import collate
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.errors import UserError
from lit_restore.image import read_rgb
from lit_restore.metrics.attention import landmark_attention_mass
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.training.restoration import RestorationModule


@pytest.fixture(scope="module")
def module(tiny_base: Path) -> RestorationModule:
    return learner(tiny_base).eval()


def prepared(cache: Path, **changes) -> RestorationDataModule:
    data = people(cache, **changes)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("batch_size", [1, 3])
def test_logs_the_mean_mass_of_the_first_photos_whatever_the_batches(
    module: RestorationModule, people_cache: Path, tmp_path: Path, batch_size: int
) -> None:
    data = prepared(people_cache, eval_batch_size=batch_size)
    runner = trainer(tmp_path, AttentionMaps(max_photos=2), limit_val_batches=1.0)
    (logged,) = runner.validate(module, data, verbose=False)
    masses: dict[int, list[tuple[float, float]]] = {}
    for index in range(2):
        batch, probe = collate([data.datasets["val"][index]]), AttentionProbe(range(9))
        with torch.no_grad():
            module.restore(batch, probe=probe)
        for layer, inputs in probe.seen.items():
            masses.setdefault(layer, []).append(landmark_attention_mass(inputs.sample(0), batch, 0))
    expected = {}
    for layer, values in masses.items():
        mass, even = np.mean(values, axis=0)
        expected |= {f"val/attention_mass/layer_{layer}": mass, f"val/attention_mass/even_layer_{layer}": even}
    assert len(expected) == 18
    assert logged == pytest.approx(expected, rel=1e-3)
    assert len(list((tmp_path / "attention_maps").iterdir())) == 2


def test_draws_every_validation_and_hands_the_pictures_to_tensorboard(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    callback = AttentionMaps(num_pictures=1, layers=[8], points={"nose tip": [30], "chin": [8]})
    runner = trainer(tmp_path, callback, limit_val_batches=1, val_check_interval=1)
    runner.loggers = [TensorBoardLogger(tmp_path, name="board", version="")]
    runner.fit(learner(tiny_base, max_iterations=2), people(people_cache))
    files = sorted((tmp_path / "attention_maps").iterdir())
    assert [path.name for path in files] == ["iteration_000001_photo_0.png", "iteration_000002_photo_0.png"]
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    shown = board.Images("val/attention_0")
    assert [image.step for image in shown] == [1, 2]
    for image, path in zip(shown, files, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB"))
        assert np.array_equal(picture, read_rgb(path))
    assert {scalar.step for scalar in board.Scalars("val/attention_mass/layer_8")} == {1, 2}


def test_without_landmarks_or_references_there_is_nothing_to_log_or_draw(
    module: RestorationModule, people_cache: Path, tmp_path: Path
) -> None:
    for changes in ({"landmarks": False}, {"max_references": 0}):
        data = prepared(people_cache, **changes)
        (logged,) = trainer(tmp_path, AttentionMaps(), limit_val_batches=1.0).validate(module, data, verbose=False)
        assert logged == {}
        assert not (tmp_path / "attention_maps").exists()


@pytest.mark.parametrize("options", [{"layers": [9]}, {"points": {"nose": [1349]}}, {"points": {"nose": []}}])
def test_what_cannot_be_drawn_is_refused_before_anything_runs(
    module: RestorationModule, people_cache: Path, tmp_path: Path, options: dict
) -> None:
    with pytest.raises(UserError, match=r"AttentionMaps\.(layers|points\.nose); expected"):
        trainer(tmp_path, AttentionMaps(**options), limit_val_batches=1).validate(module, people(people_cache))
