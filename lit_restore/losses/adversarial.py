"""The adversarial losses on a discriminator's logits (InstantRestore, eq. 2; Goodfellow et al. 2014).

A discriminator gives one map of logits per level l; D = sigmoid(logit) is its belief that a patch is of a real photo.
Two forms, both averaged over each map, summed over the levels and averaged over the batch:

``plain``, the paper:

    L_D = 1/2 [ -log D(y) - log(1 - D(G(x))) ],    L_G = -log D(G(x))

The paper writes the generator's part as log(1 - D(G(x))), whose gradient vanishes while D wins; as in Goodfellow et
al., section 3, the generator maximises log D(G(x)) instead, which has the same fixed point.

``multilevel_sigmoid``, the official code: binary cross entropy BCE(D, t) = -t log D - (1 - t) log(1 - D) with the real
target smoothed to t = 0.8, also for the generator:

    L_D = 1/2 [ BCE(D(y), 0.8) + BCE(D(G(x)), 0) ],    L_G = BCE(D(G(x)), 0.8)
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

Form = Literal["plain", "multilevel_sigmoid"]
REAL_TARGET: dict[Form, float] = {"plain": 1.0, "multilevel_sigmoid": 0.8}


def generator_loss(logits: list[torch.Tensor], form: Form) -> torch.Tensor:
    """L_G for the logits of restored images: one value, without weight.

    Args:
        logits: per level (B, ...), of any trailing shape.
        form: see the module.
    """
    return cross_entropy(logits, REAL_TARGET[form]).mean()


def discriminator_loss(real_logits: list[torch.Tensor], fake_logits: list[torch.Tensor], form: Form) -> torch.Tensor:
    """L_D: one value with the 1/2, without weight.

    Args:
        real_logits: per level (B, ...), of photos.
        fake_logits: of restored images; detach these before the discriminator sees them.
        form: see the module.
    """
    real, fake = cross_entropy(real_logits, REAL_TARGET[form]), cross_entropy(fake_logits, 0.0)
    return 0.5 * (real.mean() + fake.mean())


def cross_entropy(logits: list[torch.Tensor], target: float) -> torch.Tensor:
    """sum over levels of the mean over each map of BCE(sigmoid(logit), target): one value per image (B,), float32."""
    total = torch.zeros((), device=logits[0].device)
    for level in logits:
        values = F.binary_cross_entropy_with_logits(
            level.float(), torch.full_like(level, target, dtype=torch.float32), reduction="none"
        )
        total = total + values.flatten(1).mean(1)
    return total
