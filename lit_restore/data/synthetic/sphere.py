"""Stereographic coordinates of the unit sphere, and where its points lie in a frontal view of a head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.person import Head

EXTENT = 1.6
"""Grids and textures cover p and q from -1.6 to 1.6: 116 degrees from the front on every side."""
AXES = np.array([1.0, 1.53, 1.2], dtype=np.float32)
"""Half width, height and depth of the head's ellipsoid in face units ..."""
CENTRE = np.array([0.0, -0.62, 0.0], dtype=np.float32)
"""... and its centre, level with the eyes."""


@dataclass(frozen=True)
class SphereGrid:
    p: np.ndarray
    """(G, G) float32"""
    q: np.ndarray
    normal: np.ndarray
    """(G, G, 3) float32: the points of the unit sphere."""


@lru_cache(maxsize=8)
def sphere_grid(size_px: int) -> SphereGrid:
    line = ((np.arange(size_px, dtype=np.float32) + 0.5) * (2 / size_px) - 1) * EXTENT
    p, q = np.meshgrid(line.astype(np.float32), line.astype(np.float32))
    return SphereGrid(p, q, unsphere(np.stack([p, q], axis=-1)))


def unsphere(pq: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) of stereographic coordinates (..., 2)."""
    square = (pq * pq).sum(-1)
    return np.stack([2 * pq[..., 0], 2 * pq[..., 1], 1 - square], axis=-1) / (1 + square)[..., None]


def grid_position(pq: np.ndarray, size_px: int) -> np.ndarray:
    """Fractional grid indices of stereographic coordinates."""
    return (pq * (1 / EXTENT) + 1) * (size_px / 2) - 0.5


def sample_grid(grid: np.ndarray, pq: np.ndarray) -> np.ndarray:
    """Bilinear samples (N, C) of a grid (G, G, C) at (N, 2) stereographic coordinates."""
    at = grid_position(pq, grid.shape[0]).astype(np.float32)
    # OpenCV's remap indexes with 16 bits per side; one row of N points is enough for landmarks.
    sampled = cv2.remap(grid, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled[0]


def width_profile(head: Head, ny: np.ndarray) -> np.ndarray:
    """Half width of the head relative to the ellipsoid at height ``ny`` (-1 top, 1 chin) of the unit sphere."""

    def swell(centre: float, width: float, amount: float) -> np.ndarray:
        scaled = (ny - centre) / width
        return amount * np.exp(-0.5 * scaled * scaled)

    shape = swell(0.64, 0.16, head.jaw) + swell(0.22, 0.18, head.cheeks) + swell(-0.4, 0.25, head.forehead)
    # an ellipsoid is too pointed for a skull: widen its dome
    shape = shape + swell(-0.82, 0.22, 0.13)
    return head.width * (1 + shape + swell(0.93, 0.10, head.chin_width))


def frontal(head: Head, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y in face units at which points (..., 3) of the unit sphere lie in frontal view, float32."""
    ny = np.ascontiguousarray(normal[..., 1])
    x = AXES[0] * width_profile(head, ny) * normal[..., 0]
    lengthened = np.where(ny > 0, head.lower_length, 1.0)
    return x.astype(np.float32), (CENTRE[1] + AXES[1] * lengthened * ny).astype(np.float32)


def height_profile_inverse(head: Head, y: np.ndarray) -> np.ndarray:
    """The height ``ny`` of the unit sphere that lies at ``y``; inverse of `frontal`."""
    offset = (np.asarray(y) - CENTRE[1]) / AXES[1]
    return np.where(offset > 0, offset / head.lower_length, offset)


def stereographic_of(head: Head, xy: np.ndarray) -> np.ndarray:
    """(p, q) of the points of the face's front that lie at ``xy`` (..., 2) in frontal view.

    Points beyond the outline of the head are pulled back onto it.
    """
    ny = np.clip(height_profile_inverse(head, xy[..., 1]), -0.999, 0.999)
    nx = xy[..., 0] / (AXES[0] * width_profile(head, ny))
    radius = np.hypot(nx, ny)
    shrink = np.minimum(1.0, 0.985 / np.maximum(radius, 1e-9))
    nx, ny = nx * shrink, ny * shrink
    nz = np.sqrt(np.maximum(0.0, 1 - nx * nx - ny * ny))
    return np.stack([nx, ny], axis=-1) / (1 + nz)[..., None]


@lru_cache(maxsize=64)
def face_window(head: Head, box: tuple[float, float, float, float], size_px: int) -> tuple[slice, slice]:
    """Rows and columns of a texture that hold the frontal box (left, top, right, bottom), face units."""
    left, top, right, bottom = box
    edge = np.linspace(0, 1, 5)
    xs, ys = left + (right - left) * edge, top + (bottom - top) * edge
    around = np.array([(x, y) for x in xs for y in (top, bottom)] + [(x, y) for x in (left, right) for y in ys])
    at = grid_position(stereographic_of(head, around), size_px)
    (first_column, first_row), (last_column, last_row) = np.floor(at.min(0)), np.ceil(at.max(0)) + 1
    rows, columns = np.clip([[first_row, last_row], [first_column, last_column]], 0, size_px).astype(int)
    return slice(rows[0], rows[1]), slice(columns[0], columns[1])
