"""A step that is not finite changes no weight and leaves what is needed to understand it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from safetensors.torch import load_file
from small_training import all_losses, fit, learner, people

from lit_restore.errors import UserError
from lit_restore.types import RestorationBatch


class Spoil(Callback):
    """Make one photo, or one gradient, infinite in the second micro-batch of iteration 1."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_batch_start(self, trainer, pl_module, batch: RestorationBatch, batch_idx: int) -> None:
        if batch_idx == 3:
            self.before = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
            self.batch = batch
            if self.what == "loss":
                batch["hq"][0, 0, 3, 3] = float("nan")
            else:
                parameters = trainer.optimizers[self.what == "discriminator's gradient"].param_groups[0]["params"]
                parameters[0].register_hook(lambda gradient: torch.full_like(gradient, float("inf")))


@pytest.mark.parametrize("what", ["loss", "gradient", "discriminator's gradient"])
def test_nothing_moves_and_the_batch_is_kept(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path, what: str
) -> None:
    spoil = Spoil(what)
    module = learner(tiny_base, losses=all_losses(face_network), accumulate=2)
    with pytest.raises(UserError) as error:
        fit(tmp_path, module, people(people_cache), spoil)
    message, folder = str(error.value), tmp_path / "non_finite" / "iteration_000001_rank_0"
    assert message.startswith(f"the {what.split()[-1]} is not finite: iteration 1, photos {spoil.batch['key'][0]}, ")
    assert str(folder / "report.json") in message
    assert ("not finite, already in hq." if what == "loss" else "not finite, of finite pictures.") in message
    assert "\n" not in message

    moved = {n for n, tensor in module.state_dict().items() if not torch.equal(tensor, spoil.before[n])}
    assert all(name.endswith(("weight_u", "weight_v")) for name in moved)  # the power iteration of the same weights
    assert module.iteration == module.trainer.global_step == 1

    report = json.loads((folder / "report.json").read_text())
    assert (report["iteration"], report["micro_batch"], report["rank"], report["seed"]) == (1, 1, 0, 3)
    assert (report["photos"], report["people"]) == (spoil.batch["key"], spoil.batch["identity"])
    assert report["tensors"]["hq"]["not_finite"] == (what == "loss")
    assert report["tensors"]["lq"]["not_finite"] == 0
    norm = {"loss": "loss", "gradient": "gradient norm"}.get(what, "discriminator's gradient norm")
    assert report["values"][norm] in ("nan", "inf")
    saved = load_file(folder / "batch.safetensors")
    assert set(saved) == {name for name, value in spoil.batch.items() if isinstance(value, torch.Tensor)}
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor, spoil.batch[name], atol=0, rtol=0, equal_nan=True)


def test_a_good_batch_leaves_no_evidence(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    fit(tmp_path, learner(tiny_base, max_iterations=1), people(people_cache))
    assert not (tmp_path / "non_finite").exists()
