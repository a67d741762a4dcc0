"""Face crops against InstantRestore's own numbers, OpenCV and closed forms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import pictures
from safetensors.torch import load_file

from lit_restore.faces.alignment import ARCFACE_TEMPLATE_112, ffhq_template, invert, similarity, transform_points
from lit_restore.faces.crop import ARCFACE_CROP, REID_CROP, FaceCrop, crop_faces, is_face

FIXTURE = Path(__file__).parents[1] / "fixtures" / "instantrestore_math" / "identity_crop.safetensors"


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    return load_file(FIXTURE)


def smooth(seed: int, side_px: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(pictures(seed, 1, 3, 8, 8), (side_px, side_px), mode="bicubic").clamp(-1, 1)


def test_matrices_of_the_official_code(official: dict[str, torch.Tensor]) -> None:
    for points, matrix in zip(official["id.landmarks"].double().numpy(), official["id.matrices"], strict=True):
        np.testing.assert_allclose(invert(similarity(ARCFACE_TEMPLATE_112, points)), matrix, atol=1e-4)


def test_crops_of_the_official_code(official: dict[str, torch.Tensor]) -> None:
    image = official["id.image_u8"].float() / 127.5 - 1
    crops = crop_faces(image.expand(3, -1, -1, -1), official["id.landmarks"].double().numpy(), ARCFACE_CROP)
    torch.testing.assert_close(crops, official["id.crops"].float(), atol=1e-3, rtol=0)


def test_points_at_their_places_leave_the_picture_as_it_is() -> None:
    for crop in (ARCFACE_CROP, REID_CROP):
        images = pictures(0, 2, 3, crop.size_px, crop.size_px)
        points = np.stack([crop.points5, crop.points5 + np.array([3.0, -2.0])])
        crops = crop_faces(images, points, crop)
        torch.testing.assert_close(crops[0], images[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(crops[1, :, 2:, :-3], images[1, :, :-2, 3:], atol=1e-4, rtol=0)
        assert torch.equal(crops[1, :, 0, :], torch.zeros(3, crop.size_px))  # two rows above the picture: mid-grey


def test_equals_opencv_on_a_turned_face() -> None:
    image = smooth(0, 256)
    angle, scale = np.deg2rad(25), 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ARCFACE_TEMPLATE_112 @ turn.T + (60, 20)
    matrix = similarity(ARCFACE_TEMPLATE_112, points)
    expected = cv2.warpAffine(
        image[0].permute(1, 2, 0).numpy(), matrix, (112, 112), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    crop = crop_faces(image, points[None], ARCFACE_CROP)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(crop, expected, atol=4e-3)  # OpenCV samples at 1/32 of a pixel


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    image = smooth(1, 112)
    mirrored = ARCFACE_TEMPLATE_112[[1, 0, 2, 4, 3]] * (-1, 1) + (111, 0)
    crop = crop_faces(image.flip(3), mirrored[[1, 0, 2, 4, 3]][None], ARCFACE_CROP)
    upright = similarity(ARCFACE_TEMPLATE_112, mirrored[[1, 0, 2, 4, 3]])
    assert np.linalg.det(upright[:, :2]) > 0
    assert (crop - image).abs().mean() > 0.1


def test_gradient_reaches_exactly_the_pixels_that_were_looked_at() -> None:
    images = smooth(2, 256).repeat(2, 1, 1, 1).requires_grad_()
    points = np.stack([ffhq_template(256), ffhq_template(256) + 10])
    crop_faces(images, points, ARCFACE_CROP)[0].sum().backward()
    assert images.grad[1].abs().max() == 0
    assert images.grad[0].abs().sum() > 0
    for corner, row, column in ((0, 0, 0), (111, -1, -1)):
        place = transform_points([corner, corner], similarity(ARCFACE_TEMPLATE_112, points[0]))
        assert place.min() > 0
        assert place.max() < 255
        assert images.grad[0, :, row, column].abs().max() == 0  # outside of the crop
    pixel = np.floor(transform_points([56, 56], similarity(ARCFACE_TEMPLATE_112, points[0]))).astype(int)
    assert (images.grad[0, :, pixel[1], pixel[0]] > 0).all()


def test_mixed_precision_does_not_move_the_crop() -> None:
    image, points = smooth(3, 256), ffhq_template(256)[None]
    expected = crop_faces(image, points, ARCFACE_CROP)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crop_faces(image, points, ARCFACE_CROP), expected)
    coarse = crop_faces(image.bfloat16(), points, ARCFACE_CROP)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, expected, atol=1e-2, rtol=0)


def test_the_small_network_sees_the_middle_seven_tenths_of_an_aligned_face() -> None:
    """Its known shortcut is [77:435] of 512 pixels."""
    matrix = similarity(REID_CROP.points5, ffhq_template(512))
    corners = transform_points([[-0.5, -0.5], [127.5, 127.5]], matrix)
    np.testing.assert_allclose(corners, [[76.5, 76.5], [434.5, 434.5]], atol=1.5)


def test_which_points_are_a_face() -> None:
    turn = np.array([[0.0, -3.0, 700.0], [3.0, 0.0, 20.0]])
    noise = np.random.default_rng(0).normal(0, 2, (5, 2))
    assert is_face(transform_points(ARCFACE_TEMPLATE_112 + noise, turn))
    assert not is_face(ARCFACE_TEMPLATE_112[[4, 2, 0, 1, 3]])  # another order
    assert not is_face(np.zeros((5, 2)))
    assert not is_face(np.full((5, 2), np.nan))


def test_a_crop_says_what_it_is() -> None:
    assert str(ARCFACE_CROP) == "ArcFace five points, 112 px"
    assert isinstance(REID_CROP, FaceCrop)
