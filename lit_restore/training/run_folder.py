"""The run folder: its configuration, and whether a run in it is to be continued.

config.yaml    merged and resolved; the same configuration in the same folder continues the run exactly
checkpoints/   last.ckpt
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.errors import UserError
from lit_restore.image import atomic_path

Config = dict[str, Any]

# How a run is watched, fed and stored does not make it another run.
NOT_COMPARED = (
    "ckpt_path",
    "weights_only",
    "checkpoints",
    "data.num_workers",
    "data.cache_dir",
    "data.eval_batch_size",
    "model.init_args.gradient_checkpointing",
    "trainer.callbacks",
    "trainer.check_val_every_n_epoch",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.limit_predict_batches",
    "trainer.limit_test_batches",
    "trainer.limit_val_batches",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.num_sanity_val_steps",
    "trainer.plugins",
    "trainer.profiler",
    "trainer.strategy",
    "trainer.val_check_interval",
)


def write_config(text: str, folder: Path) -> None:
    """Write ``config.yaml``, complete or not at all."""
    with atomic_path(folder / "config.yaml") as path:
        path.write_text(text, encoding="utf-8")


def checkpoint_to_start_from(folder: Path, config: Config) -> Path | None:
    """From where a training with this configuration goes on; None = from the beginning.

    An unfinished or finished run of the same configuration in the same folder is continued. ``ckpt_path`` of the
    configuration starts from another checkpoint, or continues this folder's run with other settings.

    Raises:
        UserError: the folder holds a run of another configuration.
    """
    last = last_checkpoint(folder)
    given = None if config.get("ckpt_path") is None else Path(config["ckpt_path"])
    if not last.exists():
        return given
    theirs = _stored_config(folder)
    different = differences(config, theirs)
    inside = given is not None and given.resolve().is_relative_to(folder.resolve())
    if different and not inside:
        raise UserError(
            "the run folder holds a run of another configuration",
            where=folder,
            found=f"different {', '.join(different[:6])}" + (" ..." if len(different) > 6 else ""),
            fix="Choose another --trainer.default_root_dir, delete that folder, or continue that run with the new "
            f"settings: --ckpt_path {last}",
        )
    if given is None or (not different and config["ckpt_path"] == theirs.get("ckpt_path")):
        return last  # started from ``given`` before, and gone further since
    return given


def _stored_config(folder: Path) -> Config:
    try:
        stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        stored = None
    if not isinstance(stored, dict):
        raise UserError(
            "the run folder holds a checkpoint of an unknown configuration",
            where=folder,
            expected="a readable config.yaml beside checkpoints/",
            fix="Choose another --trainer.default_root_dir or delete that folder.",
        )
    return stored


def differences(mine: Any, theirs: Any, key: str = "") -> list[str]:
    """Dotted keys whose values differ, apart from those that do not change what is learned."""
    if key in NOT_COMPARED:
        return []
    if isinstance(mine, dict) and isinstance(theirs, dict):
        names = sorted(set(mine) | set(theirs))
        return [d for n in names for d in differences(mine.get(n), theirs.get(n), f"{key}.{n}" if key else n)]
    return [] if mine == theirs else [key]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint; tensors stay in the file until they are used.

    Raises:
        UserError: missing, damaged or not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UserError("no such checkpoint", where=path, expected="a .ckpt file or a run folder") from None
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError):
        raise UserError(
            "damaged checkpoint or not a checkpoint",
            where=path,
            found=f"{path.stat().st_size:,} bytes that cannot be decoded",
            fix="It may have been cut off while copying; copy it again or use another one.",
        ) from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError("not a training checkpoint", where=path, expected="a .ckpt file written by lit_restore fit")
    return checkpoint


def iteration_of(checkpoint: dict[str, Any]) -> int:
    """How many generator updates a checkpoint has behind it."""
    return checkpoint.get("lit_restore", checkpoint).get("iteration", 0)
