"""Distances of landmarks; with the real networks in test_real_weights.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.faces.detect import Face
from lit_restore.metrics import landmarks
from lit_restore.metrics.landmarks import LandmarkDistance
from lit_restore.metrics.measurement import NO_TRUTH

POINTS68 = np.random.default_rng(0).uniform(20, 100, (68, 2))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, np.ndarray]:
    """Stands for the networks: the red of a picture's first pixel says which points are in it."""
    known: dict[int, np.ndarray] = {}

    def find(image: np.ndarray, **_: object) -> list[Face]:
        points = known.get(int(image[0, 0, 0]))
        return [] if points is None else [Face(np.zeros(4), 1.0, np.zeros((5, 2)), points)]

    monkeypatch.setattr(landmarks, "find_faces", find)
    monkeypatch.setattr(landmarks, "detector_version", lambda: "retinaface+68-1")
    return known


def marked(*numbers: int, side_px: int = 128) -> torch.Tensor:
    faces = pictures(0, len(numbers), 3, side_px, side_px)
    faces[:, 0, 0, 0] = torch.tensor(numbers) / 127.5 - 1
    return faces


def test_distance_is_in_pixels_of_512(seen, make_batch) -> None:
    seen[1], seen[2] = POINTS68, POINTS68 + np.array([3, 4])
    for side_px in (128, 512):
        values = LandmarkDistance()(marked(2, 1, side_px=side_px), make_batch(marked(1, 1, side_px=side_px)))
        for column in values.values():
            assert column.numbers.tolist() == pytest.approx([5 * 512 / side_px, 0])


def test_parts_are_eyes_and_mouth(seen, make_batch) -> None:
    seen[1], seen[2] = POINTS68, POINTS68.copy()
    seen[2][36:48] += (0, 1)
    seen[2][48:68] += (2, 0)
    values = LandmarkDistance()(marked(2, side_px=512), make_batch(marked(1, side_px=512)))
    assert values["landmark_distance_eyes"].numbers.item() == pytest.approx(1)
    assert values["landmark_distance_mouth"].numbers.item() == pytest.approx(2)
    assert values["landmark_distance"].numbers.item() == pytest.approx((12 * 1 + 20 * 2) / 68)


def test_pictures_without_a_face_or_truth_fail(seen, make_batch) -> None:
    seen[1] = POINTS68
    batch = make_batch(marked(1, 9, 1, 1), has_hq=torch.tensor([True, True, True, False]))
    values = LandmarkDistance()(marked(9, 1, 1, 1), batch)
    for column in values.values():
        assert column.failures == {
            0: "no face found in the restoration",
            1: "no face found in the truth",
            3: NO_TRUTH,
        }
        assert column.numbers[2] == 0


def test_a_detector_without_68_points_is_not_enough(seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "detector_version", lambda: "retinaface-1")
    with pytest.raises(UserError, match="face_landmark_68_model-shard1"):
        LandmarkDistance()


@pytest.mark.usefixtures("no_weights_at_hand")
def test_without_networks_it_says_so_at_once() -> None:
    with pytest.raises(UserError, match=r"weights of the face networks not found.*mobilenet0.25_Final.pth"):
        LandmarkDistance()
