"""Checkpoints that survive anything: complete files only, saved on Ctrl-C, with the usable model beside them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lit_restore.image import atomic_path
from lit_restore.models.artifact import save_generator


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target and rename, so that a killed process never leaves half a checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class Checkpoints(ModelCheckpoint):
    """``checkpoints/last.ckpt`` to resume from, and ``model/`` to restore with, in the run folder.

    Args:
        every_iterations: how often both are written; also at the end and on Ctrl-C.
    """

    def __init__(self, every_iterations: int = 500) -> None:
        super().__init__(
            every_n_train_steps=every_iterations, save_top_k=0, save_last=True, enable_version_counter=False
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        # Saved inside the loop, not after it: Lightning marks a later checkpoint as a finished training, which could
        # not be continued with more iterations.
        last = pl_module.iteration >= pl_module.max_iterations or trainer.should_stop
        if last and not trainer.fast_dev_run:
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")
        else:
            super().on_train_batch_end(trainer, pl_module, *args, **kwargs)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        generator = getattr(pl_module, "generator", None)
        if generator is not None and trainer.is_global_zero:
            save_generator(generator, Path(trainer.default_root_dir) / "model", iteration=pl_module.iteration)


class GracefulInterrupt(Callback):
    """On the first Ctrl-C finish the current update, save and stop; on the second stop at once.

    An exception in the middle of a step could save weights of which half are updated.
    """

    def __init__(self) -> None:
        self.requested = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous = signal.getsignal(signal.SIGINT)

        def request(*_: object) -> None:
            signal.signal(signal.SIGINT, self._previous)
            self.requested = True
            print("\nFinishing this step, then saving. Press Ctrl-C again to stop at once.")

        try:
            signal.signal(signal.SIGINT, request)
        except ValueError:  # not in the main thread, e.g. in a notebook's worker
            self._previous = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Checkpoint callbacks run after this one and see the decision.
        if self.requested and getattr(pl_module, "between_updates", True):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
