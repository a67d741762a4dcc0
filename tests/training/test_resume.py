"""Stopped or killed and continued, a training is bit for bit the unbroken one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import small_training
import torch
from pytorch_lightning import Callback
from small_training import fit, learner, people

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.errors import UserError
from lit_restore.models.random_base import write_random_base

Weights = dict[str, torch.Tensor]
Unbroken = dict[int, tuple[list[float], Weights]]


@pytest.fixture(scope="module")
def unbroken(tiny_base: Path, people_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """accumulate -> losses and final weights of four iterations in one go."""
    runs: Unbroken = {}
    for accumulate in (1, 2):
        module = learner(tiny_base, accumulate=accumulate)
        losses = fit(tmp_path_factory.mktemp("unbroken"), module, people(people_cache))
        runs[accumulate] = losses, {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return runs


def same(first: Weights, second: Weights) -> bool:
    return set(first) == set(second) and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_unbroken_run_has_as_many_batches_as_it_should(unbroken: Unbroken) -> None:
    assert {accumulate: len(losses) for accumulate, (losses, _) in unbroken.items()} == {1: 4, 2: 8}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_and_continued(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken, accumulate: int) -> None:
    before = fit(tmp_path, learner(tiny_base, accumulate=accumulate), people(people_cache), max_steps=2)
    module = learner(tiny_base, accumulate=accumulate)
    torch.manual_seed(99)  # whatever the global random state is
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken[accumulate]
    assert (len(before), len(after)) == (2 * accumulate, 2 * accumulate)
    assert before + after == losses
    assert same(module.state_dict(), weights)
    assert module.iteration == 4


def test_killed_and_continued(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    """SIGKILL between the two batches of iteration 3; the last checkpoint is of iteration 2."""
    accumulate = 2
    arguments = [tiny_base, people_cache, tmp_path, accumulate, 3 * accumulate + 1]
    result = subprocess.run(
        [sys.executable, small_training.__file__, *map(str, arguments)], capture_output=True, text=True, timeout=200
    )
    assert result.returncode == -9, result.stderr
    module = learner(tiny_base, accumulate=accumulate)
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken[accumulate]
    assert after == losses[2 * accumulate :]
    assert same(module.state_dict(), weights)


class CtrlC(Callback):
    """A press before the batch number ``batch``."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        if batch_idx == self.batch:
            signal.raise_signal(signal.SIGINT)


def test_interrupted_and_continued(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    """Ctrl-C between the two batches of iteration 1: that iteration is finished and saved."""
    handler, module = signal.getsignal(signal.SIGINT), learner(tiny_base, accumulate=2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, module, people(people_cache), CtrlC(3))
    assert module.iteration == 2
    assert signal.getsignal(signal.SIGINT) is handler
    assert not list((tmp_path / "checkpoints").glob(".last-*"))
    module = learner(tiny_base, accumulate=2)
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken[2]
    assert after == losses[4:]
    assert same(module.state_dict(), weights)


def test_validation_in_between_changes_nothing(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    module = learner(tiny_base)
    options = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 1}
    assert fit(tmp_path, module, people(people_cache), **options) == unbroken[1][0]
    assert same(module.state_dict(), unbroken[1][1])


def test_two_worker_processes_change_nothing(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    data = people(people_cache, num_workers=2)
    assert fit(tmp_path, learner(tiny_base), data, max_steps=3) == unbroken[1][0][:3]


def test_continued_with_a_worker_process(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    before = fit(tmp_path, learner(tiny_base), people(people_cache, num_workers=1), max_steps=2)
    data = people(people_cache, num_workers=1)
    after = fit(tmp_path, learner(tiny_base), data, ckpt_path=last_checkpoint(tmp_path))
    assert before + after == unbroken[1][0]


def test_a_finished_run_can_be_made_longer(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    """With a constant learning rate nothing but the end depends on ``max_iterations``."""
    constant = {"optimizer": small_training.OptimizerConfig(learning_rate=1e-3)}
    long = fit(tmp_path / "long", learner(tiny_base, max_iterations=4, **constant), people(people_cache))
    fit(tmp_path / "short", learner(tiny_base, max_iterations=2, **constant), people(people_cache))
    module = learner(tiny_base, max_iterations=4, **constant)
    after = fit(tmp_path / "short", module, people(people_cache), ckpt_path=last_checkpoint(tmp_path / "short"))
    assert after == long[2:]
    assert module.iteration == 4


def test_a_checkpoint_holds_what_was_trained_and_nothing_else(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    module = learner(tiny_base, max_iterations=1)
    fit(tmp_path, module, people(people_cache))
    checkpoint = torch.load(last_checkpoint(tmp_path), weights_only=True)
    names = {f"{part}.{name}" for part, adaptation in module.generator.adaptations.items() for name in adaptation.names}
    assert set(checkpoint["state_dict"]) == names
    assert same(checkpoint["state_dict"], module.state_dict())
    assert checkpoint["lit_restore"]["iteration"] == 1
    assert checkpoint["lit_restore"]["generator"]["base"] == str(tiny_base)
    (optimizer,) = checkpoint["optimizer_states"]
    assert 0 < len(optimizer["state"]) <= len(names)


def test_the_model_beside_the_checkpoint_restores_the_same_bits(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    from helpers import NOISE, pictures

    from lit_restore.models.artifact import load_generator

    module = learner(tiny_base, max_iterations=2)
    fit(tmp_path, module, people(people_cache))
    lq, references = pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 64, 64)
    with torch.no_grad():
        expected = module.generator(lq, references, draw=NOISE)
        for source in (tmp_path, last_checkpoint(tmp_path)):
            assert torch.equal(load_generator(source)(lq, references, draw=NOISE), expected)


def test_another_base_is_refused(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", learner(tiny_base, max_iterations=1), people(people_cache))
    other = write_random_base(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"another base.*Set model.generator.base"):
        fit(tmp_path / "run", learner(other), people(people_cache), ckpt_path=last_checkpoint(tmp_path / "run"))


def test_the_same_base_elsewhere_is_fine(tiny_base: Path, people_cache: Path, tmp_path: Path, unbroken) -> None:
    fit(tmp_path / "run", learner(tiny_base), people(people_cache), max_steps=2)
    moved = learner(Path(shutil.copytree(tiny_base, tmp_path / "moved")))
    after = fit(tmp_path / "run", moved, people(people_cache), ckpt_path=last_checkpoint(tmp_path / "run"))
    assert after == unbroken[1][0][2:]


def test_another_rank_and_a_foreign_checkpoint_are_refused(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    fit(tmp_path, learner(tiny_base, max_iterations=1), people(people_cache))
    with pytest.raises(UserError, match="LoRA rank"):
        fit(
            tmp_path,
            learner(tiny_base, generator={"lora_rank_unet": 8}),
            people(people_cache),
            ckpt_path=last_checkpoint(tmp_path),
        )
    checkpoint = torch.load(last_checkpoint(tmp_path), weights_only=True)
    del checkpoint["lit_restore"]
    torch.save(checkpoint, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match="not a checkpoint of lit_restore's restoration training"):
        fit(tmp_path, learner(tiny_base), people(people_cache), ckpt_path=tmp_path / "foreign.ckpt")
