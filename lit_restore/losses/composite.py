"""The generator's loss: a weighted sum of named terms (InstantRestore, eqs. 3 and 8).

    L_rec = w_ssim (1 - MS-SSIM) + w_lpips LPIPS + w_id L_id + w_adv L_G  [ + w_1 L1 + w_2 L2 ]
    L     = L_rec + w_las LAS

Paper: w_ssim 1, w_lpips 5, w_id 1, w_adv 0.5, w_las 5000, no pixel terms (appendix A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.losses.adversarial import generator_loss
from lit_restore.losses.identity import IdentityConfig, IdentityLoss
from lit_restore.losses.landmark_attention import LandmarkAttentionConfig, LandmarkAttentionLoss, SupervisionProbe
from lit_restore.losses.ms_ssim import ms_ssim_loss
from lit_restore.losses.perceptual import Backbone, Lpips
from lit_restore.losses.pixel import l1, l2
from lit_restore.models.discriminator import AdversarialConfig


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
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    landmark_attention: LandmarkAttentionConfig = field(default_factory=LandmarkAttentionConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)


class RestorationLoss(nn.Module):
    """Weighted sum of the terms that have a weight.

    Args:
        config: the weights.
        shared_layers: names of the layers that landmark attention supervision may choose from.

    Raises:
        UserError: a negative weight, no weight at all, or a network whose weights are missing.
    """

    def __init__(self, config: LossConfig, shared_layers: Sequence[str] = ()) -> None:
        super().__init__()
        weights = {
            "l1": config.l1,
            "l2": config.l2,
            "ms_ssim": config.ms_ssim,
            "lpips": config.lpips,
            "identity": config.identity.weight,
            "landmark_attention": config.landmark_attention.weight,
            "adversarial": config.adversarial.weight,
        }
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise UserError("no usable loss", expected="weights of at least 0, one of them above", found=weights)
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.form = config.adversarial.form
        self.lpips = Lpips(config.lpips_backbone, config.lpips_weights) if "lpips" in self.weights else None
        self.identity = IdentityLoss(config.identity) if "identity" in self.weights else None
        self.landmark_attention = LandmarkAttentionLoss(config.landmark_attention, shared_layers)

    def forward(
        self,
        restored: torch.Tensor,
        hq: torch.Tensor,
        landmarks: torch.Tensor | None = None,
        landmark_mask: torch.Tensor | None = None,
        *,
        probe: SupervisionProbe | None = None,
        logits: list[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch.

        Args:
            restored, hq: (B, 3, H, W) in [-1, 1].
            landmarks, landmark_mask: (B, L, 2) and (B, L) of ``hq``; the identity term's crops come from them.
            probe: what landmark attention supervision saw of the forward pass; None = nothing to supervise, the term
                is 0.
            logits: the discriminator's on ``restored``.

        Returns:
            total with gradient, and the unweighted terms, detached.
        """
        terms = {
            "l1": lambda: l1(restored, hq),
            "l2": lambda: l2(restored, hq),
            "ms_ssim": lambda: ms_ssim_loss(restored, hq),
            "lpips": lambda: self.lpips(restored, hq).mean(),
            "identity": lambda: self.identity(restored, hq, landmarks, landmark_mask),
            "landmark_attention": lambda: self.landmark_attention(probe) if probe else restored.new_zeros(()),
            "adversarial": lambda: generator_loss(logits, self.form),
        }
        values = {name: terms[name]() for name in self.weights}
        total = sum(weight * values[name] for name, weight in self.weights.items())
        return total, {name: value.detach() for name, value in values.items()}
