"""The part of a picture that a face recognition network sees, cut out so that gradients pass (spec. section 9).

    crop(u) = image(T u),   T = the similarity that fits the network's five points p_k to those of the image, q_k:
    T = argmin sum_k |T p_k - q_k|^2

Sampling is bilinear between pixel centres, and 0 (mid-grey) outside of the image. As everywhere in the field the crop
is not smoothed first, although it shrinks a 512 px image almost fourfold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lit_restore.faces.alignment import ARCFACE_TEMPLATE_112, similarity, transform_points


@dataclass(frozen=True)
class FaceCrop:
    """A square and where the five points of a face lie in it."""

    name: str
    points5: np.ndarray
    """(5, 2) x, y in pixels of the square: eyes, nose tip, mouth corners in image order."""
    size_px: int

    def __str__(self) -> str:
        return f"{self.name}, {self.size_px} px"


ARCFACE_CROP = FaceCrop("ArcFace five points", ARCFACE_TEMPLATE_112, 112)

_REID_POINTS = [(0.31556875, 0.46157410714), (0.68262291666, 0.46157410714), (0.50026249999, 0.640505357)]
_REID_POINTS += [(0.349471875, 0.824691964), (0.653436458, 0.824691964)]
REID_CROP = FaceCrop("face-reidentification-retail-0095 five points", 128 * np.array(_REID_POINTS), 128)

MAX_MISFIT_PX = 8.0
"""Mean distance to the fitted ArcFace points, in pixels of their 112 px square, above which five points are no face.
Faces of all poses, photographed or synthetic, stay below 6; points in a wrong order lie above 9."""


def is_face(points5: np.ndarray) -> bool:
    """Whether five points ``(5, 2)`` have the shape of a face, in whatever size and turn."""
    if not np.isfinite(points5).all() or np.ptp(points5, axis=0).max() < 1e-3:
        return False
    matrix = similarity(ARCFACE_TEMPLATE_112, points5)
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    misfit = np.linalg.norm(transform_points(ARCFACE_TEMPLATE_112, matrix) - points5, axis=1).mean()
    return bool(misfit < MAX_MISFIT_PX * scale)


def crop_faces(images: torch.Tensor, points5: np.ndarray, crop: FaceCrop) -> torch.Tensor:
    """Cut one face out of every image.

    Args:
        images: (B, 3, H, W), any range in which 0 is mid-grey; gradients flow to them.
        points5: (B, 5, 2) x, y in pixels of the images, pixel centres at integers.

    Returns:
        (B, 3, S, S) float32, S the crop's side.
    """
    matrices = np.stack([similarity(crop.points5, points) for points in points5])
    rows, columns = np.mgrid[: crop.size_px, : crop.size_px]
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
    places = np.stack([transform_points(pixels, matrix) for matrix in matrices])  # (B, S*S, 2)
    height, width = images.shape[-2:]
    grid = torch.from_numpy(2 * places / (width - 1, height - 1) - 1).float()
    grid = grid.view(len(images), crop.size_px, crop.size_px, 2).to(images.device)
    # In float32 also under mixed precision: 8 bits are too few for pixel coordinates.
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=True)
