"""Vision-aided discriminator: small trained heads on the features of a pretrained network.

    D(x) = heads( features( augment(x) ) )

The backbone is DINOv2 (InstantRestore) or, for the embedded default, the bundled recognition network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

Operation = Literal["color", "translation", "cutout"]


@dataclass
class AdversarialConfig:
    """The adversarial game; the defaults are the paper's, except that it is off."""

    weight: float = 0.0
    """Of the generator's and the discriminator's loss; paper and official: 0.5. 0 = no game, nothing is loaded."""
    backbone: str = "facebook/dinov2-large"
    """Folder or hub id of a DINOv2 in transformers' layout, ``dinov2_vitl14_pretrain.pth`` as torch.hub has it, or a
    folder or ``bundled:NAME`` of a `SmallRecognizer`."""
    train_backbone: bool = True
    """Paper: DINOv2 is trained jointly. Official: frozen, only the heads are trained."""
    form: Literal["plain", "multilevel_sigmoid"] = "plain"
    """Paper: ``plain``. Official: ``multilevel_sigmoid``. See `lit_restore.losses.adversarial`."""
    augmentation: list[Operation] = field(default_factory=lambda: ["color", "translation", "cutout"])
    """DiffAugment operations on what the discriminator sees; official: all three, paper: not stated."""


class Discriminator(nn.Module):
    """Backbone and heads.

    Args:
        config: see `AdversarialConfig`.
        seed: of the heads' random start.

    Raises:
        UserError: the backbone's weights are not there or are others.
    """

    def __init__(self, config: AdversarialConfig, *, seed: int = 0) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, images: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> logits per level, float32: (B, h, w), (B, h, w), (B, 1).

        Gradients flow to the images. ``generator`` draws the augmentation (fresh draws in every call).
        In training mode every call makes one step of the power iteration of spectral normalisation.
        """
        raise NotImplementedError

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the discriminator's optimiser owns: the heads', and the backbone's if it is trained."""
        raise NotImplementedError

    # state_dict() holds the heads (weights and the u, v of spectral normalisation) and, only if it is trained, the
    # backbone; load_state_dict(state) takes exactly that and raises UserError for any other.
