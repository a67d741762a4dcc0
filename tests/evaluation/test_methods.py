"""Baselines by their definition, checkpoints against the generator itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_generator
from PIL import Image

from lit_restore.data.collate import collate
from lit_restore.errors import UserError
from lit_restore.evaluation.checkpoint_method import Checkpoint
from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
from lit_restore.evaluation.methods import Bicubic, InputCopy, NearestReference
from lit_restore.evaluation.timing import measure
from lit_restore.models.artifact import load_generator, save_generator
from lit_restore.models.generator import fixed_noise
from lit_restore.types import RestorationBatch


@pytest.fixture
def batch(photos: EvaluationSet) -> RestorationBatch:
    return collate([photos[index] for index in range(3)])


def test_copy_is_the_input(batch: RestorationBatch) -> None:
    assert torch.equal(torch.stack(InputCopy()(batch)), batch["lq"])


def test_bicubic_is_pillows(batch: RestorationBatch) -> None:
    restored = Bicubic(4)(batch)
    for photo, outcome in zip(batch["lq"].numpy(), restored, strict=True):
        for channel in range(3):
            small = Image.fromarray(photo[channel]).resize((16, 16), Image.Resampling.BICUBIC)
            expected = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)).clip(-1, 1)
            assert np.abs(outcome[channel].numpy() - expected).max() < 1e-5


def test_nearest_reference_is_the_one_most_like_the_input(batch: RestorationBatch) -> None:
    references = batch["references"].clone()
    references[0, 1] = batch["lq"][0] + 0.01
    references[1, 0] = batch["lq"][1] - 0.01
    chosen = NearestReference()(batch | {"references": references})
    assert torch.equal(chosen[0], references[0, 1])
    assert torch.equal(chosen[1], references[1, 0])


def test_nearest_reference_needs_one(batch: RestorationBatch) -> None:
    mask = batch["reference_mask"].clone()
    mask[1] = False
    outcomes = NearestReference()(batch | {"reference_mask": mask})
    assert [isinstance(outcome, UserError) for outcome in outcomes] == [False, True, False]


def test_checkpoint_restores_what_its_generator_restores(batch: RestorationBatch, model: Path) -> None:
    method = Checkpoint(model, size_px=64, noise_seed=3)
    with torch.inference_mode():
        direct = load_generator(model)(batch["lq"], batch["references"], batch["reference_mask"], draw=fixed_noise(3))
    assert torch.equal(torch.stack(method(batch)), direct)
    assert not torch.equal(torch.stack(Checkpoint(model, size_px=64, noise_seed=4)(batch)), direct)


def test_references_seen_before_give_the_same_restoration(batch: RestorationBatch, model: Path) -> None:
    method = Checkpoint(model, size_px=64)
    features = method.look_at_references(batch)
    cached = torch.stack(method(batch, features, cached=True))
    assert torch.allclose(cached, torch.stack(method(batch)), atol=1e-6)
    blind = torch.stack(method(batch, None, cached=True))
    assert (cached - blind).abs().max() > 1e-3


def test_protocol_of_a_checkpoint_tells_weights_apart(tiny_base: Path, model: Path, tmp_path: Path) -> None:
    generator = tiny_generator(tiny_base)
    with torch.no_grad():
        next(iter(generator.unet_adaptation.state_dict().values())).add_(1e-3)
    save_generator(generator, tmp_path / "other", iteration=7)
    same, other = Checkpoint(model, size_px=64), Checkpoint(tmp_path / "other", size_px=64)
    assert same.protocol == Checkpoint(model, size_px=64).protocol
    assert same.protocol["weights_sha256"] != other.protocol["weights_sha256"]
    assert {**same.protocol, "weights_sha256": 0} == {**other.protocol, "weights_sha256": 0}


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("{weight: 1.0, network: arcface}", "ArcFace IR-SE50"),
        ("{weight: 1.0, network: 'bundled:x'}", "bundled:x"),
        ("{weight: 0.0, network: arcface}", None),
        ("null", None),
    ],
)
def test_protocol_says_which_network_the_training_pleased(
    model: Path, tmp_path: Path, identity: str, expected: str | None
) -> None:
    shutil.copytree(model, tmp_path / "run" / "model")
    config = f"model: {{init_args: {{losses: {{identity: {identity}}}}}}}"
    (tmp_path / "run" / "config.yaml").write_text(config)
    for source in (tmp_path / "run", tmp_path / "run" / "model"):
        assert Checkpoint(source, size_px=64).protocol["trained_to_please"] == expected


def test_a_size_the_checkpoint_cannot_do_is_refused(model: Path) -> None:
    with pytest.raises(UserError, match=r"cannot work at this size.*--size 64"):
        Checkpoint(model, size_px=65)


def test_timing_tells_the_first_photo_from_the_others(choice: InputChoice, model: Path) -> None:
    photos = EvaluationSet(choice)
    batches = [collate([photos[index]]) for index in range(3)]
    timing = measure(Checkpoint(model, size_px=64), batches, torch.device("cpu"))
    assert timing.num_photos == 2
    assert 0 < timing.cached_references_s < timing.steady_s * 1.5
    assert timing.steady_spread_s[0] <= timing.steady_s <= timing.steady_spread_s[1]
    blind = EvaluationSet(replace(choice, num_references=0))
    timing = measure(Checkpoint(model, size_px=64), [collate([blind[0]]), collate([blind[1]])], torch.device("cpu"))
    assert timing.cached_references_s is None
