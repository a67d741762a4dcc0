"""What ``lit_restore predict`` leaves behind: one restored picture per test photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lit_restore.image import to_uint8, write_image
from lit_restore.types import RestorationBatch


class Predictions(Callback):
    """Write ``predictions/<photo key>.png`` into the run folder."""

    def __init__(self) -> None:
        self.num_written = 0

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: torch.Tensor, batch: RestorationBatch, *_: Any
    ) -> None:
        for key, restored in zip(batch["key"], outputs, strict=True):
            write_image(to_uint8(restored), self.folder(trainer) / f"{key}.png")
            self.num_written += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            print(f"{self.num_written} restored photos are in {self.folder(trainer)}")

    def folder(self, trainer: Trainer) -> Path:
        """Where the pictures go."""
        return Path(trainer.default_root_dir) / "predictions"
