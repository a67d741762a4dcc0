from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lit_restore.errors import UserError
from lit_restore.faces.alignment import (
    ARCFACE_TEMPLATE_112,
    BORDER_RGB,
    FFHQ_TEMPLATE_512,
    compose,
    ffhq_template,
    invert,
    is_aligned,
    points_5_from_68,
    scaling,
    similarity,
    template_distance,
    transform_points,
    warp,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "faces"


def rotation(degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


def test_similarity_recovers_an_exact_transform() -> None:
    matrix = rotation(33, 0.37, (120, -45))
    target = transform_points(FFHQ_TEMPLATE_512, matrix)
    np.testing.assert_allclose(similarity(FFHQ_TEMPLATE_512, target), matrix, atol=1e-10)


def test_similarity_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(68, 2)) * 50
    target = rng.normal(size=(68, 2)) * 80 + 200
    # Independent: a similarity is linear in (a, b, tx, ty) with u = a x - b y + tx, v = b x + a y + ty.
    x, y, one, zero = source[:, 0], source[:, 1], np.ones(68), np.zeros(68)
    rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, tx, ty = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


def test_similarity_never_reflects() -> None:
    mirrored = FFHQ_TEMPLATE_512 * (-1, 1)
    assert np.linalg.det(similarity(mirrored, FFHQ_TEMPLATE_512)[:, :2]) > 0


def test_template_to_image_inverted_gives_the_identity_crop_of_instantrestore() -> None:
    fixture = json.loads((FIXTURES / "identity_crop.json").read_text())
    for points, expected in zip(fixture["landmarks"], fixture["matrices"], strict=True):
        np.testing.assert_allclose(invert(similarity(ARCFACE_TEMPLATE_112, points)), expected, atol=1e-4)
        # On noisy points the other direction is another transform.
        assert np.abs(similarity(points, ARCFACE_TEMPLATE_112) - expected).max() > 0.01


@pytest.mark.parametrize("points", [np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_points_without_extent_are_refused(points: np.ndarray) -> None:
    with pytest.raises(UserError, match="cannot be aligned"):
        similarity(points, FFHQ_TEMPLATE_512)


def test_invert_undoes_and_refuses_a_squeezed_plane() -> None:
    matrix = rotation(-70, 2.5, (3, 4))
    np.testing.assert_allclose(compose(invert(matrix), matrix), np.eye(2, 3), atol=1e-12)
    with pytest.raises(UserError, match="cannot be undone"):
        invert(np.zeros((2, 3)))


def test_compose_applies_the_inner_transform_first() -> None:
    points = np.array([[1.0, 2.0], [30.0, -4.0]])
    outer, inner = rotation(20, 2, (1, 2)), rotation(-50, 0.3, (9, 8))
    expected = transform_points(transform_points(points, inner), outer)
    np.testing.assert_allclose(transform_points(points, compose(outer, inner)), expected)


def test_scaling_keeps_the_picture_edges() -> None:
    corners = np.array([[-0.5, -0.5], [511.5, 511.5]])
    np.testing.assert_allclose(transform_points(corners, scaling(0.25)), [[-0.5, -0.5], [127.5, 127.5]])
    np.testing.assert_allclose(ffhq_template(512), FFHQ_TEMPLATE_512)


def test_warp_by_identity_is_the_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), 40), image)


def test_warp_moves_x_to_x_and_fills_with_grey() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[4, 12] = 255
    moved = warp(image, np.array([[1.0, 0, -7], [0, 1, 9]]), 24)
    assert np.unravel_index(moved[..., 0].argmax(), (24, 24)) == (4 + 9, 12 - 7)
    np.testing.assert_array_equal(moved[0, 0], BORDER_RGB)


def test_warp_shrinks_by_averaging() -> None:
    image = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    blocks = image.reshape(32, 3, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(warp(image, scaling(1 / 3), 32), blocks, atol=0.51)


def test_warp_shrinking_at_an_angle_does_not_alias() -> None:
    # The finest pattern there is: anything but mid-grey after shrinking is a moiré.
    fine = ((np.indices((400, 400)).sum(0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    centre = np.array([[1.0, 0, -199.5], [0, 1, -199.5]])
    for scale in (0.5, 0.3, 0.1):
        matrix = compose(rotation(17, scale, (9.5, 9.5)), centre)
        shrunk = warp(fine, matrix, 20).astype(float)
        assert np.abs(shrunk - 127.5).max() < 25


def test_points_5_from_68() -> None:
    points = np.stack([np.arange(68.0), -np.arange(68.0)], axis=-1)
    np.testing.assert_allclose(points_5_from_68(points)[:, 0], [38.5, 44.5, 30, 48, 54])
    assert points_5_from_68(np.zeros((4, 68, 2))).shape == (4, 5, 2)


def test_is_aligned_within_four_percent_of_the_side() -> None:
    for size_px in (128, 512):
        template = ffhq_template(size_px)
        assert is_aligned(template + np.array([0.03, 0]) * size_px, size_px)
        assert not is_aligned(template + np.array([0, 0.05]) * size_px, size_px)
        assert template_distance(template + np.array([0, 0.05]) * size_px, size_px) == pytest.approx(0.05)
