"""Colour changes of the GFPGAN degradation, applied to the LQ image only (degradations.md section 1.4).

A shift per channel, torchvision's colour jitter, and gray, each drawn on its own. Images are float32 RGB
``(H, W, 3)`` in ``[0, 1]`` before and after every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import cv2
import numpy as np

from lit_restore.data.degradation.profile_types import Profile

MAX_SHIFT = 20 / 255
BRIGHTNESS = CONTRAST = (0.5, 1.5)
SATURATION = (0.0, 1.5)
HUE = (-0.1, 0.1)  # in turns
LUMA = np.float32(0.2989), np.float32(0.587), np.float32(0.114)

ORDERS = tuple(permutations(("brightness", "contrast", "saturation", "hue")))
SLOTS = (
    "shift?",
    "shift_red",
    "shift_green",
    "shift_blue",
    "gray?",
    "jitter?",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "jitter_order",
)


def draw_color(profile: Profile, uniforms: Mapping[str, float]) -> dict[str, Any] | None:
    """The colour part of a record, None when nothing is to be done. ``uniforms``: a number for each of `SLOTS`."""
    u = uniforms
    color: dict[str, Any] = {}
    if u["shift?"] < profile.color_shift_probability:
        color["shift"] = [MAX_SHIFT * (2 * u[f"shift_{name}"] - 1) for name in ("red", "green", "blue")]
    if u["gray?"] < profile.gray_probability:
        color["gray"] = True
    if u["jitter?"] < profile.color_jitter_probability:
        ranges = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE}
        order = ORDERS[int(len(ORDERS) * u["jitter_order"])]
        color["jitter"] = [[name, ranges[name][0] + (ranges[name][1] - ranges[name][0]) * u[name]] for name in order]
    return color or None


def change_color(image: np.ndarray, color: Mapping[str, Any]) -> np.ndarray:
    """Shift, gray, then jitter: the order of the public code."""
    if "shift" in color:
        image = np.clip(image + np.array(color["shift"], np.float32), 0, 1)
    if color.get("gray"):
        image = _gray3(image)
    for name, amount in color.get("jitter", ()):
        image = _JITTER[name](image, np.float32(amount))
    return image


def luma(image: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` -> ``(H, W)`` with torchvision's weights."""
    # Written out: a BLAS may add in another order when it has more threads.
    return image[..., 0] * LUMA[0] + image[..., 1] * LUMA[1] + image[..., 2] * LUMA[2]


def _gray3(image: np.ndarray) -> np.ndarray:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _blend(image: np.ndarray, other: np.ndarray | np.float32, share: np.float32) -> np.ndarray:
    return np.clip(share * image + (np.float32(1) - share) * other, 0, 1)


def _brightness(image: np.ndarray, amount: np.float32) -> np.ndarray:
    return _blend(image, np.float32(0), amount)


def _contrast(image: np.ndarray, amount: np.float32) -> np.ndarray:
    return _blend(image, np.float32(luma(image).mean(dtype=np.float64)), amount)


def _saturation(image: np.ndarray, amount: np.float32) -> np.ndarray:
    return _blend(image, luma(image)[..., None], amount)


def _hue(image: np.ndarray, amount: np.float32) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees
    hsv[..., 0] = (hsv[..., 0] + 360 * amount) % 360
    return np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), 0, 1)


_JITTER = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}
