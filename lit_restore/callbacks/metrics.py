"""PSNR, SSIM, LPIPS and identity over the validation or test photos."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lit_restore.losses.perceptual import Backbone, Lpips
from lit_restore.metrics.suite import MetricSuite
from lit_restore.models.recognition import load_recognizer
from lit_restore.types import RestorationBatch


class Metrics(Callback):
    """Log ``val/psnr`` and its companions: means of per-image values, also under DDP.

    Args:
        recognition: recognition network for the identity metric (folder or ``bundled:NAME``); null = no identity.
        lpips_backbone: backbone of the LPIPS metric; null = no LPIPS.
        lpips_weights: its weights file; null = torch's cache or a download.
    """

    def __init__(
        self,
        recognition: str | None = None,
        lpips_backbone: Backbone | None = None,
        lpips_weights: str | None = None,
    ) -> None:
        self.recognition, self.lpips_backbone, self.lpips_weights = recognition, lpips_backbone, lpips_weights

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Loaded here and not when the configuration is read, so that a missing file is one clear error before training.
        self.suite = MetricSuite(
            lpips=Lpips(self.lpips_backbone, self.lpips_weights) if self.lpips_backbone else None,
            recognition=load_recognizer(self.recognition) if self.recognition else None,
        ).to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RestorationBatch, *_: Any
    ) -> None:
        self._log(pl_module, "val", outputs, batch)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: RestorationBatch, *_: Any
    ) -> None:
        self._log(pl_module, "test", outputs, batch)

    def _log(self, pl_module: LightningModule, stage: str, restored: Any, batch: RestorationBatch) -> None:
        if not isinstance(restored, torch.Tensor) or not bool(batch["has_hq"].any()):
            return
        known = batch["has_hq"]
        values = self.suite.to(restored.device)(restored[known], batch["hq"][known])
        for name, value in values.items():
            # Weighted by the number of photos, so that a smaller last batch does not count more per photo.
            pl_module.log(
                f"{stage}/{name}",
                value.mean(),
                on_epoch=True,
                batch_size=int(known.sum()),
                sync_dist=True,
                prog_bar=name in ("psnr", "identity"),
            )
