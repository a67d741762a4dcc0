"""How far a restored face keeps to the photo it came from: its light and colour, and its coarse shapes."""

from __future__ import annotations

import cv2
import numpy as np

from lit_restore.inference.paste import face_mask

COARSE = 1 / 64
"""Gaussian's standard deviation as a fraction of the crop's side. Light, colour and the outline of the features survive
it; what a blurred photo has lost does not."""
GAIN_LIMITS = (0.5, 2.0)


def keep_coarse(restored: np.ndarray, lq: np.ndarray, fidelity: float) -> np.ndarray:
    """``restored + fidelity (coarse(lq) - coarse(restored))``: below the cutoff the photo's word counts.

    The photo's blur does not come back at any setting, since what is mixed in has nothing that is finer than the
    cutoff; its large-scale errors (a colour cast, a large scratch) do.

    Args:
        restored, lq: float32 (S, S, 3) in [0, 1].
        fidelity: 0 = the restorer's picture, 1 = everything coarse is the photo's.
    """
    if fidelity == 0:
        return restored
    return np.clip(restored + np.float32(fidelity) * (_coarse(lq) - _coarse(restored)), 0, 1)


def match_colour(restored: np.ndarray, lq: np.ndarray) -> np.ndarray:
    """Give the face the mean and contrast per channel that it had in the photo.

    Both are taken of coarse pictures within the mask: the contrast of a sharp picture is larger than that of its
    blurred copy, which is not to be matched.

    Args:
        restored, lq: float32 (S, S, 3) in [0, 1].
    """
    weights = face_mask(len(restored))[..., None] / face_mask(len(restored)).sum()
    one, other = _coarse(restored), _coarse(lq)
    mean, wanted = (weights * one).sum((0, 1)), (weights * other).sum((0, 1))
    spread = np.sqrt((weights * (one - mean) ** 2).sum((0, 1)))
    wanted_spread = np.sqrt((weights * (other - wanted) ** 2).sum((0, 1)))
    gain = np.clip(wanted_spread / np.maximum(spread, 1e-4), *GAIN_LIMITS)
    return np.clip((restored - mean) * gain + wanted, 0, 1).astype(np.float32)


def _coarse(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), len(image) * COARSE, borderType=cv2.BORDER_REFLECT)
