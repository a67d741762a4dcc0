"""Everything a user sees counts iterations (= generator updates), whatever Lightning counts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import yaml
from small_training import CONFIG

from lit_restore.cli import main

ACCUMULATE, ITERATIONS = 2, 5
CHANGES = {
    "model": {"init_args": {"max_iterations": ITERATIONS, "accumulate": ACCUMULATE}},
    "trainer": {
        "log_every_n_steps": 2,
        "val_check_interval": 2,
        "callbacks": [
            {"class_path": "Metrics"},
            {"class_path": "ImageGrids"},
            {
                "class_path": "ModelCheckpoint",
                "init_args": {"dirpath": "kept", "every_n_train_steps": 2, "save_top_k": -1},
            },
        ],
    },
}


@pytest.fixture(scope="module")
def run(tiny_base: Path, people_cache: Path, face_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five iterations of two batches, with two players."""
    folder = tmp_path_factory.mktemp("counting")
    changes = folder / "changes.yaml"
    changes.write_text(yaml.safe_dump(CHANGES))
    config = folder / "game.yaml"
    config.write_text(CONFIG.format(base=tiny_base, face_network=face_network, cache=people_cache))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        files = [f"--config={path}" for path in (config, changes)]
        assert main(["fit", *files, "--trainer.default_root_dir", "run", "--trainer.logger.init_args.name", "log"]) == 0
    return folder


def rows(run: Path, column: str) -> list[int]:
    with open(run / "run" / "log" / "version_0" / "metrics.csv", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row[column]]


def test_loggers_have_iterations_on_their_axis(run: Path) -> None:
    """Every second one, and the last."""
    for column in ("train/loss", "train/discriminator/loss", "train/gradient_norm", "train/learning_rate"):
        assert rows(run, column) == [2, 4, 5]


def test_validation_comes_every_so_many_iterations_and_is_logged_at_its_iteration(run: Path) -> None:
    """And at the end."""
    assert rows(run, "val/psnr") == [2, 4, 5]
    names = sorted(path.name for path in (run / "run" / "images").iterdir())
    assert names == [f"iteration_00000{iteration}.png" for iteration in (2, 4, 5)]


def test_lightning_s_own_checkpoints_are_named_by_iteration(run: Path) -> None:
    names = sorted(path.name for path in (run / "kept").iterdir())
    assert names == ["epoch=0-step=2.ckpt", "epoch=0-step=4.ckpt"]
    for name, iteration in zip(names, (2, 4), strict=True):
        checkpoint = torch.load(run / "kept" / name, weights_only=True)
        assert (checkpoint["lit_restore"]["iteration"], checkpoint["global_step"]) == (iteration, iteration)


def test_a_short_trial_gets_as_far_as_a_step_of_both_players_and_a_checkpoint(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch, where an update has two."""
    from lit_restore.callbacks import checkpoints

    seen: list[tuple[int, set[str]]] = []
    write = checkpoints._write

    def recording(trainer, pl_module, folder: Path) -> None:
        write(trainer, pl_module, folder)
        state = torch.load(checkpoints.last_checkpoint(folder), weights_only=True)
        seen.append((state["lit_restore"]["iteration"], {name.split(".")[0] for name in state["state_dict"]}))
        assert (folder / "model" / "config.json").is_file()

    monkeypatch.setattr(checkpoints, "_write", recording)
    config = tmp_path / "game.yaml"
    config.write_text(CONFIG.format(base=tiny_base, face_network=face_network, cache=people_cache))
    options = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.fast_dev_run", "true"]
    assert main(["fit", "--config", str(config), *options]) == 0
    assert seen == [(1, {"unet", "vae", "discriminator", "average"})]
    assert not (tmp_path / "run").exists()
