"""From 68 semantic face points to 1,349 dense ones, by fixed barycentric weights.

The paper supervises attention with 1,349 landmarks per face but releases neither detector nor indices
(specification of InstantRestore, section 12); any dense, consistently ordered set serves. Ours is derived from the
68 points of iBUG-68, which every common detector and our renderer give: a fixed triangulation of a canonical face,
in whose triangles 1,281 further points lie evenly by area. All of it is integer arithmetic on the tables below, so
point k is the same place of the face on every machine.
"""

from __future__ import annotations

import numpy as np

NUM_DENSE = 1349

# Average of near-frontal detections, made left-right symmetric; hundredths, x right, y down, face box about +-100.
# Lips are slightly open and eyes open, so that no triangle is degenerate.
_LEFT_AND_MIDDLE = {
    # jaw, from the ear at image left to the chin
    **{0: (-99, -62), 1: (-97, -35), 2: (-93, -11), 3: (-88, 11), 4: (-79, 36), 5: (-66, 55), 6: (-51, 68)},
    **{7: (-31, 82), 8: (0, 91)},
    # brow
    **{17: (-78, -82), 18: (-66, -89), 19: (-51, -91), 20: (-37, -90), 21: (-25, -85)},
    # nose: ridge, then base
    **{27: (0, -59), 28: (0, -42), 29: (0, -26), 30: (0, -11), 31: (-16, -3), 32: (-9, -1), 33: (0, 2)},
    # eye, clockwise from the outer corner
    **{36: (-58, -63), 37: (-50, -66), 38: (-37, -67), 39: (-26, -61), 40: (-36, -58), 41: (-49, -58)},
    # lips: outer upper, outer lower, inner
    **{48: (-39, 27), 49: (-25, 21), 50: (-8, 17), 51: (0, 19), 57: (0, 44), 58: (-12, 43), 59: (-24, 37)},
    **{60: (-36, 27), 61: (-12, 23), 62: (0, 23), 66: (0, 35), 67: (-11, 34)},
}

# Entry k is the point that k becomes when the face is mirrored.
_MIRROR = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)

# The image-left half: Delaunay, with the lip contours kept as edges.
_HALF_TRIANGLES = (
    *((0, 17, 36), (0, 36, 1), (1, 36, 41), (1, 41, 2), (2, 31, 48), (2, 41, 31), (2, 48, 3), (3, 48, 4)),
    *((4, 48, 5), (5, 48, 6), (6, 48, 59), (6, 59, 7), (7, 59, 58), (7, 58, 8), (8, 58, 57)),
    *((17, 18, 36), (18, 19, 37), (18, 37, 36), (19, 20, 37), (20, 21, 38), (20, 38, 37), (21, 39, 38)),
    *((21, 27, 39), (27, 28, 39), (28, 29, 40), (28, 40, 39), (29, 30, 31), (29, 31, 40), (31, 41, 40)),
    *((30, 32, 31), (30, 33, 32), (31, 32, 50), (32, 33, 50), (33, 51, 50), (31, 50, 49), (31, 49, 48)),
    *((36, 37, 41), (37, 38, 41), (38, 40, 41), (38, 39, 40)),
    *((48, 49, 60), (49, 61, 60), (49, 50, 61), (50, 62, 61), (50, 51, 62)),
    *((48, 60, 59), (59, 60, 67), (58, 59, 67), (58, 67, 66), (57, 58, 66)),
    *((60, 61, 67), (61, 66, 67), (61, 62, 66)),
)
_MIDDLE_TRIANGLE = (21, 22, 27)

# Steps of the additive recurrence whose points fill a square evenly (1/p and 1/p^2 with p^3 = p + 1), in 2^-16.
_UNIT = 1 << 16
_STEP_U, _STEP_V = 49471, 37345


def _canonical_points() -> np.ndarray:
    """(68, 2) int, hundredths."""
    points = np.zeros((68, 2), dtype=np.int64)
    for index, (x, y) in _LEFT_AND_MIDDLE.items():
        points[index] = x, y
        points[_MIRROR[index]] = -x, y
    return points


_POINTS = _canonical_points()


def _double_area(triangle: tuple[int, int, int]) -> int:
    """Twice the area of a triangle in the integer units of the table."""
    (ax, ay), (bx, by), (cx, cy) = _POINTS[list(triangle)].tolist()
    return abs((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))


def _points_per_triangle() -> list[int]:
    """How many of the 1,281 points each half triangle gets (its mirror gets as many); last: the middle one.

    Proportional to area, rounded by largest remainder (ties: earlier triangle). The middle triangle takes the odd
    point left over by the mirrored pairs.
    """
    areas = [_double_area(t) for t in _HALF_TRIANGLES]
    middle = _double_area(_MIDDLE_TRIANGLE)
    num_new = NUM_DENSE - 68
    num_middle = num_new * middle // (2 * sum(areas) + middle)
    num_middle += (num_new - num_middle) % 2
    num_half = (num_new - num_middle) // 2
    counts = [num_half * area // sum(areas) for area in areas]
    remainders = [num_half * area % sum(areas) for area in areas]
    by_remainder = sorted(range(len(areas)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: num_half - sum(counts)]:
        counts[i] += 1
    return [*counts, num_middle]


def _even_barycentrics(count: int) -> list[tuple[int, int, int]]:
    """``count`` integer barycentric triples of sum 2^16, spread evenly in a triangle."""
    triples = []
    for k in range(1, count + 1):
        u, v = (_UNIT // 2 + k * _STEP_U) % _UNIT, (_UNIT // 2 + k * _STEP_V) % _UNIT
        if u + v > _UNIT:  # the other half of the unit square, folded over the diagonal
            u, v = _UNIT - u, _UNIT - v
        triples.append((_UNIT - u - v, u, v))
    return triples


def _dense_table() -> tuple[np.ndarray, np.ndarray]:
    corners = [(i, i, i) for i in range(68)]
    weights = [(_UNIT, 0, 0)] * 68
    *half_counts, num_middle = _points_per_triangle()
    for triangle, count in zip(_HALF_TRIANGLES, half_counts, strict=True):
        mirrored = tuple(_MIRROR[i] for i in triangle)
        for chosen in (triangle, mirrored):
            corners += [chosen] * count
            weights += _even_barycentrics(count)
    corners += [_MIDDLE_TRIANGLE] * num_middle
    weights += _even_barycentrics(num_middle)
    return np.array(corners), np.array(weights) / _UNIT


POINTS_68: np.ndarray = _POINTS / 100
"""(68, 2) float64: the canonical frontal face in iBUG-68 order; left-right symmetric, within [-1, 1]."""

TRIANGLES_68: np.ndarray = np.array(
    [
        *_HALF_TRIANGLES,
        *(tuple(_MIRROR[i] for i in t) for t in _HALF_TRIANGLES),
        _MIDDLE_TRIANGLE,
    ]
)
"""(T, 3) int: triangles between the 68 points; they cover the face once."""

DENSE_TRIANGLES, DENSE_WEIGHTS = _dense_table()
"""(1349, 3) int point indices and (1349, 3) float64 weights of sum 1; the first 68 rows are the 68 points."""


def densify(points: np.ndarray) -> np.ndarray:
    """68 points to 1,349.

    Args:
        points: (..., 68, D) in iBUG-68 order, any units, D = 2 or 3.

    Returns:
        (..., 1349, D) float64; entries 0 to 67 equal ``points``.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim < 2 or points.shape[-2] != 68:
        raise ValueError(f"expected (..., 68, D) points, got {points.shape}")
    return np.einsum("...kcd,kc->...kd", points[..., DENSE_TRIANGLES, :], DENSE_WEIGHTS)
