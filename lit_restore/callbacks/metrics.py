"""PSNR, SSIM, LPIPS and identity over the validation or test photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lit_restore.errors import UserError
from lit_restore.faces.points import Points
from lit_restore.image import atomic_path
from lit_restore.losses.perceptual import Backbone, Lpips
from lit_restore.metrics.suite import MetricSuite
from lit_restore.models.recognition import Recognizer, load_recognizer
from lit_restore.types import RestorationBatch


def load_judge(source: str | None, pl_module: LightningModule, allow_training_network: bool) -> Recognizer | None:
    """The recognition network that measures identity; None = ``source`` names none.

    A restorer learns to please the network in its loss. That network's verdict is then no evidence (InstantRestore
    trains with ArcFace and measures with CurricularFace).

    Raises:
        UserError: it has the same weights as the identity loss's network, unless that is allowed.
    """
    if source is None:
        return None
    judge = load_recognizer(source)
    if judge.fingerprint == getattr(pl_module, "identity_network_fingerprint", None) and not allow_training_network:
        raise UserError(
            "the identity metric uses the network that the identity loss trains with",
            where=source,
            expected="another one, since this one's numbers flatter the restorer",
            found=f"{judge.name}, weights {judge.fingerprint}, in both",
            fix="Change recognition in trainer.callbacks or model.losses.identity.network; if you want it so, set "
            "allow_training_network: true beside recognition.",
        )
    return judge


class Metrics(Callback):
    """Log ``val/psnr`` and its companions: means of per-image values, also under DDP.

    What the numbers depend on besides the pictures goes to ``metrics_protocol.json`` in the run folder. Where faces
    have to be cut out, ``val/faces_found`` is the share of photos that count for ``val/identity``.

    Args:
        recognition: recognition network of the identity metric, see `load_recognizer`; null = no identity.
        points: where the five points of its crop come from, see `Points`.
        allow_training_network: accept the network of the identity loss.
        lpips_backbone: backbone of the LPIPS metric; null = no LPIPS.
        lpips_weights: its weights file; null = one of the known places or a download.
    """

    def __init__(
        self,
        recognition: str | None = None,
        points: Points = "target",
        allow_training_network: bool = False,
        lpips_backbone: Backbone | None = None,
        lpips_weights: str | None = None,
    ) -> None:
        self.recognition, self.points = recognition, points
        self.allow_training_network = allow_training_network
        self.lpips_backbone, self.lpips_weights = lpips_backbone, lpips_weights
        self._loaded_for: LightningModule | None = None

    def load(self, pl_module: LightningModule) -> None:
        """Load the networks that measure ``pl_module``; the command line does it before any data are read.

        Raises:
            UserError: a file is missing, or as `load_judge`.
        """
        self.suite = MetricSuite(
            lpips=Lpips(self.lpips_backbone, self.lpips_weights) if self.lpips_backbone else None,
            recognition=load_judge(self.recognition, pl_module, self.allow_training_network),
            points=self.points,
        )
        self._loaded_for = pl_module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._loaded_for is not pl_module:
            self.load(pl_module)
        self.suite.to(pl_module.device)
        if trainer.is_global_zero and not trainer.fast_dev_run:
            protocol = self.suite.protocol()
            if self.lpips_backbone:
                protocol["lpips"] = {"backbone": self.lpips_backbone, "weights": self.lpips_weights or "torchvision"}
            with atomic_path(Path(trainer.default_root_dir) / "metrics_protocol.json") as path:
                path.write_text(json.dumps(protocol, indent=2) + "\n")

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
        truth = (batch[name][known] for name in ("hq", "landmarks", "landmark_mask"))
        values = self.suite.to(restored.device)(restored[known], *truth)
        if self.suite.recognition is not None and self.suite.recognition.crop is not None:
            values["faces_found"] = values["identity"].isfinite().float()
        for name, value in values.items():
            value = value[~value.isnan()]
            # Weighted by the number of photos, so that a smaller last batch does not count more per photo. Logged even
            # if it counts nothing: under DDP all processes must log the same names.
            pl_module.log(
                f"{stage}/{name}",
                value.mean() if len(value) else torch.zeros((), device=restored.device),
                on_epoch=True,
                batch_size=len(value),
                sync_dist=True,
                prog_bar=name in ("psnr", "identity"),
            )
