"""Photos of people, found and cut out of their pictures, as a people folder of aligned faces with
landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lit_restore.data.detect_landmarks import NO_LANDMARKS, LandmarkDetector
from lit_restore.data.landmarks import Landmarks, landmark_path, read_landmarks, write_landmarks
from lit_restore.data.manifest import Photo, Skipped
from lit_restore.data.parallel import parallel_map
from lit_restore.data.photo_files import refuse_others
from lit_restore.data.synthetic_folder import LANDMARKS_NAME
from lit_restore.errors import UserError
from lit_restore.faces.detect import Backend, align_face
from lit_restore.image import read_rgb, write_image


@dataclass(frozen=True)
class _Aligner:
    """One photo -> one aligned face; a class so that it can be sent to another process."""

    folder: Path
    size_px: int
    backend: Backend
    weights: str | None
    choose: Literal["only", "largest"]
    detector: str

    def __call__(self, photo: Photo) -> Skipped | None:
        key = aligned_key(photo)
        path, points_path = self.folder / key, landmark_path(self.folder / LANDMARKS_NAME, key)
        # The detector's name also says which photo the face was cut from, so that a changed photo is cut
        # again.
        source = f"{self.detector} {self.size_px}px of {photo.sha256[:16]}"
        if path.exists() and points_path.exists():
            known = read_landmarks(points_path)
            if (known.detector, known.image_sha256) == (source, _sha256(path)):
                return None
        try:
            image = read_rgb(photo.path)
            options = {"choose": self.choose, "backend": self.backend, "weights": self.weights}
            face = align_face(image, self.size_px, **options, where=photo.key)
        except UserError as error:
            return Skipped(photo.key, str(error).replace(f": {photo.key}", "", 1))
        if face.points68 is None:
            return Skipped(photo.key, NO_LANDMARKS)
        write_image(face.image, path)
        visible = np.ones(len(face.points68), bool)
        write_landmarks(Landmarks(face.points68, visible, _sha256(path), source), points_path)
        return None


def aligned_key(photo: Photo) -> str:
    """Where the aligned face of a photo goes: ``<person>/<file name>.png``, the old suffix kept unless it is
    .png."""
    name = Path(photo.key).name
    return f"{photo.identity.replace('/', '-')}/{name if name.lower().endswith('.png') else name + '.png'}"


def write_aligned_people(
    photos: Sequence[Photo],
    size_px: int,
    folder: str | Path,
    *,
    backend: Backend = "auto",
    weights: str | None = None,
    choose: Literal["only", "largest"] = "only",
    num_workers: int = 1,
) -> list[Skipped]:
    """Write ``folder/<person>/<photo>.png`` and ``folder/landmarks/...``; what is there already is kept.

    Returns:
        Photos without a face, or with several and no choice, with the reason.

    Raises:
        UserError: the folder holds faces that do not come from these photos.
    """
    refuse_others(Path(folder), [aligned_key(photo) for photo in photos])
    version = LandmarkDetector(backend, weights, choose).check()
    aligner = _Aligner(Path(folder), size_px, backend, weights, choose, version)
    results = parallel_map(aligner, photos, num_workers=num_workers, title="Aligning faces")
    return [result for result in results if isinstance(result, Skipped)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
