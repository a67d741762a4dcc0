from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lit_restore.data.canonical_face import NUM_DENSE, POINTS_68, densify
from lit_restore.data.landmarks import (
    Landmarks,
    compute_landmarks,
    landmark_path,
    load_landmarks,
    read_landmarks,
    write_landmarks,
)
from lit_restore.data.manifest import Photo
from lit_restore.data.ready_landmarks import ReadyLandmarks, import_landmarks
from lit_restore.data.scan import build_manifest
from lit_restore.errors import UserError

FACE = (POINTS_68 * 30 + 48).astype(np.float32)


@pytest.fixture
def photos(people_folder: Callable[..., Path]) -> tuple[Photo, ...]:
    return build_manifest(people_folder(anna=2, bert=2)).photos


def stored(photo: Photo, points: np.ndarray = FACE, **fields: object) -> Landmarks:
    return replace(Landmarks(points, np.ones(len(points), bool), photo.sha256, "test 1"), **fields)


def test_round_trip_and_densified_reading(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    path = landmark_path(tmp_path, photos[0].key)
    assert path == tmp_path / "anna/0.png.npz"
    write_landmarks(stored(photos[0]), path)
    again = read_landmarks(path)
    np.testing.assert_array_equal(again.points, FACE)
    assert (again.image_sha256, again.detector) == (photos[0].sha256, "test 1")
    points, mask = load_landmarks(tmp_path, photos[0], "test 1")
    assert (points.shape, points.dtype, mask.shape, mask.dtype) == ((NUM_DENSE, 2), np.float32, (NUM_DENSE,), bool)
    np.testing.assert_allclose(points, densify(FACE.astype(np.float64)), atol=1e-4)
    assert mask.all()


def test_dense_points_stay_as_they_are(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    points = np.random.RandomState(0).rand(NUM_DENSE, 2).astype(np.float32)
    visible = np.random.RandomState(1).rand(NUM_DENSE) < 0.5
    write_landmarks(stored(photos[0], points, visible=visible), landmark_path(tmp_path, photos[0].key))
    loaded, mask = load_landmarks(tmp_path, photos[0])
    np.testing.assert_array_equal(loaded, points)
    np.testing.assert_array_equal(mask, visible)


def test_hidden_corners_hide_the_points_between_them(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    visible = np.arange(68) != 30  # the tip of the nose
    write_landmarks(stored(photos[0], visible=visible), landmark_path(tmp_path, photos[0].key))
    _, mask = load_landmarks(tmp_path, photos[0])
    assert (mask[:68] == visible).all()
    moved = FACE.astype(np.float64)
    moved[30] += 1
    depends = (np.abs(densify(moved) - densify(FACE.astype(np.float64))) > 1e-9).any(axis=1)
    np.testing.assert_array_equal(mask, ~depends)


def test_missing_landmarks_are_unknown(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    points, mask = load_landmarks(tmp_path, photos[0])
    assert points.shape == (NUM_DENSE, 2)
    assert not points.any()
    assert not mask.any()
    with pytest.raises(UserError, match="no landmarks"):
        read_landmarks(tmp_path / "x.npz")


def test_stale_landmarks_are_refused(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    path = landmark_path(tmp_path, photos[0].key)
    write_landmarks(stored(photos[0], image_sha256="0" * 64), path)
    with pytest.raises(UserError, match=r"stale landmarks \(another image\).*prepare"):
        load_landmarks(tmp_path, photos[0])
    write_landmarks(stored(photos[0]), path)
    with pytest.raises(UserError, match=r"another detector\).*expected test 2; found test 1"):
        load_landmarks(tmp_path, photos[0], "test 2")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut in half", b"\x93NUMPY"])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match="damaged landmark file"):
        read_landmarks(tmp_path / "x.npz")


def test_other_schemes_are_kept_out(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    with pytest.raises(UserError, match=r"found shape \(468, 2\)"):
        write_landmarks(stored(photos[0], np.zeros((468, 2))), tmp_path / "x.npz")
    with pytest.raises(UserError, match="not finite"):
        write_landmarks(stored(photos[0], np.full((68, 2), np.nan)), tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


def find_face(path: str) -> np.ndarray:
    if "bert" in path:
        raise UserError("no face found")
    return FACE


def test_computing_is_restartable(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    seen = []

    def detect(path: str) -> np.ndarray:
        seen.append(path)
        return find_face(path)

    skipped = compute_landmarks(photos, tmp_path, detect, "test 1")
    assert [item.key for item in skipped] == ["bert/0.png", "bert/1.png"]
    assert skipped[0].reason == "no face found"
    assert load_landmarks(tmp_path, photos[1], "test 1")[1].all()
    seen.clear()
    compute_landmarks(photos[:2], tmp_path, detect, "test 1")
    assert seen == []
    compute_landmarks([replace(photos[0], sha256="new"), photos[1]], tmp_path, detect, "test 1")
    assert seen == [photos[0].path]
    seen.clear()
    compute_landmarks(photos[:2], tmp_path, detect, "test 2")
    assert seen == [photo.path for photo in photos[:2]]
    landmark_path(tmp_path, photos[0].key).write_bytes(b"cut")
    seen.clear()
    compute_landmarks(photos[:2], tmp_path, detect, "test 2")
    assert seen == [photos[0].path]


def test_stale_files_do_not_outlive_a_failed_search(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    paths = [landmark_path(tmp_path, photo.key) for photo in photos[2:]]
    write_landmarks(stored(photos[2], image_sha256="old"), paths[0])
    write_landmarks(stored(photos[3]), paths[1])
    compute_landmarks(photos[2:], tmp_path, find_face, "test 2")  # finds no face in bert's photos
    assert not paths[0].exists()
    assert paths[1].exists()  # by another detector, but of this very photo


def test_processes_give_the_same(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    skipped = compute_landmarks(photos, tmp_path / "two", find_face, "test 1", num_workers=2)
    assert skipped == compute_landmarks(photos, tmp_path / "one", find_face, "test 1")
    for photo in photos[:2]:
        one, two = (load_landmarks(tmp_path / name, photo)[0] for name in ("one", "two"))
        np.testing.assert_array_equal(one, two)


def test_import_from_one_file(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    entries = {"68/people/anna/0": FACE, "68/other/anna/0": FACE + 1, "68/anna/1": FACE + 2}
    entries |= {"468/people/bert/0": np.zeros((468, 2)), "1349/people/bert/1": np.ones((NUM_DENSE, 2))}
    np.savez(tmp_path / "points.npz", **entries)
    skipped = import_landmarks(photos, tmp_path / "cache", ReadyLandmarks(tmp_path / "points.npz"))
    assert [(item.key, item.reason) for item in skipped] == [("bert/0.png", "no ready landmarks for this photo")]
    for photo, corner in zip((photos[0], photos[1]), (FACE, FACE + 2), strict=True):
        np.testing.assert_allclose(load_landmarks(tmp_path / "cache", photo)[0][:68], corner, atol=1e-4)
    assert (load_landmarks(tmp_path / "cache", photos[3])[0] == 1).all()


def test_import_notices_new_landmarks(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    (tmp_path / "folder/anna").mkdir(parents=True)
    for points in (FACE, FACE + 1):
        np.savez(tmp_path / "points.npz", **{"68/anna/0": points})
        np.save(tmp_path / "folder/anna/0.npy", points)
        for source in (tmp_path / "points.npz", tmp_path / "folder"):
            cache = tmp_path / f"cache of {source.name}"
            assert import_landmarks(photos[:1], cache, ReadyLandmarks(source)) == []
            np.testing.assert_allclose(load_landmarks(cache, photos[0])[0][:68], points, atol=1e-4)


def test_import_refuses_landmarks_of_another_size(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    np.savez(tmp_path / "points.npz", **{"68/anna/0": FACE * 5})
    skipped = import_landmarks(photos[:1], tmp_path / "cache", ReadyLandmarks(tmp_path / "points.npz"))
    assert "landmarks lie outside of the photo (96x96)" in skipped[0].reason


def test_import_refuses_to_guess(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    np.savez(tmp_path / "points.npz", **{"68/x/anna/0": FACE, "68/y/anna/0": FACE})
    skipped = import_landmarks(photos[:1], tmp_path / "cache", ReadyLandmarks(tmp_path / "points.npz"))
    assert "several landmarks fit" in skipped[0].reason


def test_import_from_a_folder(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    ready = tmp_path / "ready" / "anna"
    ready.mkdir(parents=True)
    np.save(ready / "0.npy", FACE)
    np.save(ready / "1.npy", np.zeros((5, 2)))
    skipped = import_landmarks(photos[:2], tmp_path / "cache", ReadyLandmarks(tmp_path / "ready"))
    assert [item.key for item in skipped] == ["anna/1.png"]
    assert "landmarks of another kind" in skipped[0].reason
    assert load_landmarks(tmp_path / "cache", photos[0])[1].all()


def test_import_of_instantrestore_files(tmp_path: Path, photos: tuple[Photo, ...]) -> None:
    path = tmp_path / "new_landmarks" / "0.npy"
    path.parent.mkdir()
    np.save(path, FACE)
    photo = replace(photos[0], landmarks=str(path))
    skipped = import_landmarks([photo], tmp_path / "cache", ReadyLandmarks())
    assert "for a 512x512 image" in skipped[0].reason  # the photo has 96 x 96
    photo = replace(photo, width=512, height=512)
    assert import_landmarks([photo], tmp_path / "cache", ReadyLandmarks()) == []
    assert load_landmarks(tmp_path / "cache", photo)[1].all()


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such landmark file"):
        ReadyLandmarks(tmp_path / "missing.npz")
    (tmp_path / "x.npz").write_text("no zip")
    with pytest.raises(UserError, match=r"not an \.npz file"):
        ReadyLandmarks(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", **{"468/a/b": np.zeros((468, 2))})
    with pytest.raises(UserError, match=r"no usable landmarks.*found 468"):
        ReadyLandmarks(tmp_path / "y.npz")
