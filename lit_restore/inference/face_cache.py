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
from typing import NamedTuple

import numpy as np
import torch

from lit_restore.inference.found_faces import FacesOfPhoto, FoundFace
from lit_restore.models.checked_file import CacheNotes, find_entry, keep_entry
from lit_restore.models.tensor_file import State

FORMAT = 2

Found = tuple[str, FacesOfPhoto, np.ndarray | None]
"""Content of the photo, its faces, and their vectors (N, D) where there is a recognition network."""


class Place(NamedTuple):
    """Of one photo's faces."""

    path: Path
    key: str


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

    def place(self, photo: Path, settings: dict[str, object]) -> Place:
        """Where the faces of a photo are kept. Reads the photo once.

        Args:
            settings: what decides, besides the photo, what is found.

        Raises:
            OSError: it cannot be read.
        """
        with photo.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        key = json.dumps({"format": FORMAT, "photo": content, **settings}, sort_keys=True)
        return Place(self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.faces", key)

    def load(self, place: Place) -> Found | None:
        """What is known of a photo; None if nothing, or nothing that is whole."""
        entry = find_entry(place.path, place.key, self.notes)
        return None if entry is None else _found(*entry)

    def save(self, place: Place, found: Found) -> None:
        """Keep what was found in a photo; where nothing can be written, go on without."""
        content, faces, vectors = found
        arrays = {name: np.stack([getattr(one, name) for one in faces.faces]) for name in _FIELDS if faces.faces}
        if vectors is not None:
            arrays["vectors"] = vectors
        state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        state["num_faces"] = torch.tensor(len(faces.faces))
        about = {"content": content, "is_aligned": faces.is_aligned, "assumed": faces.assumed}
        keep_entry(place.path, state, place.key, self.notes, json.dumps(about))


_FIELDS = ("crop", "view", "points5", "matrix", "box_xyxy")


def _found(state: State, text: str) -> Found:
    about = json.loads(text)
    faces = []
    for index in range(int(state["num_faces"])):
        crop, view, points5, matrix, box = (state[name][index].numpy() for name in _FIELDS)
        faces.append(FoundFace(crop, view, points5, matrix, tuple(box.tolist())))
    vectors = state["vectors"].numpy() if "vectors" in state else None
    return about["content"], FacesOfPhoto(faces, about["is_aligned"], about["assumed"]), vectors
