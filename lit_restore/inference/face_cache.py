"""The faces found in reference photos on disk: finding, cutting out and comparing them takes longer than restoring.

    FOLDER/<sha256 of the key>.faces      safetensors: crops, views, points, boxes and vectors of one photo

The key is what decides them: the file's bytes, detector, recognition network, sizes. As with
`lit_restore.models.reference_cache` a changed photo or network changes the name, files appear whole or not at all, and
one whose checksum is wrong is made anew and reported.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from lit_restore.errors import UserError
from lit_restore.inference.found_faces import FacesOfPhoto, FoundFace
from lit_restore.models.checked_file import read_checked, write_checked
from lit_restore.models.reference_cache import CacheNotes

FORMAT = 2

Found = tuple[str, FacesOfPhoto, np.ndarray | None]
"""Content of the photo, its faces, and their vectors (N, D) where there is a recognition network."""


class FaceCache:
    """Faces of photos, from disk where they are there.

    Args:
        folder: made when first written to.

    Attributes:
        notes: what was found and stored so far.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.notes = CacheNotes()

    def load(self, photo: Path, settings: dict[str, object]) -> Found | None:
        """What is known of a photo; None if nothing, or nothing that is whole."""
        path, key = self._place(photo, settings)
        if not path.is_file():
            return None
        try:
            found = _read(path, key)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            self.notes.rebuilt[str(path)] = " ".join(str(error).split())[:120] or type(error).__name__
            return None
        self.notes.found += 1
        return found

    def save(self, photo: Path, settings: dict[str, object], found: Found) -> None:
        """Keep what was found in a photo; where nothing can be written, go on without."""
        path, key = self._place(photo, settings)
        content, faces, vectors = found
        arrays = {name: np.stack([getattr(one, name) for one in faces.faces]) for name in _FIELDS if faces.faces}
        if vectors is not None:
            arrays["vectors"] = vectors
        state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        state["num_faces"] = torch.tensor(len(faces.faces))
        about = {"content": content, "is_aligned": faces.is_aligned, "assumed": faces.assumed}
        self.notes.computed += 1
        try:
            write_checked(path, state, key, json.dumps(about))
        except UserError as error:
            self.notes.not_stored = str(error)

    def _place(self, photo: Path, settings: dict[str, object]) -> tuple[Path, str]:
        with photo.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        key = json.dumps({"format": FORMAT, "photo": content, **settings}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.faces", key


_FIELDS = ("crop", "view", "points5", "matrix", "box_xyxy")


def _read(path: Path, key: str) -> Found:
    state, text = read_checked(path, key)
    about = json.loads(text)
    faces = []
    for index in range(int(state["num_faces"])):
        crop, view, points5, matrix, box = (state[name][index].numpy() for name in _FIELDS)
        faces.append(FoundFace(crop, view, points5, matrix, tuple(box.tolist())))
    vectors = state["vectors"].numpy() if "vectors" in state else None
    return about["content"], FacesOfPhoto(faces, about["is_aligned"], about["assumed"]), vectors
