"""Stopped or killed and continued, a training is bit for bit the unbroken one."""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import small_training
import torch
from pytorch_lightning import Callback
from small_training import CONFIG, fit, game, learner, people

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.models.random_base import write_random_base
from lit_restore.training.restoration import RestorationModule
from lit_restore.training.run_folder import iteration_of, read_checkpoint

Weights = dict[str, torch.Tensor]
Unbroken = dict[str, tuple[list[float], Weights]]
Make = Callable[..., RestorationModule]


@pytest.fixture(scope="module")
def make(tiny_base: Path, face_network: Path) -> dict[str, Make]:
    """``plain``: one batch per update, reconstruction losses. ``game``: all there is."""
    return {
        "plain": partial(learner, tiny_base),
        "game": partial(game, tiny_base, face_network),
    }


@pytest.fixture(scope="module")
def unbroken(make: dict[str, Make], people_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """Losses and final weights of four iterations in one go."""
    runs: Unbroken = {}
    for name in make:
        module = make[name]()
        losses = fit(tmp_path_factory.mktemp("unbroken"), module, people(people_cache))
        runs[name] = losses, {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return runs


def same(first: Weights, second: Weights) -> bool:
    return set(first) == set(second) and all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_unbroken_runs_have_as_many_iterations_as_they_should(unbroken: Unbroken) -> None:
    assert {name: len(losses) for name, (losses, _) in unbroken.items()} == {"plain": 4, "game": 4}


@pytest.mark.parametrize("name", ["plain", "game"])
def test_stopped_and_continued(make, people_cache: Path, tmp_path: Path, unbroken: Unbroken, name: str) -> None:
    before = fit(tmp_path, make[name](), people(people_cache), max_steps=2)
    module = make[name]()
    torch.manual_seed(99)  # whatever the global random state is
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken[name]
    assert (len(before), len(after)) == (2, 2)
    assert before + after == losses
    assert same(module.state_dict(), weights)
    assert module.iteration == module.trainer.global_step == 4


@pytest.mark.slow
def test_killed_and_continued(
    tiny_base: Path, face_network: Path, make, people_cache: Path, tmp_path: Path, unbroken: Unbroken
) -> None:
    """SIGKILL between the two batches of iteration 3; the last checkpoint is of iteration 2."""
    arguments = [tiny_base, people_cache, face_network, tmp_path, 3 * 2 + 1]
    result = subprocess.run(
        [sys.executable, small_training.__file__, *map(str, arguments)], capture_output=True, text=True, timeout=200
    )
    assert result.returncode == -9, result.stderr
    module = make["game"]()
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken["game"]
    assert after == losses[2:]
    assert same(module.state_dict(), weights)


class CtrlC(Callback):
    """A press before the batch number ``batch``."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        if batch_idx == self.batch:
            signal.raise_signal(signal.SIGINT)


def test_interrupted_and_continued(make, people_cache: Path, tmp_path: Path, unbroken: Unbroken) -> None:
    """Ctrl-C between the two batches of iteration 1: that iteration is finished and saved."""
    handler, module = signal.getsignal(signal.SIGINT), make["game"]()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, module, people(people_cache), CtrlC(3))
    assert module.iteration == 2
    assert signal.getsignal(signal.SIGINT) is handler
    assert not list((tmp_path / "checkpoints").glob(".last-*"))
    module = make["game"]()
    after = fit(tmp_path, module, people(people_cache), ckpt_path=last_checkpoint(tmp_path))
    losses, weights = unbroken["game"]
    assert after == losses[2:]
    assert same(module.state_dict(), weights)


@pytest.mark.parametrize(("name", "interval"), [("plain", 2), ("game", 3)])
def test_validation_in_between_changes_nothing(
    make, people_cache: Path, tmp_path: Path, unbroken: Unbroken, name: str, interval: int
) -> None:
    """Also in the middle of an update, after three batches."""
    module = make[name]()
    options = {"limit_val_batches": 1, "val_check_interval": interval, "num_sanity_val_steps": 1}
    assert fit(tmp_path, module, people(people_cache), **options) == unbroken[name][0]
    assert same(module.state_dict(), unbroken[name][1])


def test_two_worker_processes_change_nothing(make, people_cache: Path, tmp_path: Path, unbroken: Unbroken) -> None:
    data = people(people_cache, num_workers=2)
    assert fit(tmp_path, make["plain"](), data, max_steps=3) == unbroken["plain"][0][:3]


def test_continued_with_a_worker_process(make, people_cache: Path, tmp_path: Path, unbroken: Unbroken) -> None:
    before = fit(tmp_path, make["plain"](), people(people_cache, num_workers=1), max_steps=2)
    data = people(people_cache, num_workers=1)
    after = fit(tmp_path, make["plain"](), data, ckpt_path=last_checkpoint(tmp_path))
    assert before + after == unbroken["plain"][0]


def test_a_training_can_begin_without_the_game(make, people_cache: Path, tmp_path: Path) -> None:
    """The generator goes on where it was; discriminator and average start with what is configured now."""
    plain = make["game"](losses=small_training.LossConfig(l1=1.0, ms_ssim=0.5, lpips=0.0), ema_decay=0.0)
    fit(tmp_path / "alone", plain, people(people_cache), max_steps=2)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    module = make["game"]()
    fit(
        tmp_path / "game",
        module,
        people(people_cache),
        CtrlC(6),
        ckpt_path=last_checkpoint(tmp_path / "alone"),
        max_steps=3,
    )
    fresh, state = make["game"]().state_dict(), module.state_dict()
    assert module.iteration == 3
    assert all(not torch.equal(state[name], tensor) for name, tensor in fresh.items() if name.endswith("weight_orig"))
    moments = [
        optimizer.state[optimizer.param_groups[0]["params"][-1]]["step"] for optimizer in module.trainer.optimizers
    ]
    assert moments == [3, 1]
    assert set(before) == {name for name in state if not name.startswith(("discriminator.", "average."))}


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
    tiny_base: Path, make, people_cache: Path, tmp_path: Path
) -> None:
    module = make["game"](max_iterations=1)
    fit(tmp_path, module, people(people_cache))
    checkpoint = torch.load(last_checkpoint(tmp_path), weights_only=True)
    names = {f"{part}.{name}" for part, adaptation in module.generator.adaptations.items() for name in adaptation.names}
    theirs = {f"discriminator.{name}" for name in module.discriminator.state_dict()}
    assert set(checkpoint["state_dict"]) == names | theirs | {f"average.{name}" for name in names}
    assert same(checkpoint["state_dict"], module.state_dict())
    assert checkpoint["lit_restore"]["iteration"] == 1
    assert checkpoint["lit_restore"]["generator"]["base"] == str(tiny_base)
    mine, their = checkpoint["optimizer_states"]
    assert 0 < len(mine["state"]) <= len(names)
    assert len(their["state"]) == len(module.discriminator.trained_parameters())


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
    assert after == unbroken["plain"][0][2:]


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


def logged(run: Path) -> dict[int, dict[str, str]]:
    """Iteration -> everything that was logged about it; a continued run logs beside what it logged before."""
    rows = []
    for path in sorted((run / "log").glob("version_*/metrics.csv")):
        with open(path, newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["train/loss"]]
    return {int(row["step"]): row for row in rows}


@pytest.mark.timeout(900)
def test_killed_in_the_middle_of_the_game_through_the_command_line(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    """SIGKILL to the process group at a random moment; the same command again ends with the same bits and losses."""
    config = tmp_path / "game.yaml"
    config.write_text(CONFIG.format(base=tiny_base, face_network=face_network, cache=people_cache))

    def fit_command(run: str) -> list[str]:
        return ["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / run)]

    assert main(fit_command("unbroken")) == 0
    last, moment = last_checkpoint(tmp_path / "killed"), random.Random()
    wanted, delay = moment.randint(1, 4), moment.random()
    process = subprocess.Popen(
        [sys.executable, "-m", "lit_restore", *fit_command("killed")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while not (last.exists() and iteration_of(read_checkpoint(last)) >= wanted):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    reached = iteration_of(read_checkpoint(last))
    assert main(fit_command("killed")) == 0

    print(f"killed {delay:.2f} s after iteration {wanted}, continued from iteration {reached}")
    expected, found = (torch.load(last_checkpoint(tmp_path / run), weights_only=True) for run in ("unbroken", "killed"))
    assert same(found["state_dict"], expected["state_dict"])
    for mine, theirs in zip(found["optimizer_states"], expected["optimizer_states"], strict=True):
        assert mine["param_groups"] == theirs["param_groups"]
        for index, values in theirs["state"].items():
            assert same(mine["state"][index], values)
    unbroken, continued = logged(tmp_path / "unbroken"), logged(tmp_path / "killed")
    assert list(unbroken) == list(range(1, 7))
    assert all(continued[iteration] == unbroken[iteration] for iteration in range(1, 7))
