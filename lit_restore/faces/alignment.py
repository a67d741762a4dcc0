"""Where a face belongs in the picture, and how to bring it there.

Pure geometry. Points are (x, y) with pixel centres at integers (OpenCV's convention), five of them in the
order image-left eye, image-right eye, nose tip, image-left and image-right mouth corner. A transform is a 2x3
matrix that maps a column (x, y, 1).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from lit_restore.errors import UserError

FFHQ_TEMPLATE_512 = np.array([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]])
"""Mean five points of FFHQ faces in their 512x512 frame; restoration works in this frame."""

ARCFACE_TEMPLATE_112 = np.array(
    [
        [38.29459953, 51.69630051],
        [72.53179932, 51.50139999],
        [56.02519989, 71.73660278],
        [41.54930115, 92.3655014],
        [70.72990036, 92.20410156],
    ]
)
"""Five points of the 112x112 crop that recognition networks are trained on (instantrestore.md, section 9)."""

BORDER_RGB = (135, 133, 132)
"""Grey that fills an aligned crop where the photo ends: the usual choice for FFHQ-style crops."""

ALIGNED_TOLERANCE = 0.04
"""Mean distance to the template, as a fraction of the side, below which a crop counts as aligned."""


def ffhq_template(size_px: int) -> np.ndarray:
    """The five FFHQ points ``(5, 2)`` of a frame of ``size_px`` pixels a side."""
    return transform_points(FFHQ_TEMPLATE_512, scaling(size_px / 512))


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares rotation, uniform scale and shift from ``source`` to ``target``, never a reflection.

    With the centred points written as complex numbers z and w, the minimum of sum |a z - w|^2 is at
    ``a = sum(conj(z) w) / sum |z|^2``: |a| is the scale, arg(a) the angle. In two dimensions this is what
    Umeyama (1991) gets from a singular value decomposition.

    The fit is not symmetric: on noisy points ``similarity(points, template)``, which aligns photos, differs
    from ``invert(similarity(template, points))``, which InstantRestore's identity crop uses
    (instantrestore.md, section 9).

    Args:
        source, target: ``(N, 2)`` with N >= 2.

    Raises:
        UserError: the source points coincide or are not finite, so that no such transform exists.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    z = (source - source_mean) @ (1, 1j)
    w = (target - target_mean) @ (1, 1j)
    spread = float(np.sum(np.abs(z) ** 2))
    if not (spread > 1e-12 and np.isfinite(w).all()):
        raise UserError(
            "face landmarks cannot be aligned",
            expected="finite points in different places",
            found=source.tolist(),
        )
    a = np.sum(z.conj() * w) / spread
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that undoes ``matrix``; pastes an aligned face back into its photo.

    Raises:
        UserError: the matrix squeezes the plane to a line or a point.
    """
    if abs(np.linalg.det(matrix[:, :2])) < 1e-12:
        raise UserError("transform cannot be undone", found=np.asarray(matrix).tolist())
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The 2x3 matrix that applies ``inner`` first, then ``outer``."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack([linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def scaling(factor: float) -> np.ndarray:
    """The 2x3 matrix of resizing a picture by ``factor``; pixel edges, not pixel centres, stay at 0."""
    shift = 0.5 * factor - 0.5
    return np.array([[factor, 0.0, shift], [0.0, factor, shift]])


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a 2x3 matrix to points ``(..., 2)``."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def warp(image: np.ndarray, matrix: np.ndarray, size_px: int, border: tuple[int, int, int] = BORDER_RGB) -> np.ndarray:
    """Draw ``image`` transformed by ``matrix`` on a square of ``size_px`` pixels, without aliasing.

    Where the transform shrinks, the picture is drawn k times larger, k the smallest whole number for which no
    source pixel is skipped, and k x k blocks are averaged. Sampling is bicubic.

    Args:
        image: uint8 ``(H, W, 3)``.
        matrix: similarity ``(2, 3)`` from ``image`` to the square.
        border: RGB where ``image`` ends.

    Returns:
        uint8 ``(size_px, size_px, 3)``.
    """
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    factor = max(1, math.ceil(1 / scale - 1e-6))
    drawn = cv2.warpAffine(
        image,
        compose(scaling(factor), matrix),
        (factor * size_px, factor * size_px),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    if factor == 1:
        return drawn
    return cv2.resize(drawn, (size_px, size_px), interpolation=cv2.INTER_AREA)


def points_5_from_68(points: np.ndarray) -> np.ndarray:
    """Mean of each eye, nose tip and mouth corners ``(..., 5, 2)`` from 68 iBUG points ``(..., 68, 2)``."""
    eyes = [points[..., 36:42, :].mean(axis=-2), points[..., 42:48, :].mean(axis=-2)]
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)


def template_distance(points5: np.ndarray, size_px: int) -> float:
    """Mean distance of five points of a square picture from the FFHQ template, as a fraction of its side."""
    distances = np.linalg.norm(np.asarray(points5) - ffhq_template(size_px), axis=-1)
    return float(distances.mean() / size_px)


def is_aligned(points5: np.ndarray, size_px: int) -> bool:
    """Whether five points ``(5, 2)`` already lie where a square picture of ``size_px`` should have them."""
    return template_distance(points5, size_px) < ALIGNED_TOLERANCE
