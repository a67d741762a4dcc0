"""The dense landmark scheme: exact, symmetric, even, and the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lit_restore.data.canonical_face import (
    DENSE_TRIANGLES,
    DENSE_WEIGHTS,
    NUM_DENSE,
    POINTS_68,
    TRIANGLES_68,
    densify,
)


def _areas() -> np.ndarray:
    a, b, c = (POINTS_68[TRIANGLES_68[:, k]] for k in range(3))
    return 0.5 * np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def _outline_area() -> float:
    outline = POINTS_68[[*range(17), *range(26, 16, -1)]]
    x, y = outline.T
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


def test_canonical_face_is_symmetric_and_in_ibug_order() -> None:
    assert POINTS_68.shape == (68, 2)
    assert np.abs(POINTS_68).max() <= 1.0
    mirrored = POINTS_68 * [-1, 1]
    distance = np.abs(mirrored[:, None] - POINTS_68[None]).sum(-1)
    partner = distance.argmin(1)
    assert distance.min(1).max() == 0.0
    assert [partner[k] for k in (0, 36, 48, 8, 31)] == [16, 45, 54, 8, 35]
    assert np.all(np.diff(POINTS_68[:17, 0]) > 0)  # the jaw runs from image left to image right
    assert POINTS_68[36, 0] < 0 < POINTS_68[45, 0]
    assert POINTS_68[19, 1] < POINTS_68[37, 1] < POINTS_68[33, 1] < POINTS_68[51, 1] < POINTS_68[8, 1]  # y is down


def test_triangles_cover_the_face_exactly_once() -> None:
    assert _areas().min() > 0
    assert _areas().sum() == pytest.approx(_outline_area(), abs=1e-12)
    edges = np.sort(np.concatenate([TRIANGLES_68[:, [0, 1]], TRIANGLES_68[:, [1, 2]], TRIANGLES_68[:, [2, 0]]]), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert uses.max() == 2  # inner edges have two triangles,
    assert (uses == 1).sum() == 27  # and the outline (17 jaw points, 10 brow points) has one


def test_weights_are_barycentric_and_keep_the_68_points() -> None:
    assert DENSE_TRIANGLES.shape == DENSE_WEIGHTS.shape == (NUM_DENSE, 3)
    assert np.all(DENSE_WEIGHTS >= 0)
    np.testing.assert_array_equal(DENSE_WEIGHTS.sum(1), 1.0)
    points = np.random.default_rng(0).normal(size=(3, 68, 2))
    np.testing.assert_array_equal(densify(points)[:, :68], points)


def test_dense_points_are_distinct_inside_and_evenly_spread() -> None:
    dense = densify(POINTS_68)
    distance = np.linalg.norm(dense[:, None] - dense[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.min(1)
    assert nearest.min() > 0.002
    even = np.sqrt(_areas().sum() / NUM_DENSE)
    assert 0.5 * even < np.median(nearest) < even
    # every new point lies strictly inside its triangle, so inside the face
    assert DENSE_WEIGHTS[68:].min() > 0
    # as many points as area: left against right exactly, upper half against lower half closely
    assert (dense[:, 0] < -1e-12).sum() == pytest.approx((dense[:, 0] > 1e-12).sum(), abs=29)


def test_densify_commutes_with_affine_maps_in_any_dimension() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(2, 5, 68, 3))
    matrix, shift = rng.normal(size=(3, 3)), rng.normal(size=3)
    np.testing.assert_allclose(densify(points @ matrix + shift), densify(points) @ matrix + shift, atol=1e-12)
    np.testing.assert_array_equal(densify(points[..., :2]), densify(points)[..., :2])


def test_point_k_is_the_same_place_everywhere() -> None:
    """The numbering is part of the data format: landmarks on disk and trained weights rely on it."""
    table = np.concatenate([DENSE_TRIANGLES, np.rint(DENSE_WEIGHTS * 65536).astype(np.int64)], axis=1)
    digest = hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()
    assert digest == "ea6c03872f0e4e19af7032c358025f29090ce0e63249f6aa5953f540c5009af3"


def test_wrong_number_of_points_is_refused() -> None:
    with pytest.raises(ValueError, match="68"):
        densify(np.zeros((5, 2)))
