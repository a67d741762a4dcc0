from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import pictures

from lit_restore.data.canonical_face import POINTS_68, densify
from lit_restore.errors import UserError
from lit_restore.faces import points as module
from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, ffhq_template, points_5_from_68, similarity, transform_points
from lit_restore.faces.points import detected_points, landmark_points, template_points


@pytest.fixture
def landmarks() -> tuple[torch.Tensor, torch.Tensor]:
    """Two faces of 1,349 points in a 512 px frame, all known."""
    face = transform_points(densify(POINTS_68), similarity(points_5_from_68(POINTS_68), FFHQ_TEMPLATE_512))
    return torch.from_numpy(np.stack([face, face + 7])).float(), torch.ones(2, 1349, dtype=torch.bool)


def test_eyes_nose_and_mouth_of_dense_landmarks(landmarks: tuple[torch.Tensor, torch.Tensor]) -> None:
    points5, found = landmark_points(*landmarks)
    assert found.tolist() == [True, True]
    np.testing.assert_allclose(points5[0, 0], landmarks[0][0, 36:42].mean(0), atol=1e-4)
    np.testing.assert_allclose(points5[0, 2:], landmarks[0][0, [30, 48, 54]], atol=1e-4)
    np.testing.assert_allclose(points5[1], points5[0] + 7, atol=1e-4)
    assert np.linalg.norm(points5[0] - FFHQ_TEMPLATE_512, axis=1).max() < 15


@pytest.mark.parametrize(("index", "counts"), [(36, True), (47, True), (30, True), (54, True), (0, False), (62, False)])
def test_a_face_counts_if_its_five_points_are_known(
    landmarks: tuple[torch.Tensor, torch.Tensor], index: int, counts: bool
) -> None:
    points, mask = landmarks
    mask[1, index] = False
    assert landmark_points(points, mask)[1].tolist() == [True, not counts]


def test_landmarks_of_another_scheme_are_no_face(landmarks: tuple[torch.Tensor, torch.Tensor]) -> None:
    points, mask = landmarks
    order = np.random.default_rng(0).permutation(1349)
    assert not landmark_points(points[:, order], mask)[1].any()
    assert not landmark_points(torch.zeros_like(points), mask)[1].any()


def test_the_template_grows_with_the_picture() -> None:
    points5, found = template_points(pictures(0, 2, 3, 128, 128))
    assert found.all()
    np.testing.assert_allclose(points5, np.stack([ffhq_template(128)] * 2))
    np.testing.assert_allclose((points5[0] + 0.5) * 4, FFHQ_TEMPLATE_512 + 0.5)
    with pytest.raises(UserError, match="must be square"):
        template_points(pictures(0, 1, 3, 128, 64))


def test_the_largest_face_of_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is replaced: it needs weights, see test_real_weights. Pictures come to it as 8-bit RGB."""
    seen = []

    class Found:
        def __init__(self, points5: np.ndarray) -> None:
            self.points5 = points5

    def find(image: np.ndarray, *, device: str) -> list[Found]:
        seen.append((image, device))
        return [] if image.max() == 0 else [Found(ffhq_template(64)), Found(np.zeros((5, 2)))]

    monkeypatch.setattr(module, "find_faces", find)
    images = torch.stack([torch.full((3, 64, 64), -1.5), pictures(0, 3, 64, 64)])
    points5, found = detected_points(images.requires_grad_())
    assert found.tolist() == [False, True]
    np.testing.assert_array_equal(points5[1], ffhq_template(64))
    assert [(image.dtype, image.shape, device) for image, device in seen] == [(np.uint8, (64, 64, 3), "cpu")] * 2
