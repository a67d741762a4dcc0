"""The differentiable JPEG of Real-ESRGAN, with hard rounding (degradations.md section 2.2).

It is not bit-compatible with any codec: quantisation tables are neither rounded nor limited, the luma table is used
transposed, and edges are padded with black.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

_RGB_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_YCC_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)

# ITU-T T.81, tables K.1 and K.2.
_LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
).T
_CHROMA_TABLE = np.full((8, 8), 99, np.float32)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def diffjpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Compress and decompress float32 RGB ``(H, W, 3)`` in ``[0, 1]``; ``quality`` real, 1..100 (100 excluded)."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % 16), (0, -width % 16), (0, 0)))
    factor = np.float32(50 / quality if quality < 50 else (200 - 2 * quality) / 100)
    # Products are written as sums: a BLAS may add in another order when it has more threads.
    ycc = _mix(padded * np.float32(255), _RGB_TO_YCC)
    luma = _quantise(ycc[0] - 128, _LUMA_TABLE * factor) + 128
    chroma = [_enlarge2(_quantise(_halve(plane), _CHROMA_TABLE * factor)) for plane in ycc[1:]]
    rgb = _mix(np.stack([luma, *chroma], axis=2), _YCC_TO_RGB)
    return np.ascontiguousarray(np.clip(np.stack(rgb, axis=2), 0, 255)[:height, :width]) / np.float32(255)


def _mix(image: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
    """Three planes, each a weighted sum of the channels."""
    return [image[..., 0] * row[0] + image[..., 1] * row[1] + image[..., 2] * row[2] for row in matrix]


def _halve(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _enlarge2(plane: np.ndarray) -> np.ndarray:
    return plane.repeat(2, axis=0).repeat(2, axis=1)


def _quantise(plane: np.ndarray, table: np.ndarray) -> np.ndarray:
    """8x8 blocks -> cosine transform -> rounded multiples of the table -> back."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3)
    coefficients = dctn(blocks, axes=(2, 3), norm="ortho")
    blocks = idctn(np.rint(coefficients / table) * table, axes=(2, 3), norm="ortho")
    return blocks.transpose(0, 2, 1, 3).reshape(height, width)
