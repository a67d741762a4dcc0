"""Faces of photos on disk."""

from __future__ import annotations

import hashlib
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from lit_restore.commands.restore_words import Notes
from lit_restore.faces.alignment import ffhq_template
from lit_restore.image import write_image
from lit_restore.inference import PhotoReport
from lit_restore.inference.face_cache import FaceCache
from lit_restore.inference.found_faces import VIEW_PX, FacesOfPhoto, FoundFace
from lit_restore.inference.people import PhotoReader
from lit_restore.inference.report import FaceReport
from lit_restore.models.checked_file import CacheNotes
from lit_restore.models.reference_cache import ReferenceCache


class Finder:
    """Sees one face in every photo, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.settings = {"detector": "one"}

    def __call__(self, image: np.ndarray, aligned: str) -> FacesOfPhoto:
        self.calls += 1
        view = np.resize(image, (VIEW_PX, VIEW_PX, 3))
        return FacesOfPhoto([FoundFace(view[:8, :8], view, ffhq_template(VIEW_PX), np.eye(2, 3), (1, 2, 3, 4))], False)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        write_image(np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8), path)
    return paths


def test_a_photo_is_hashed_once_whether_it_is_known_or_not(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, hashed = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, name: hashed.append(1) or original(stream, name))
    for searched in (2, 0):  # a miss, then a hit
        finder, cache = Finder(), FaceCache(tmp_path / "cache")
        person = PhotoReader(finder, None, cache).person("anna", photos)
        assert (finder.calls, len(hashed)) == (searched, 2)
        assert (cache.notes.computed, cache.notes.found) == (searched, 2 - searched)
        assert [candidate.face.box_xyxy for candidate in person.candidates] == [(1, 2, 3, 4)] * 2
        hashed.clear()


def test_where_nothing_can_be_kept_that_is_said_once(photos: list[Path], tmp_path: Path) -> None:
    class Tool:
        no_identity, people = None, {}
        cache, face_cache = ReferenceCache(tmp_path / "file"), FaceCache(tmp_path / "file")

    Path(Tool.cache.folder).touch()
    person = PhotoReader(Finder(), None, Tool.face_cache).person("anna", [*photos, tmp_path / "gone.png"])
    assert len(person.candidates) == 2
    assert person.refused[str(tmp_path / "gone.png")].startswith("no such image file")
    assert Tool.face_cache.notes.not_stored.startswith(f"cannot write: {tmp_path}/file/")
    faces = [FaceReport(n, (0, 0, 1, 1), "with references", "", cache=CacheNotes(not_stored=f"{n}")) for n in range(2)]
    for collected in (faces, []):  # both caches, and that of faces alone
        notes = Notes(Tool)
        notes.add(PhotoReport("a.png", (1, 1), {}, collected), Path("out.png"))
        said = StringIO()
        notes.show(said)
        assert said.getvalue().count("note: the reference cache cannot be used, which only costs time: ") == 1
