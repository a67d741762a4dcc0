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
from lit_restore.visualization import restoration_grid


class ImageGrids(Callback):
    """Write ``images/iteration_N.png`` into the run folder and hand the same picture to TensorBoard and wandb.

    Args:
        num_photos: rows of the grid: degraded | references | restored | truth.
    """

    def __init__(self, num_photos: int = 8) -> None:
        self.num_photos = num_photos
        self.batches: list[tuple[RestorationBatch, torch.Tensor]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RestorationBatch, *_: Any
    ) -> None:
        seen = sum(len(restored) for _, restored in self.batches)
        if trainer.is_global_zero and seen < self.num_photos and isinstance(outputs, torch.Tensor):
            self.batches.append((batch, outputs))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.batches or trainer.sanity_checking:
            self.batches.clear()
            return
        widest = max(batch["references"].shape[1] for batch, _ in self.batches)
        grids, rows = [], self.num_photos
        for batch, restored in self.batches:
            if batch["references"].shape[1] == widest:
                grids.append(restoration_grid(batch, restored, rows))
                rows -= min(rows, len(restored))
        self.batches.clear()
        iteration = getattr(pl_module, "iteration", trainer.global_step)
        grid = np.concatenate(grids)
        write_image(grid, Path(trainer.default_root_dir) / "images" / f"iteration_{iteration:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/restored", grid, iteration, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image("val/restored", [grid], step=iteration)
