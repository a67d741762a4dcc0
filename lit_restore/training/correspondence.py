"""Where in another photo is what a cell shows? Known from landmarks; exactly, where that photo is a moved copy.

Only the pre-training of the bundled base asks (`lit_restore.training.denoiser`): the restorer is taught with the
Gaussians of the paper. Axis letters: B batch, N = G x G cells of one grid, K landmarks.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import torch
import torch.nn.functional as F

from lit_restore.types import RestorationBatch


class Places(NamedTuple):
    """For each cell of a grid: the four cells of the other photo that surround the same spot."""

    cells: torch.Tensor
    """(B, N, 4) int64, ``y * G + x``."""
    weights: torch.Tensor
    """(B, N, 4), the squares of the bilinear weights, made to sum to 1. Bilinear ones say exactly where a spot is but
    halve the contrast of what is as small as a cell; these are at most .15 cells off and keep more of it."""
    known: torch.Tensor
    """(B, N) bool; False for what landmarks do not tell, like the background."""


def find_places(batch: RestorationBatch, grid: int) -> Places:
    """The places of a ``grid`` x ``grid`` in the first reference of each sample.

    A cell moves as the landmarks around its centre do (the nearest four, by inverse square distance), and is known if
    one of them lies within the circle around it. A landmark counts if both photos show it.
    """
    side, size = batch["hq"].shape[-1], batch["hq"].shape[-1] / grid
    centres = _pixels(_middles(grid, batch["hq"]), side)
    points, known = [], []
    for landmarks, copies, shown in zip(
        batch["landmarks"],
        batch["reference_landmarks"][:, 0],
        batch["landmark_mask"] & batch["reference_landmark_mask"][:, 0],
        strict=True,
    ):
        if not shown.any():
            points.append(centres)
            known.append(centres.new_zeros(grid**2, dtype=torch.bool))
            continue
        here, there = landmarks[shown], copies[shown]
        distance, nearest = torch.cdist(centres, here).topk(min(4, len(here)), largest=False)  # (N, 4)
        share = 1 / (distance**2 + 1e-3)
        motion = (share[..., None] * (there - here)[nearest]).sum(1) / share.sum(1, keepdim=True)
        points.append(centres + motion)
        known.append(distance[:, 0] <= size / math.sqrt(2))
    cells, weights = bilinear_cells(torch.stack(points), side, grid)
    sharper = weights.square()
    return Places(cells, sharper / sharper.sum(-1, keepdim=True), torch.stack(known))


def bilinear_cells(points: torch.Tensor, size_px: int, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The four cells whose centres surround each point, and the point's bilinear weights in them.

    Args:
        points: (..., 2) x, y in pixels of a ``size_px`` square image, pixel centres at integers.
        grid: cells per side.

    Returns:
        flat cell numbers ``y * grid + x`` (..., 4) int64 and weights (..., 4) that sum to 1; beyond the outermost
        centres the nearest ones count.
    """
    position = ((points + 0.5) * (grid / size_px) - 0.5).clamp(0, grid - 1)
    low = position.floor().clamp(max=grid - 2)
    share = position - low
    x, y = low.long().unbind(-1)
    right, down = share.unbind(-1)
    cells = torch.stack([y * grid + x, y * grid + x + 1, (y + 1) * grid + x, (y + 1) * grid + x + 1], dim=-1)
    left, up = 1 - right, 1 - down
    return cells, torch.stack([up * left, up * right, down * left, down * right], dim=-1)


def moved_copies(batch: RestorationBatch, draws: random.Random, cells: int) -> RestorationBatch:
    """The batch with every face's references replaced by the face itself, turned, scaled, shifted and recoloured.

    Turned by up to 20 degrees, scaled by up to 20 %, shifted by up to 12 % of the side, each colour channel with a
    contrast of 0.7 to 1.3 and a brightness of up to 0.3 of its own. Landmarks are the centres of a grid of ``cells`` x
    ``cells``, and known where the copy still shows them.
    """
    faces, side = batch["hq"], batch["hq"].shape[-1]
    to_source, colours = [], []
    for _ in faces:
        angle, scale = math.radians(draws.uniform(-20, 20)), draws.uniform(0.8, 1.2)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        to_source.append([[cos, -sin, draws.uniform(-0.24, 0.24)], [sin, cos, draws.uniform(-0.24, 0.24)]])
        colours.append([[draws.uniform(0.7, 1.3), draws.uniform(-0.3, 0.3)] for _ in range(3)])
    to_source = faces.new_tensor(to_source)  # (B, 2, 3), between coordinates that run from -1 to 1
    contrast, brightness = faces.new_tensor(colours)[..., None, None].unbind(2)
    grid = F.affine_grid(to_source, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    moved = (moved * contrast + brightness).clamp(-1, 1)
    centres = _middles(cells, faces)
    copies = (centres - to_source[:, None, :, 2]) @ to_source[:, :, :2].inverse().transpose(1, 2)  # (B, K, 2)
    shown = (copies.abs() <= 1).all(-1)
    return batch | {
        "references": moved[:, None],
        "reference_mask": batch["reference_mask"].new_ones(len(faces), 1),
        "landmarks": _pixels(centres, side).expand_as(copies),
        "landmark_mask": torch.ones_like(shown),
        "reference_landmarks": _pixels(copies, side)[:, None],
        "reference_landmark_mask": shown[:, None],
    }


def _middles(grid: int, like: torch.Tensor) -> torch.Tensor:
    """(N, 2) x, y of the cells' centres, row by row, in coordinates that run from -1 to 1."""
    middles = (2 * torch.arange(grid, device=like.device) + 1) / grid - 1
    return torch.cartesian_prod(middles, middles).flip(-1)


def _pixels(points: torch.Tensor, side: int) -> torch.Tensor:
    """Pixel coordinates of points between -1 and 1."""
    return ((points + 1) * side - 1) / 2
