"""Put restored faces back into their photo.

    out = photo + sum_i m_i (r_i - photo) / max(1, sum_i m_i)

r_i is face i in the photo's pixels and m_i its soft mask, an oval that ends inside of the crop. Where all masks are 0
no arithmetic takes place: those pixels are the photo's own, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lit_restore.faces.alignment import compose, invert, scaling, transform_points

OVAL_CENTRE = (0.5, 0.55)
OVAL_HALF_AXES = (0.37, 0.43)
"""Of the FFHQ frame, x and y as fractions of its side: forehead, both cheeks and the chin with some hair around. Beyond
it hair and background of the crop are other people's as often as not."""
OVAL_POWER = 2.5
"""|x|^p + |y|^p <= 1; 2 would be an ellipse, which cuts the temples."""
FEATHER = 0.25
"""The share of the oval's radius over which the mask falls from 1 to 0."""


@dataclass(frozen=True)
class PlacedFace:
    """A restored face and where it belongs."""

    image: np.ndarray
    """float32 (S, S, 3) in [0, 1]."""
    matrix: np.ndarray
    """(2, 3) from pixels of the photo to pixels of ``image``."""


@dataclass(frozen=True)
class Region:
    """A rectangle of the photo."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def is_empty(self) -> bool:
        return self.right <= self.left or self.bottom <= self.top


def face_mask(size_px: int) -> np.ndarray:
    """The oval of an aligned crop: float32 (S, S) in [0, 1], 1 on the face, 0 from its edge on."""
    axis = (np.arange(size_px) + 0.5) / size_px
    x = np.abs(axis[None, :] - OVAL_CENTRE[0]) / OVAL_HALF_AXES[0]
    y = np.abs(axis[:, None] - OVAL_CENTRE[1]) / OVAL_HALF_AXES[1]
    radius = (x**OVAL_POWER + y**OVAL_POWER) ** (1 / OVAL_POWER)
    rise = np.clip((1 - radius) / FEATHER, 0, 1)
    return (rise * rise * (3 - 2 * rise)).astype(np.float32)


def paste_faces(photo: np.ndarray, faces: Sequence[PlacedFace]) -> np.ndarray:
    """A copy of the photo with the faces in it.

    Neighbours whose masks overlap share the pixels between them, whichever comes first.

    Args:
        photo: (H, W, 1 or 3), uint8 or uint16; in a grey photo the faces' luma is pasted.
        faces: of one size or of several.

    Returns:
        the same shape and type; unchanged wherever `paste_mask` is 0.
    """
    out = photo.copy()
    levels = np.iinfo(photo.dtype).max
    regions = [_region(photo.shape[:2], face) for face in faces]
    for face, region in zip(faces, regions, strict=True):
        if region.is_empty:
            continue
        mask = _place(face_mask(len(face.image)), face.matrix, region)
        total = np.zeros_like(mask)
        for other, others_region in zip(faces, regions, strict=True):
            if _overlap(region, others_region):
                total += _place(face_mask(len(other.image)), other.matrix, region)
        weight = (mask / np.maximum(1, total))[..., None]
        restored = _place(face.image, face.matrix, region)
        if photo.shape[2] == 1:
            restored = (restored @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        there, own = out[region.slices], photo[region.slices].astype(np.float32)
        change = weight * (restored * levels - own)
        inside = np.broadcast_to(weight > 0, there.shape)
        there[inside] = np.clip(np.rint(there + change), 0, levels).astype(photo.dtype)[inside]
    return out


def paste_mask(shape: tuple[int, int], faces: Sequence[PlacedFace]) -> np.ndarray:
    """Where `paste_faces` may change a photo of ``shape`` (H, W), and how much: float32 in [0, 1]."""
    total = np.zeros(shape, np.float32)
    for face in faces:
        region = _region(shape, face)
        if not region.is_empty:
            total[region.slices] += _place(face_mask(len(face.image)), face.matrix, region)
    return np.minimum(total, 1)


def _region(shape: tuple[int, int], face: PlacedFace) -> Region:
    """The photo's pixels that the face's crop may reach."""
    last = len(face.image) - 0.5
    corners = np.array([[-0.5, -0.5], [last, -0.5], [-0.5, last], [last, last]])
    placed = transform_points(corners, invert(face.matrix))
    left, top = (max(0, math.floor(value)) for value in placed.min(axis=0))
    right, bottom = (min(side, math.ceil(v) + 1) for side, v in zip(shape[::-1], placed.max(axis=0), strict=True))
    return Region(left, top, right, bottom)


def _overlap(one: Region, other: Region) -> bool:
    apart = one.right <= other.left or other.right <= one.left or one.bottom <= other.top or other.bottom <= one.top
    return not apart


def _place(crop: np.ndarray, matrix: np.ndarray, region: Region) -> np.ndarray:
    """Draw a crop (S, S, ...) where it belongs, on the pixels of ``region``; its edge goes on beyond it.

    (That of a mask is 0. A picture's edge must not darken what the mask's still shows.)

    A crop larger than its place in the photo is averaged down first, so that nothing aliases.
    """
    into_photo = invert(matrix)
    scale = math.hypot(into_photo[0, 0], into_photo[1, 0])
    if scale < 1:
        size_px, side = len(crop), max(1, math.ceil(scale * len(crop)))
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        into_photo = compose(into_photo, invert(scaling(side / size_px)))
    shift = np.array([[1.0, 0.0, -region.left], [0.0, 1.0, -region.top]])
    size = (region.right - region.left, region.bottom - region.top)
    drawn = cv2.warpAffine(
        crop, compose(shift, into_photo), size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.clip(drawn, 0, 1)
