"""Changes to the target photo before it is degraded; the input inherits them, the references do not.

The only augmentation is that of the official code (instantrestore.md 12; not mentioned in the paper): grey
with probability 0.1, then brightness, contrast and saturation jitter by up to 30 %. No flip, no rotation.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Literal

import numpy as np

from lit_restore.data.references import random_state

if TYPE_CHECKING:
    import albumentations

DOMAIN = "lit-restore/augmentation/v1"

Augmentation = Literal["none", "official"]


@functools.cache
def _official() -> albumentations.Compose:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # the import would otherwise ask a server for news
    import albumentations

    return albumentations.Compose(
        [
            albumentations.ToGray(p=0.1),
            albumentations.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.0, p=1.0),
        ]
    )


def augment(image: np.ndarray, augmentation: Augmentation, *, seed: int, key: str, epoch: int) -> np.ndarray:
    """Augment one target photo, uint8 RGB (H, W, 3) -> the same; a pure function of its arguments.

    The transform is seeded anew for every photo, so workers and order do not matter.
    """
    if augmentation == "none":
        return image
    transform = _official()
    transform.set_random_seed(int(random_state(DOMAIN, seed, key, epoch).randint(2**31)))
    return transform(image=image)["image"]
