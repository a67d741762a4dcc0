"""The moving average of the weights: its values, and who uses it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import NOISE, pictures
from pytorch_lightning import Callback
from small_training import fit, learner, people, trainer

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.errors import UserError
from lit_restore.models.artifact import load_generator
from lit_restore.models.generator import fixed_noise
from lit_restore.training.average import WeightAverage
from lit_restore.training.restoration import RestorationModule


def test_closed_form_of_a_long_average() -> None:
    """a_n = prod d_i w_0 + sum_i (1 - d_i) prod_{j > i} d_j w_i, with d_i = min(decay, (1 + i) / (10 + i))."""
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    history = [torch.full((3,), 5.0, dtype=torch.float64)]
    weight.data.copy_(history[0])
    average, decay, length = WeightAverage({"w": weight}, 0.7), 0.7, 40
    for iteration in range(1, length + 1):
        history.append(torch.sin(torch.arange(3) + iteration).double())
        weight.data.copy_(history[-1])
        average.update(iteration)
    decays = [1.0] + [min(decay, (1 + i) / (10 + i)) for i in range(1, length + 1)]
    assert decays[1] == 2 / 11
    assert decays[-1] == decay
    shares = [(1 - d if i else 1.0) * math.prod(decays[i + 1 :]) for i, d in enumerate(decays)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * value for share, value in zip(shares, history, strict=True))
    torch.testing.assert_close(average.state_dict()["w"], expected, atol=1e-12, rtol=0)


class History(Callback):
    """The weights after every iteration."""

    def on_train_start(self, trainer, pl_module: RestorationModule) -> None:
        self.weights = [self._now(pl_module)]

    def on_train_batch_end(self, trainer, pl_module: RestorationModule, *_: object) -> None:
        self.weights.append(self._now(pl_module))

    @staticmethod
    def _now(module: RestorationModule) -> dict[str, torch.Tensor]:
        state = module.state_dict()
        return {name: tensor.clone() for name, tensor in state.items() if not name.startswith("average.")}


@pytest.fixture(scope="module")
def averaged(tiny_base: Path, people_cache: Path, tmp_path_factory) -> tuple[RestorationModule, History, Path]:
    """Three iterations with an average; the folder of the run."""
    history, folder = History(), tmp_path_factory.mktemp("averaged")
    module = learner(tiny_base, max_iterations=3, ema_decay=0.25)
    fit(folder, module, people(people_cache), history)
    return module, history, folder


def test_the_training_averages_its_weights(averaged) -> None:
    module, history, _ = averaged
    decays = (2 / 11, 3 / 12, 0.25)
    for name in history.weights[0]:
        expected = history.weights[0][name]
        for decay, now in zip(decays, history.weights[1:], strict=True):
            expected = decay * expected + (1 - decay) * now[name]
        torch.testing.assert_close(module.state_dict()[f"average.{name}"], expected, atol=1e-7, rtol=1e-5)


def test_the_average_does_not_touch_the_training(averaged, tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    _, history, _ = averaged
    module = learner(tiny_base, max_iterations=3)
    fit(tmp_path, module, people(people_cache), limit_val_batches=1, val_check_interval=1, num_sanity_val_steps=1)
    assert module.state_dict().keys() == history.weights[-1].keys()
    assert all(torch.equal(tensor, history.weights[-1][name]) for name, tensor in module.state_dict().items())


@torch.inference_mode()
def test_restoring_and_the_exported_model_use_the_average(averaged) -> None:
    module, history, folder = averaged
    lq, references = pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 64, 64)
    batch = {"lq": lq, "references": references, "reference_mask": torch.ones(1, 2, dtype=torch.bool)}
    restored = module.restore(batch, draw=NOISE)
    assert not torch.equal(restored, module.generator(lq, references, draw=NOISE))
    with module.averaged_weights():
        assert torch.equal(restored, module.generator(lq, references, draw=NOISE))
        assert torch.equal(restored, module.restore(batch, draw=NOISE))  # a block within a block
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in history.weights[-1].items())
    for source in (folder, last_checkpoint(folder)):
        torch.testing.assert_close(load_generator(source)(lq, references, draw=NOISE), restored, atol=2e-5, rtol=0)


def test_validation_uses_the_average(averaged, tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    *_, folder = averaged
    seen: list[torch.Tensor] = []

    class Outputs(Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_) -> None:
            seen.append(outputs)
            seen.append(load_generator(folder)(batch["lq"], batch["references"], batch["reference_mask"], draw=draw))

    draw = fixed_noise()
    fresh = learner(tiny_base, ema_decay=0.25)
    trainer(tmp_path, Outputs(), limit_val_batches=1).validate(
        fresh, people(people_cache), ckpt_path=str(last_checkpoint(folder)), weights_only=True, verbose=False
    )
    # Equal but for rounding: torch multiplies in another order where a weight could have a gradient.
    torch.testing.assert_close(seen[0], seen[1], atol=2e-5, rtol=0)


def test_a_run_without_average_can_go_on_with_one(
    averaged, tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    plain = learner(tiny_base, max_iterations=1)
    fit(tmp_path, plain, people(people_cache))
    module = learner(tiny_base, max_iterations=1, ema_decay=0.25)
    module.load_state_dict(plain.state_dict())
    state = module.state_dict()
    assert all(torch.equal(tensor, state[f"average.{name}"]) for name, tensor in plain.state_dict().items())
    other = {name: tensor for name, tensor in averaged[0].state_dict().items() if "vae.decoder" not in name}
    with pytest.raises(UserError, match="weight"):
        module.load_state_dict(other)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_that_is_none_is_refused(tiny_base: Path, decay: float) -> None:
    with pytest.raises(UserError, match="ema_decay; expected 0 = off, or below 1"):
        learner(tiny_base, ema_decay=decay)
