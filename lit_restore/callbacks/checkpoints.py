"""Checkpoints that survive anything: complete files only, saved on Ctrl-C, with the usable model beside them."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.models.artifact import save_generator


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target and rename, so that a killed process never leaves half a checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        # An open file rather than a path: its errors (full disk) are OSErrors, those of torch's own writer are not.
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)


def last_checkpoint(run_folder: str | Path) -> Path:
    """Where a run keeps its newest checkpoint."""
    return Path(run_folder) / "checkpoints" / "last.ckpt"


class Checkpoints(Checkpoint):
    """``checkpoints/last.ckpt`` to resume from, and ``model/`` to restore with, in the run folder.

    They are written every so many iterations, at the end, and on Ctrl-C. The first Ctrl-C lets the current iteration
    finish, since an exception in its middle could save weights of which half are updated; the second stops at once.

    Args:
        every_iterations: how often they are written.
    """

    def __init__(self, every_iterations: int = 500) -> None:
        if every_iterations < 1:
            raise UserError(
                "bad checkpoint interval", where="checkpoints.every_iterations", expected="1 or more iterations"
            )
        self.every_iterations = every_iterations
        self._interrupt = _Interrupt()
        self._seen = self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = self._saved = pl_module.iteration
        if trainer.is_global_zero:
            for leftover in last_checkpoint(trainer.default_root_dir).parent.glob(".last-*.ckpt"):
                leftover.unlink()  # of a run that was killed while it saved
            for leftover in Path(trainer.default_root_dir).glob(".model-*"):
                shutil.rmtree(leftover, ignore_errors=True)
        self._interrupt.listen()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if pl_module.iteration == self._seen:
            return  # in the middle of gradient accumulation
        self._seen = pl_module.iteration
        interrupted = self._interrupt.requested
        if trainer.world_size > 1:
            interrupted = trainer.strategy.reduce_boolean_decision(interrupted, all=False)
        finished = self._seen >= pl_module.max_iterations
        if interrupted or finished or self._seen % self.every_iterations == 0:
            self._save(trainer, pl_module)
        if interrupted:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._interrupt.stop_listening()
        exists = trainer.fast_dev_run or last_checkpoint(trainer.default_root_dir).exists()
        if self._saved != pl_module.iteration or not exists:
            self._seen = pl_module.iteration
            self._save(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._interrupt.stop_listening()

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run:  # a trial that leaves nothing
            with tempfile.TemporaryDirectory() as folder:
                _write(trainer, pl_module, Path(folder))
        else:
            _write(trainer, pl_module, Path(trainer.default_root_dir))
        self._saved = self._seen

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell Lightning that its one long epoch is not over, wherever the checkpoint was saved.

        Without this a run that has ended could not be continued to a larger ``max_iterations``.
        """
        progress = checkpoint["loops"]["fit_loop"]
        batches = checkpoint.get("lit_restore", checkpoint)["iteration"] * getattr(pl_module, "accumulate", 1)
        batch = {"ready": batches, "started": batches, "processed": batches, "completed": batches - 1}
        epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        progress["epoch_loop.batch_progress"] = {"total": batch, "current": dict(batch), "is_last_batch": False}
        progress["epoch_progress"] = {"total": epoch, "current": dict(epoch)}


def _write(trainer: Trainer, pl_module: LightningModule, folder: Path) -> None:
    if trainer.is_global_zero and hasattr(pl_module, "generator"):
        with pl_module.averaged_weights():
            save_generator(pl_module.generator, folder / "model", iteration=pl_module.iteration)
    trainer.save_checkpoint(last_checkpoint(folder))


class _Interrupt:
    """Ctrl-C as a wish, between `listen` and `stop_listening`."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def listen(self) -> None:
        self.requested = False
        try:
            self._previous = signal.signal(signal.SIGINT, self._request)
        except ValueError:  # not in the main thread, e.g. in a notebook's worker
            self._previous = None

    def stop_listening(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _request(self, *_: object) -> None:
        self.requested = True
        self.stop_listening()
        print("\nFinishing this iteration, then saving. Press Ctrl-C again to stop at once.", file=sys.stderr)
