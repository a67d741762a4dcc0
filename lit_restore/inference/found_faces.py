"""The faces of a photo, cut out as the networks want them: in the FFHQ frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lit_restore.faces.alignment import (
    FFHQ_TEMPLATE_512,
    compose,
    ffhq_template,
    is_aligned,
    scaling,
    similarity,
    transform_points,
    warp,
)
from lit_restore.faces.detect import detector_version, find_faces
from lit_restore.faces.weights import RETINAFACE, locate
from lit_restore.image import fit_square
from lit_restore.inference.face_quality import detail_px

Alignment = Literal["auto", "yes", "no"]
"""Whether photos are already aligned faces; ``auto`` finds out."""

VIEW_PX = 256
"""Side of the picture in which faces are compared: more than any recognition network takes (179 of 256 pixels become
128), and the same for every restorer, so that similarities do not depend on its resolution."""

COARSE_PX = VIEW_PX / 4
"""Of real photos degraded as ``ffhqref_severe``, which leaves 34 to 64 pixels of detail, 96 % are less like their own
person than `lit_restore.inference.identity` asks for; of those shrunk by 8, which leaves 64 to 108, none."""


@dataclass(frozen=True)
class FoundFace:
    """One face."""

    crop: np.ndarray
    """uint8 RGB (S, S, 3), S the restorer's resolution, grey where the photo ends."""
    view: np.ndarray
    """uint8 RGB (V, V, 3), V = `VIEW_PX`: the same part of the photo."""
    points5: np.ndarray
    """(5, 2) in pixels of ``view``."""
    matrix: np.ndarray
    """(2, 3) from pixels of the photo to pixels of ``crop``."""
    box_xyxy: tuple[int, int, int, int]
    """In the photo; all of it for an aligned one."""

    @property
    def side_px(self) -> float:
        """Side of the crop in pixels of the photo."""
        return len(self.crop) / math.hypot(self.matrix[0, 0], self.matrix[1, 0])

    @property
    def is_too_coarse_to_recognise(self) -> bool:
        """Whether so little of the face is left that a recognition network cannot tell its owner from others."""
        return detail_px(self.view) <= COARSE_PX

    @property
    def text(self) -> str:
        """Size and place of the box."""
        left, top, right, bottom = self.box_xyxy
        return f"{right - left}x{bottom - top} px at left {left}, top {top}"


@dataclass(frozen=True)
class FacesOfPhoto:
    """What a search gave."""

    faces: list[FoundFace]
    """Largest first; none if the photo shows none."""
    is_aligned: bool
    """The photo is one aligned face itself."""
    assumed: str | None = None
    """Why the photo was taken as an aligned face without anybody having seen one in it."""


@dataclass(frozen=True)
class FaceFinder:
    """Finds and cuts out faces.

    Args:
        size_px: side of the crops.
        weights: folder with the detector's weights, before the usual ones.
        device: where the detector runs.
    """

    size_px: int
    weights: str | Path | None = None
    device: str = "cpu"

    @property
    def settings(self) -> dict[str, object]:
        """What decides, besides the photo, where its faces are and how they are cut out."""
        version = detector_version(weights=self.weights)
        return {"detector": version, "device": self.device, "size_px": self.size_px, "view_px": VIEW_PX}

    def __call__(self, image: np.ndarray, aligned: Alignment = "auto") -> FacesOfPhoto:
        """Faces of a photo, uint8 RGB (H, W, 3).

        Raises:
            UserError: the detector's weights are missing or damaged.
        """
        height, width = image.shape[:2]
        if aligned == "yes":
            return FacesOfPhoto([self._whole(image)], True)
        maybe_aligned = aligned == "auto" and height == width
        if maybe_aligned and locate(RETINAFACE, self.weights) is None:
            return FacesOfPhoto([self._whole(image)], True, "no face detector is at hand")
        found = find_faces(image, weights=self.weights, device=self.device)
        if maybe_aligned and not found:
            return FacesOfPhoto([self._whole(image)], True, "the face detector sees none in them")
        if maybe_aligned:
            for face in found:
                if is_aligned(face.points5, width):
                    return FacesOfPhoto([self._whole(image, face.points5)], True)
        return FacesOfPhoto([self._cut(image, face.points5, face.box_xyxy) for face in found], False)

    def _whole(self, image: np.ndarray, points5: np.ndarray | None = None) -> FoundFace:
        height, width = image.shape[:2]
        seen = ffhq_template(VIEW_PX)
        if points5 is not None:
            seen = transform_points(points5, scaling(VIEW_PX / width))
        view = fit_square(image, VIEW_PX)
        crop = fit_square(image, self.size_px)
        return FoundFace(crop, view, seen, scaling(self.size_px / min(height, width)), (0, 0, width, height))

    def _cut(self, image: np.ndarray, points5: np.ndarray, box_xyxy: np.ndarray) -> FoundFace:
        into_frame = similarity(points5, FFHQ_TEMPLATE_512)
        into_crop = compose(scaling(self.size_px / 512), into_frame)
        into_view = compose(scaling(VIEW_PX / 512), into_frame)
        left, top, right, bottom = (round(float(edge)) for edge in box_xyxy)
        return FoundFace(
            warp(image, into_crop, self.size_px),
            warp(image, into_view, VIEW_PX),
            transform_points(points5, into_view),
            into_crop,
            (left, top, right, bottom),
        )
