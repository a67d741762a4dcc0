"""A recipe of the bundled networks that was stopped or killed goes on bit for bit."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from small_training import Kill, people, trainer

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.training.autoencoder import AutoencoderModule
from lit_restore.training.denoiser import DenoiserModule
from lit_restore.training.pretraining import PretrainingModule
from lit_restore.training.recognition import RecognitionModule

Recipe = Callable[..., PretrainingModule]


class Values(Callback):
    """What every iteration logged."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, *_) -> None:
        self.values.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def recipe(name: str, vae: Path, output: Path) -> PretrainingModule:
    """Starts from the same weights whatever the global random state is, as a run with seed_everything does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "recognition":
            return RecognitionModule(str(output), widths=[4, 8], embedding=16, size_px=32, max_iterations=4)
        if name == "autoencoder":
            return AutoencoderModule(str(output), widths=[8, 8, 16], latent_channels=4, max_iterations=4)
        widths = {"widths": [16, 16, 16], "head_channels": 8}
        return DenoiserModule(str(output), vae=str(vae), **widths, shared_probability=0.5, max_iterations=4)


def fit(module: PretrainingModule, cache: Path, folder: Path, *callbacks: Callback, **options) -> list[dict]:
    values, resumed = Values(), options.pop("ckpt_path", None)
    torch.manual_seed(1)  # the centres of the recogniser
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = people(cache, zero_reference_probability=0.0)
        runner = trainer(folder, values, *callbacks, **options)
        runner.fit(module, data, ckpt_path=resumed and str(resumed), weights_only=True if resumed else None)
    return values.values


def be_killed(name: str, vae: Path, cache: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    fit(recipe(name, vae, folder / "out"), cache, folder, Kill(3), every=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums over several threads end in other bits than the killed process's one thread gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    module = recipe("autoencoder", folder, folder / "vae")
    module.export(module.average, folder / "vae")
    return folder / "vae"


@pytest.mark.parametrize("name", ["autoencoder", "denoiser", "recognition"])
def test_stopped_and_continued(name: str, vae: Path, people_cache: Path, tmp_path: Path) -> None:
    whole = recipe(name, vae, tmp_path / "out")
    expected = fit(whole, people_cache, tmp_path / "whole")
    fit(recipe(name, vae, tmp_path / "out"), people_cache, tmp_path / "stopped", max_steps=2)
    continue_and_compare(name, vae, people_cache, tmp_path / "stopped", expected, whole)


def test_killed_and_continued(vae: Path, people_cache: Path, tmp_path: Path) -> None:
    """SIGKILL in iteration 3; the last checkpoint is of iteration 2."""
    whole = recipe("denoiser", vae, tmp_path / "out")
    expected = fit(whole, people_cache, tmp_path / "whole")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=be_killed, args=("denoiser", vae, people_cache, tmp_path / "killed"))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    continue_and_compare("denoiser", vae, people_cache, tmp_path / "killed", expected, whole)


def continue_and_compare(
    name: str, vae: Path, cache: Path, folder: Path, expected: list[dict[str, float]], whole: PretrainingModule
) -> None:
    assert len(expected) == 4
    module = recipe(name, vae, folder / "out")
    found = fit(module, cache, folder, ckpt_path=last_checkpoint(folder))
    assert found == expected[2:]
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[key]), key


def test_another_seed_draws_other_noise(vae: Path, tmp_path: Path) -> None:
    modules = [AutoencoderModule(str(tmp_path), widths=[8], seed=seed) for seed in (1, 1, 2)]
    first, again, other = (module.noise("posterior", torch.zeros(2, 3)) for module in modules)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    modules[0].iteration = 1
    assert not torch.equal(first, modules[0].noise("posterior", torch.zeros(2, 3)))
