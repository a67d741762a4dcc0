"""Hair on the head: where it grows, how thick it is, and how its strands look."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import bump, inside, lattice_noise, length, ramp
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.sphere import EXTENT, SphereGrid, sphere_grid


def hair_distance(who: Person, grid: SphereGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to the hairline in face units, positive where hair grows."""
    style = who.hair.shape
    # how far forward around the vertical axis: 1 front, 0 side, -1 back
    depth = grid.normal[..., 2] / (length(grid.normal[..., 0], grid.normal[..., 2]) + np.float32(1e-6))
    side = np.abs(x)
    hairline = style.front_y - style.recede * bump(side, 0.46, 0.17) + style.sweep * x * ramp(side, 0.0, 0.5)
    hairline += 0.9 * np.square(np.clip(side - 0.42, 0, None))  # bends down towards the temples
    if style.flow == "frame":  # opens upwards at the parting
        hairline -= 0.16 * bump(x, 2 * parting(who), 0.22)
    top = np.minimum(hairline - y, 0.5)
    if style.covers_ears:
        reach = style.side * (0.55 + 0.45 * ramp(y, -1.2, -0.5))
    else:
        reach = style.side + 0.12 * ramp(y, -0.7, -1.2) - 0.04 * ramp(y, -0.6, -0.35)
    temple = np.minimum((reach - depth) * 0.8, style.side_bottom - y)
    nape = np.minimum(-0.35 - depth, 0.6 - y)  # the back of the head
    return np.maximum(np.maximum(top, temple), nape)


def hair_coverage(who: Person, grid: SphereGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(G, G) float32 in [0, 1]: how much of the skin the hair hides, ragged along the hairline."""
    style = who.hair.shape
    if style.density == 0:
        return np.zeros_like(x)
    distance = hair_distance(who, grid, x, y)
    if who.hair.style == "headscarf":
        return inside(distance, 0.02)
    grain = strands(who, grid.p.shape[0]) if style.curl < 0.7 else _curls(who, grid)
    return style.density * ramp(distance + (0.02 + 0.02 * (style.front_y > -1.2)) * grain, -0.04, 0.07)


def hair_thickness(who: Person, grid: SphereGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(G, G) float32: height of the hair above the skull in face units.

    At most 0.1: the outline of fuller hair is drawn behind the head (`backdrop.hair_outline`), because a steep rise
    near the head's outline has no stable intersection with the viewing rays.
    """
    style = who.hair.shape
    if style.density == 0:
        return np.zeros_like(x)
    body = ramp(hair_distance(who, grid, x, y), -0.05, 0.30)
    up = ramp(grid.normal[..., 1], -0.15, -0.75)
    thickness = min(style.side_volume, 0.05) * (1 - up) + min(style.volume, 0.10) * up
    size = (grid.p.shape[0], grid.p.shape[1])
    tufts = lattice_noise(who.hair.noise_seed, (16, 16), size, "tufts")
    return (body * thickness * np.maximum(1 + (0.12 + 0.15 * style.curl) * tufts, 0.3)).astype(np.float32)


def hair_tone(who: Person, grid: SphereGrid, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(G, G) float32 near 1: brightness of the strands relative to the hair's colour."""
    if who.hair.style == "headscarf":
        return _folds(who, grid, y)
    curl = who.hair.shape.curl
    tone = 1 + (1 - curl) * 0.17 * strands(who, grid.p.shape[0]) + curl * 0.28 * _curls(who, grid)
    if who.hair.shape.flow == "frame":
        line = bump(grid.p, parting(who), 0.012) + 0.5 * bump(grid.p, parting(who), 0.06)
        tone = tone * (1 - 0.4 * line * ramp(y, -1.2, -1.35))
    return np.clip(tone, 0.35, 1.9)


def parting(who: Person) -> float:
    """p of the line where parted hair divides."""
    return 1.2 * who.hair.shape.sweep


@lru_cache(maxsize=1)  # asked for twice while a texture is painted
def strands(who: Person, size_px: int) -> np.ndarray:
    """Noise drawn out along the strands; wavy hair bends them."""
    style, seed, grid = who.hair.shape, who.hair.noise_seed, sphere_grid(size_px)
    rows = 40  # four per cell: along the strands nothing is fine
    table = 0.6 * lattice_noise(seed, (10, 420), (rows, 1680))
    table = table + 0.5 * lattice_noise(seed, (6, 110), (rows, 1680), "locks")
    if style.flow == "fall":
        across, down = grid.p - 1.6 * style.sweep, grid.q + 2.1
    else:
        across, down = grid.p - parting(who), -(grid.q + 0.15)
    angle, radius = np.arctan2(across, down), np.sqrt(across * across + down * down)
    if style.curl > 0:
        angle = angle + 0.06 * style.curl * np.sin(9.0 * radius + 3.0 * across)
        radius = radius + 0.05 * style.curl * np.sin(7.0 * angle)
    along, between = (angle, radius * 1.1) if style.flow == "frame" else (radius, angle)
    map_x = np.clip(between * (840 / 2.0) + 840, 0, 1679).astype(np.float32)
    map_y = np.clip(np.abs(along) * (rows / 4.2) - 0.375, 0, rows - 1).astype(np.float32)
    return cv2.remap(table, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _curls(who: Person, grid: SphereGrid) -> np.ndarray:
    size = (grid.p.shape[0], grid.p.shape[1])
    fine = lattice_noise(who.hair.noise_seed, (90, 90), size, "curls")
    coarse = lattice_noise(who.hair.noise_seed, (44, 44), size, "curls coarse")
    return 0.75 * fine + 0.6 * coarse


def _folds(who: Person, grid: SphereGrid, y: np.ndarray) -> np.ndarray:
    """Soft folds of cloth that run around the face."""
    size = (grid.p.shape[0], grid.p.shape[1])
    radius = length(grid.p, grid.q + 0.25)
    wobble = 0.12 * lattice_noise(who.hair.noise_seed, (7, 7), size, "folds")
    return 1 + 0.10 * np.sin(26 * (radius / EXTENT + wobble)) * ramp(radius, 0.75, 1.0)
