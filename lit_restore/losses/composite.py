"""The generator's loss: a weighted sum of named terms (InstantRestore, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.losses.ms_ssim import ms_ssim_loss
from lit_restore.losses.perceptual import Backbone, Lpips
from lit_restore.losses.pixel import l1, l2


@dataclass
class LossConfig:
    """Weights of the terms; 0 leaves a term out and its network unloaded."""

    l1: float = 0.0
    l2: float = 0.0
    ms_ssim: float = 1.0
    lpips: float = 5.0
    lpips_backbone: Backbone = "vgg"
    lpips_weights: str | None = None
    """Weights file of the LPIPS backbone; null = torch's cache or a download."""


class RestorationLoss(nn.Module):
    """Weighted sum over the reconstruction terms."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        weights = (config.l1, config.l2, config.ms_ssim, config.lpips)
        if min(weights) < 0 or max(weights) == 0:
            raise UserError("no usable loss", expected="weights of at least 0, one of them above", found=weights)
        self.terms = {"l1": l1, "l2": l2, "ms_ssim": ms_ssim_loss}
        self.weights = {name: getattr(config, name) for name in self.terms if getattr(config, name) > 0}
        self.lpips_weight = config.lpips
        self.lpips = Lpips(config.lpips_backbone, config.lpips_weights) if config.lpips > 0 else None

    def forward(self, restored: torch.Tensor, hq: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Images (B, 3, H, W) in [-1, 1] -> total and the unweighted terms, detached."""
        values = {name: self.terms[name](restored, hq) for name in self.weights}
        total = sum(self.weights[name] * value for name, value in values.items())
        if self.lpips is not None:
            values["lpips"] = self.lpips(restored, hq).mean()
            total = total + self.lpips_weight * values["lpips"]
        return total, {name: value.detach() for name, value in values.items()}
