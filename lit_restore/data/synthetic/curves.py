"""The few shaping functions that geometry and paint share; all keep float32 arrays float32."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from lit_restore.data.synthetic.seeds import random_state


def clamp(x: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """`np.clip` without its overhead, which small windows feel."""
    return np.minimum(np.maximum(x, low), high)


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`np.hypot` without its guard against overflow, several times as fast."""
    return np.sqrt(x * x + y * y)


def power(x: np.ndarray, exponent: float) -> np.ndarray:
    """``x ** exponent`` for x from 0 to 1; for float32 several times as fast as NumPy's."""
    if np.asarray(x).dtype != np.float32:
        return np.power(x, exponent)
    return np.exp(np.float32(exponent) * np.log(np.maximum(x, np.float32(1e-30))))


def bump(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Gaussian of height 1 and standard deviation ``width``."""
    scaled = (x - centre) * np.float32(1 / width)
    return np.exp(scaled * scaled * np.float32(-0.5))


def ramp(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smooth step from 0 at ``start`` to 1 at ``end`` (``end`` < ``start`` falls)."""
    t = clamp((x - start) / (end - start))
    return t * t * (3 - 2 * t)


def grey(plane: np.ndarray) -> np.ndarray:
    """(H, W, 3) of three equal channels. NumPy is slow at stretching (H, W, 1) over three channels, OpenCV is not."""
    return cv2.cvtColor(plane, cv2.COLOR_GRAY2BGR)


def tinted(plane: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """(H, W, 3) float32: a float32 plane (H, W) times a colour."""
    return cv2.merge([plane * np.float32(c) for c in colour])


def scaled(image: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """``image * colour`` for (H, W, 3) float32."""
    return cv2.transform(image, np.diag(np.float32(colour)))


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a shape from a signed distance (positive inside) with an edge ``softness`` wide."""
    return clamp(distance * np.float32(1 / softness) + np.float32(0.5))


def right_half(grid: np.ndarray) -> np.ndarray:
    """The columns at image right of the mid-line of (H, W) with even W: enough for what is symmetric."""
    return grid[:, grid.shape[1] // 2 :]


def mirrored(half: np.ndarray) -> np.ndarray:
    """(H, W) from its right half."""
    return np.concatenate([half[:, ::-1], half], axis=1)


def lattice_noise(seed: int, cells: tuple[int, int], size_px: tuple[int, int], channel: str = "") -> np.ndarray:
    """Smooth noise, mean 0 and standard deviation about 1: the same picture at any resolution.

    Args:
        cells: rows and columns of random values, independent of the resolution.
        size_px: rows and columns of the result.
    """
    rows, columns = cells
    values = random_state("noise" + channel, seed).standard_normal((rows, columns)).astype(np.float32)
    return cv2.resize(values, (size_px[1], size_px[0]), interpolation=cv2.INTER_CUBIC)
