from __future__ import annotations

import dataclasses
import hashlib
import io
import urllib.error
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_restore.errors import UserError
from lit_restore.faces import face_alignment_backend
from lit_restore.faces.face_alignment_backend import FaceAlignmentBackend
from lit_restore.faces.weights import FAN, SFD


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty download folder of torch, and no network."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    yield tmp_path / "hub"
    torch.hub.set_dir(before)


def with_checksum_of(monkeypatch: pytest.MonkeyPatch, paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        known = dataclasses.replace(getattr(face_alignment_backend, name), sha256=digest)
        monkeypatch.setattr(face_alignment_backend, name, known)


def test_offline_says_which_files_where_looked_and_where_to_put_them(hub: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(UserError) as caught:
        FaceAlignmentBackend(folder)
    message = str(caught.value)
    for part in (SFD.name, SFD.source, FAN.name, FAN.source, str(folder), str(hub / "checkpoints")):
        assert part in message
    assert "download failed: Name or service not known" in message
    assert f"Put them into {folder}" in message
    assert list((hub / "checkpoints").iterdir()) == []


def test_a_damaged_earlier_download_is_named(hub: Path) -> None:
    (hub / "checkpoints").mkdir(parents=True)
    (hub / "checkpoints" / SFD.name).write_bytes(b"half of it")
    with pytest.raises(UserError, match=f"damaged or another file: .*{SFD.name}.*10 bytes"):
        FaceAlignmentBackend()


def test_a_download_with_a_wrong_checksum_is_not_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LoginPage(io.BytesIO):
        def info(self) -> Message:
            return Message()

    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: LoginPage(b"please log in"))
    with pytest.raises(UserError, match="download failed: invalid hash value"):
        FaceAlignmentBackend()
    assert list((hub / "checkpoints").iterdir()) == []


def test_the_package_is_given_the_local_files(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"SFD": tmp_path / "w" / SFD.name, "FAN": hub / "checkpoints" / FAN.name}
    for name, path in paths.items():
        path.parent.mkdir(parents=True)
        path.write_text(f"weights of {name}")
    with_checksum_of(monkeypatch, paths)
    started: list[tuple[dict[str, str], dict[str, object]]] = []

    def package(_: object, **options: object) -> object:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        started.append(({path.name: path.read_text() for path in folder.iterdir()}, options))
        return object()

    monkeypatch.setattr("face_alignment.FaceAlignment", package)
    FaceAlignmentBackend(tmp_path / "w", device="cuda:1")
    files, options = started[0]
    assert files == {SFD.name: "weights of SFD", FAN.name: "weights of FAN"}
    assert options == {"device": "cuda:1", "compile": False}
    assert torch.hub.get_dir() == str(hub)


class FakeAligner:
    """Finds two faces at fixed places of the picture it is shown; its points are the centre of the box."""

    def __init__(self) -> None:
        self.face_detector = self
        self.shown: list[tuple[int, ...]] = []

    def detect_from_image(self, image: np.ndarray) -> list[np.ndarray]:
        self.shown.append(image.shape)
        return [np.array([10.0, 20, 110, 160, 0.95]), np.array([200.0, 20, 210, 30, 0.6])]

    def get_landmarks_from_image(self, image: np.ndarray, detected_faces: list[np.ndarray]) -> list[np.ndarray]:
        self.shown.append(image.shape)
        return [np.tile((box[:2] + box[2:4]) / 2, (68, 1)) for box in detected_faces]


def backend_with(aligner: Any) -> FaceAlignmentBackend:
    backend = object.__new__(FaceAlignmentBackend)
    backend.aligner = aligner
    return backend


def test_large_photos_are_reduced_for_detection_only() -> None:
    aligner = FakeAligner()
    faces = backend_with(aligner).detect(np.zeros((1280, 960, 3), np.uint8), min_score=0.8)
    assert aligner.shown == [(640, 480, 3), (1280, 960, 3)]
    [(box, score, points)] = faces
    np.testing.assert_allclose(box, [20, 40, 220, 320])
    assert score == 0.95
    np.testing.assert_allclose(points, np.tile([120, 180], (68, 1)))


def test_no_face_asks_for_no_points() -> None:
    aligner = FakeAligner()
    assert backend_with(aligner).detect(np.zeros((64, 48, 3), np.uint8), min_score=0.99) == []
    assert aligner.shown == [(64, 48, 3)]


@pytest.mark.slow
def test_the_real_package_starts_from_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN as FanNetwork

    paths = {"SFD": tmp_path / SFD.name, "FAN": tmp_path / FAN.name}
    torch.save(s3fd().state_dict(), paths["SFD"])
    torch.save(FanNetwork(4).state_dict(), paths["FAN"])
    with_checksum_of(monkeypatch, paths)
    backend = FaceAlignmentBackend(tmp_path)
    backend.aligner.face_detector.detect_from_image = lambda _: [np.array([8.0, 8, 56, 60, 0.9])]
    [(_, _, points)] = backend.detect(np.zeros((64, 64, 3), np.uint8), min_score=0.8)
    assert points.shape == (68, 2)
    assert np.isfinite(points).all()
