from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lit_restore.data.detect_landmarks import LandmarkDetector
from lit_restore.errors import UserError
from lit_restore.faces import detect
from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, ffhq_template, similarity, transform_points
from lit_restore.faces.detect import Face, align_face, detector_version, find_faces
from lit_restore.faces.landmarks68 import Landmarks68, Landmarks68Net
from lit_restore.faces.retinaface import DetectedFace, RetinaFace, RetinaFaceDetector

Found = Callable[..., None]


def face(points5: np.ndarray, size_px: float = 100, points68: np.ndarray | None = None) -> Face:
    centre = points5.mean(axis=0)
    return Face(np.concatenate([centre - size_px / 2, centre + size_px / 2]), 0.99, points5, points68)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Makes the detector find these faces."""

    def install(*faces: Face) -> None:
        monkeypatch.setattr(detect, "_load", lambda *_: lambda _: list(faces))

    # conftest.py clears the cache of the real one
    monkeypatch.setattr(detect, "_load", detect._load)
    return install


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with untrained networks under the known names, made known by their checksums."""
    folder = tmp_path / "networks"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(RetinaFace().state_dict(), folder / detect.RETINAFACE.name)
    save_file(Landmarks68Net().state_dict(), folder / detect.LANDMARKS68_CONVERTED.name)
    for name in ("RETINAFACE", "LANDMARKS68_CONVERTED"):
        file = getattr(detect, name)
        digest = hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
        monkeypatch.setattr(detect, name, dataclasses.replace(file, sha256=digest))
    return folder


PHOTO = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
ELSEWHERE = np.array([[0.5, 0.1, 300.0], [-0.1, 0.5, 200.0]])
POINTS = transform_points(FFHQ_TEMPLATE_512, ELSEWHERE)


def test_faces_come_largest_first(found: Found) -> None:
    found(face(POINTS, 50), face(POINTS, 200), face(POINTS, 100))
    assert [f.area for f in find_faces(PHOTO)] == [40_000, 10_000, 2_500]


@pytest.mark.parametrize("size_px", [512, 128])
def test_the_face_lands_on_the_template(found: Found, size_px: int) -> None:
    points68 = np.random.default_rng(1).uniform(300, 500, (68, 2))
    found(face(POINTS, points68=points68))
    aligned = align_face(PHOTO, size_px)
    assert aligned.image.shape == (size_px, size_px, 3)
    np.testing.assert_allclose(transform_points(POINTS, aligned.matrix), ffhq_template(size_px), atol=1e-9)
    np.testing.assert_allclose(aligned.points68, transform_points(points68, aligned.matrix))


def test_pixels_go_where_the_points_go(found: Found) -> None:
    photo = np.zeros((700, 900, 3), np.uint8)
    nose = np.rint(POINTS[2]).astype(int)
    photo[nose[1] - 2 : nose[1] + 3, nose[0] - 2 : nose[0] + 3] = 255
    found(face(POINTS))
    bright = align_face(photo, 512).image[..., 0] == 255
    rows, columns = np.nonzero(bright & (np.indices((512, 512)).sum(0) > 300))
    np.testing.assert_allclose([columns.mean(), rows.mean()], FFHQ_TEMPLATE_512[2], atol=1.5)


def test_no_face(found: Found) -> None:
    found()
    with pytest.raises(UserError, match=r"no face found: holiday\.jpg\. Turn the photo upright"):
        align_face(PHOTO, where="holiday.jpg")


def test_several_faces_need_a_choice(found: Found) -> None:
    small, large = face(POINTS, 50), face(POINTS + 40, 200)
    found(small, large)
    with pytest.raises(UserError) as caught:
        align_face(PHOTO, where="holiday.jpg")
    message = str(caught.value)
    assert message.startswith("several faces: holiday.jpg; found 2 (0: 200x200 px at left ")
    assert "1: 50x50 px at left " in message
    assert align_face(PHOTO, choose="largest").face is large
    assert align_face(PHOTO, choose=0).face is large
    assert align_face(PHOTO, choose=1).face is small
    for choice in (2, -1, "smallest"):
        with pytest.raises(UserError, match="no such face"):
            align_face(PHOTO, choose=choice)


def test_an_aligned_picture_is_only_resized(found: Found) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    here = face(ffhq_template(256) + 3)
    bystander = face(np.array([[10.0, 10], [20, 10], [15, 15], [10, 20], [20, 20]]), 300)
    found(bystander, here)
    same = align_face(picture, 256)
    assert same.face is here
    np.testing.assert_array_equal(same.image, picture)
    np.testing.assert_array_equal(same.matrix, np.eye(2, 3))
    assert align_face(picture, 256, choose=0).face is bystander
    double = align_face(picture, 512)
    np.testing.assert_allclose(transform_points(np.array([-0.5, 255.5]), double.matrix), [-0.5, 511.5])


def test_a_picture_that_is_not_square_is_aligned_anew(found: Found) -> None:
    found(face(ffhq_template(512) + 3))
    aligned = align_face(PHOTO, 512)
    np.testing.assert_allclose(aligned.matrix, similarity(ffhq_template(512) + 3, FFHQ_TEMPLATE_512))


def test_unknown_backend() -> None:
    with pytest.raises(UserError, match=r"unknown face detector 'retina'\. Did you mean 'retinaface'\?"):
        find_faces(PHOTO, backend="retina")  # type: ignore[arg-type]


def test_retinaface_without_its_file() -> None:
    with pytest.raises(
        UserError, match=r"mobilenet0\.25_Final\.pth.*face_landmark_68.*set LIT_RESTORE_WEIGHTS to the folder"
    ):
        find_faces(PHOTO, backend="retinaface")


def test_auto_takes_what_is_at_hand(weights: Path) -> None:
    assert detector_version("auto").startswith("face-alignment-1")
    assert detector_version("auto", weights) == "retinaface+68-2"
    (weights / detect.LANDMARKS68_CONVERTED.name).unlink()
    assert detector_version("auto", weights) == "retinaface-2"
    assert detector_version("face-alignment", weights).startswith("face-alignment-1")


def test_damaged_weights_are_not_passed_over(weights: Path) -> None:
    path = weights / detect.RETINAFACE.name
    path.write_bytes(path.read_bytes()[:900_000])
    with pytest.raises(UserError, match="damaged"):
        find_faces(PHOTO, weights=weights)


def test_small_faces_are_looked_for_last(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def detect_at(_: object, image: np.ndarray, *, min_score: float, max_side_px: int) -> list[DetectedFace]:
        sides.append(max_side_px)
        return [] if max_side_px < 640 else [DetectedFace(np.array([0.0, 0, 9, 9]), min_score, POINTS)]

    monkeypatch.setattr(RetinaFaceDetector, "detect", detect_at)
    monkeypatch.setattr(RetinaFaceDetector, "refine", lambda self, image, points5: points5 + 1)
    [only] = find_faces(PHOTO, weights=weights)
    assert sides == [256, 640]
    np.testing.assert_allclose(only.points5, POINTS + 1)


def points_68_with(points5: np.ndarray) -> np.ndarray:
    points = np.repeat(points5.mean(axis=0)[None], 68, axis=0)
    points[36:42], points[42:48], points[[30, 48, 54]] = points5[0], points5[1], points5[2:]
    return points


@pytest.mark.parametrize(("shift_px", "believed"), [(15.0, True), (17.0, False)])
def test_68_points_are_believed_where_the_detector_agrees(
    weights: Path, monkeypatch: pytest.MonkeyPatch, shift_px: float, believed: bool
) -> None:
    """Up to 16 px of an aligned 512 px crop; blur makes the 68-point network lose a face that is there."""
    elsewhere = transform_points(FFHQ_TEMPLATE_512 + np.array([shift_px, 0]), ELSEWHERE)
    one = DetectedFace(np.array([0.0, 0, 9, 9]), 0.9, POINTS)
    monkeypatch.setattr(RetinaFaceDetector, "detect", lambda *_, **__: [one])
    monkeypatch.setattr(RetinaFaceDetector, "refine", lambda self, image, points5: points5)
    monkeypatch.setattr(Landmarks68, "detect", lambda *_: points_68_with(elsewhere))
    [only] = find_faces(PHOTO, weights=weights)
    if believed:
        np.testing.assert_allclose(only.points68, points_68_with(elsewhere))
        np.testing.assert_allclose(only.points5, (POINTS + elsewhere) / 2)
    else:
        assert only.points68 is None
        np.testing.assert_allclose(only.points5, POINTS)


def test_what_the_second_look_does_not_confirm_is_no_face(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def detect_at(_: object, image: np.ndarray, *, max_side_px: int, **__: float) -> list[DetectedFace]:
        sides.append(max_side_px)
        return [DetectedFace(np.array([0.0, 0, 9, 9]), 0.99, POINTS + max_side_px)]

    monkeypatch.setattr(RetinaFaceDetector, "detect", detect_at)
    seen = POINTS + 640
    monkeypatch.setattr(
        RetinaFaceDetector, "refine", lambda self, image, points5: points5 if np.allclose(points5, seen) else None
    )
    [only] = find_faces(PHOTO, weights=weights)
    assert sides == [256, 640]  # something at 256 px, but no face
    np.testing.assert_allclose(only.points5, seen)


def test_a_small_photo_is_not_searched_twice(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []

    def detect_at(_: object, image: np.ndarray, *, max_side_px: int, **__: float) -> list[DetectedFace]:
        sides.append(max_side_px)
        return []

    monkeypatch.setattr(RetinaFaceDetector, "detect", detect_at)
    assert find_faces(PHOTO[:500, :600], weights=weights) == []
    assert sides == [256, 640]


def test_without_the_68_point_file_the_detector_speaks(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (weights / detect.LANDMARKS68_CONVERTED.name).unlink()
    one = DetectedFace(np.array([0.0, 0, 9, 9]), 0.9, POINTS)
    monkeypatch.setattr(RetinaFaceDetector, "detect", lambda *_, **__: [one])
    monkeypatch.setattr(RetinaFaceDetector, "refine", lambda self, image, points5: points5)
    with pytest.warns(UserWarning, match=r"five rough points only.*face_landmark_68_model-shard1") as caught:
        [only] = find_faces(PHOTO, weights=weights)
    assert caught[0].filename == __file__
    assert only.points68 is None
    np.testing.assert_array_equal(only.points5, POINTS)
    assert align_face(PHOTO, weights=weights).points68 is None


def test_landmarks_of_a_data_set_need_the_68_point_file(weights: Path) -> None:
    assert LandmarkDetector("retinaface", str(weights)).check() == "retinaface+68-2"
    (weights / detect.LANDMARKS68_CONVERTED.name).unlink()
    with pytest.raises(UserError, match=r"weights of the face networks not found.*face_landmark_68_model-shard1"):
        LandmarkDetector("retinaface", str(weights)).check()
