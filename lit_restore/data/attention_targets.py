"""Where should a query look? Gaussian attention targets from landmarks (InstantRestore, landmark attention
supervision).

A landmark of the target photo says which query cell it is in, the same landmark of a reference photo where in
the reference that query should look: a 2-D Gaussian, peak 1, sigma = grid/32 cells, around the landmark's
cell. Only the rows of cells with a landmark exist; the (HW, HW) map is never made. Source: instantrestore.md
section 10.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

CHUNK = 1024  # landmarks per step; bounds the scratch memory at 16 MB for a 64 x 64 grid


class TargetRows(NamedTuple):
    """The supervised rows of a batch of attention maps, K in all."""

    batch: torch.Tensor
    """(K,) int64, sample of each row."""
    query: torch.Tensor
    """(K,) int64, query cell ``y * grid + x``; rows are sorted by (batch, query)."""
    values: torch.Tensor
    """(K, grid*grid) float32 over key cells; several landmarks in one query cell add up, so a peak may exceed
    1."""


def landmark_cells(points: torch.Tensor, size_px: int, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Grid cell of each landmark.

    Args:
        points: (..., 2) x, y in pixels of a ``size_px`` square image.
        grid: cells per side of the attention map.

    Returns:
        cells (..., 2) int64, x and y, and whether they are inside the grid (...) bool.
    """
    if size_px % grid:
        raise ValueError(f"the image side ({size_px} px) must be a multiple of the grid ({grid} cells)")
    cells = torch.floor(points / (size_px // grid)).long()
    return cells, ((cells >= 0) & (cells < grid)).all(-1)


def gaussian_rows(
    query_points: torch.Tensor,
    reference_points: torch.Tensor,
    *,
    size_px: int,
    grid: int,
    query_mask: torch.Tensor | None = None,
    reference_mask: torch.Tensor | None = None,
    variant: str = "corrected",
) -> TargetRows:
    """Attention targets of one reference per sample at one resolution.

    Args:
        query_points: (B, L, 2) landmarks of the target photo, x and y in pixels.
        reference_points: (B, L, 2) the same landmarks in the reference photo.
        size_px: side of both images.
        grid: side of the attention map in cells (16, 32, 64 at 512 px).
        query_mask, reference_mask: (B, L) bool, True = known; both must hold for a landmark to count.
        variant: ``corrected``, keys row-major (y, x), landmarks outside the image rejected; or ``official``,
            as in the
            public code: keys transposed (x, y) and negative coordinates wrapping to other rows (section 10,
                bugs 1, 2).

    Returns:
        The rows that have at least one landmark.
    """
    if variant not in ("corrected", "official"):
        raise ValueError(f"variant must be 'corrected' or 'official', not {variant!r}")
    query, query_inside = landmark_cells(query_points, size_px, grid)
    key, key_inside = landmark_cells(reference_points, size_px, grid)
    if variant == "official":
        query_inside, key_inside = (query < grid).all(-1), (key < grid).all(-1)
        key = key.flip(-1)
    keep = query_inside & key_inside
    for mask in (query_mask, reference_mask):
        if mask is not None:
            keep = keep & mask
    batch, _ = torch.nonzero(keep, as_tuple=True)
    query, key = query[keep], key[keep]
    # The remainder only acts on the official variant's negative rows, where it is Python's negative index.
    flat = batch * grid**2 + torch.remainder(query[:, 1] * grid + query[:, 0], grid**2)
    rows, row_of_landmark = torch.unique(flat, return_inverse=True)
    values = torch.zeros(len(rows), grid**2, device=query_points.device)
    for start in range(0, len(key), CHUNK):
        part = slice(start, start + CHUNK)
        values.index_add_(0, row_of_landmark[part], _gaussians(key[part], grid))
    return TargetRows(rows // grid**2, rows % grid**2, values)


def _gaussians(cells: torch.Tensor, grid: int) -> torch.Tensor:
    """(K, 2) x, y cells -> (K, grid*grid), row-major; the product of a Gaussian over y and one over x."""
    axis = torch.arange(grid, device=cells.device)
    along = torch.exp(-0.5 * ((axis - cells[..., None]) / (grid / 32)) ** 2)  # (K, 2, grid)
    return (along[:, 1, :, None] * along[:, 0, None, :]).flatten(1)
