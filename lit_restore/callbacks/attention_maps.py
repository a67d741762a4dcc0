"""Does landmark attention supervision work? Pictures and numbers of the attention, every validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from lit_restore.attention_pictures import FACE_POINTS, attention_picture, face_point
from lit_restore.data.canonical_face import NUM_DENSE
from lit_restore.errors import UserError
from lit_restore.image import write_image
from lit_restore.metrics.attention import landmark_attention_mass
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.types import RestorationBatch


class AttentionMaps(Callback):
    """Log ``val/attention_mass/layer_N`` and draw ``attention_maps/iteration_N_photo_M.png``.

    The mass is the share of the attention that lies where the landmarks say, see `lit_restore.metrics.attention`;
    ``val/attention_mass/even_layer_N`` is what even attention would give. The photos are restored once more for it, so
    validation takes longer by ``max_photos`` photos.

    Args:
        max_photos: validation photos to measure.
        num_pictures: photos to draw.
        layers: shared layers to draw, 0 = coarsest; null = the last of every resolution.
        points: query points to draw: names, and which landmarks each is the mean of.
    """

    def __init__(
        self,
        max_photos: int = 16,
        num_pictures: int = 2,
        layers: list[int] | None = None,
        points: dict[str, list[int]] = FACE_POINTS,
    ) -> None:
        self.max_photos, self.num_pictures = max_photos, num_pictures
        self.layers, self.points = layers, points

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        num_layers = len(pl_module.generator.shared_layers)
        wrong = [layer for layer in self.layers or [] if not 0 <= layer < num_layers]
        if wrong:
            raise UserError(
                "no such layer", where="AttentionMaps.layers", expected=f"0 to {num_layers - 1}", found=self.layers
            )
        for name, landmarks in self.points.items():
            if not landmarks or not all(0 <= landmark < NUM_DENSE for landmark in landmarks):
                expected = f"landmarks from 0 to {NUM_DENSE - 1}"
                raise UserError(
                    "no such point of a face", where=f"AttentionMaps.points.{name}", expected=expected, found=landmarks
                )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pictures: list[np.ndarray] = []
        self.num_seen = 0
        # Per layer: masses, what even attention would give, and photos.
        self.sums = torch.zeros(len(pl_module.generator.shared_layers), 3, device=pl_module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RestorationBatch, *_: Any
    ) -> None:
        count = min(len(batch["lq"]), self.max_photos // trainer.world_size - self.num_seen)
        if count <= 0:
            return
        self.num_seen += count
        photos = {name: values[:count] for name, values in batch.items()}
        probe = AttentionProbe(range(len(self.sums)))
        restored = pl_module.restore(photos, probe=probe)
        for sample in range(count if probe.seen else 0):
            for layer, inputs in probe.seen.items():
                mass = landmark_attention_mass(inputs.sample(sample), photos, sample)
                if mass is not None:
                    self.sums[layer] += self.sums.new_tensor([mass.mass, mass.even, 1])
            if trainer.is_global_zero and len(self.pictures) < self.num_pictures:
                self.pictures += self._draw(photos, sample, restored, probe)

    def _draw(
        self, batch: RestorationBatch, sample: int, restored: torch.Tensor, probe: AttentionProbe
    ) -> list[np.ndarray]:
        """One picture, or none where no query point is visible."""
        points = {name: face_point(batch, sample, landmarks) for name, landmarks in self.points.items()}
        points = {name: point for name, point in points.items() if point is not None}
        if not points or not bool(batch["reference_mask"][sample].any()):
            return []
        last_of_grid = {inputs.query.shape[2]: layer for layer, inputs in sorted(probe.seen.items())}
        layers = self.layers if self.layers is not None else last_of_grid.values()
        attention = {f"layer {layer}": probe.seen[layer].sample(sample) for layer in layers}
        return [attention_picture(batch, sample, restored[sample], attention, points)]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sums = trainer.strategy.reduce(self.sums, reduce_op="sum")
        for layer, (mass, even, count) in enumerate(sums.tolist()):
            if count:
                pl_module.log(f"val/attention_mass/layer_{layer}", mass / count, rank_zero_only=True)
                pl_module.log(f"val/attention_mass/even_layer_{layer}", even / count, rank_zero_only=True)
        if trainer.sanity_checking:
            return
        iteration = getattr(pl_module, "iteration", trainer.global_step)
        folder = Path(trainer.default_root_dir) / "attention_maps"
        for number, picture in enumerate(self.pictures):
            write_image(picture, folder / f"iteration_{iteration:06d}_photo_{number}.png")
        for logger in trainer.loggers:
            for number, picture in enumerate(self.pictures):
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image(f"val/attention_{number}", picture, iteration, dataformats="HWC")
                elif isinstance(logger, WandbLogger):
                    logger.log_image(f"val/attention_{number}", [picture], step=iteration)
