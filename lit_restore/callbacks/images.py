"""Pictures of the first validation photos, every validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from lit_restore.image import write_image
from lit_restore.types import RestorationBatch
from lit_restore.visualization import column, restoration_rows


class ImageGrids(Callback):
    """Write ``images/iteration_N.png`` into the run folder and hand the same picture to TensorBoard and wandb.

    Args:
        num_photos: rows of the grid: degraded | references | restored | truth.
    """

    def __init__(self, num_photos: int = 8) -> None:
        self.num_photos = num_photos
        self.rows: list[np.ndarray] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RestorationBatch, *_: Any
    ) -> None:
        wanted = self.num_photos - len(self.rows)
        if trainer.is_global_zero and wanted > 0 and isinstance(outputs, torch.Tensor):
            self.rows += restoration_rows(batch, outputs[:wanted])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rows, self.rows = self.rows, []
        if not rows or trainer.sanity_checking:
            return
        grid = column(rows)
        iteration = getattr(pl_module, "iteration", trainer.global_step)
        write_image(grid, Path(trainer.default_root_dir) / "images" / f"iteration_{iteration:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/restored", grid, iteration, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("val/restored", [grid], step=iteration)
