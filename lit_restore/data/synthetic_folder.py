"""Synthetic people as an ordinary people folder with exact landmarks, so that they take the same road as real
photos."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lit_restore.data.landmarks import Landmarks, landmark_path, read_landmarks, write_landmarks
from lit_restore.data.parallel import parallel_map
from lit_restore.data.photo_files import refuse_others
from lit_restore.errors import UserError
from lit_restore.image import write_image

LANDMARKS_NAME = "landmarks"


@dataclass(frozen=True)
class SyntheticPeople:
    """Which synthetic people.

    Attributes:
        identities: number of people.
        images_per_identity: photos of each; two or more, because one of them is the target.
        seed: another seed, other people.
    """

    identities: int = 64
    images_per_identity: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.identities < 1 or self.images_per_identity < 2:
            raise UserError(
                "too few synthetic photos",
                expected="identities >= 1 and images_per_identity >= 2",
                found=f"{self.identities} and {self.images_per_identity}",
            )


def fingerprint(people: SyntheticPeople, size_px: int) -> str:
    """Short hash of the parameters and of how the renderer looks today: a changed renderer makes a new
    folder."""
    from lit_restore.data.synthetic import render_face

    sample = render_face(0, 0, 0, 64).image.tobytes()
    parameters = json.dumps([asdict(people), size_px], sort_keys=True).encode()
    return hashlib.sha256(parameters + sample).hexdigest()[:10]


def photo_name(identity: int, image: int) -> str:
    """Key of a photo, e.g. ``person_0007/03.png``."""
    return f"person_{identity:04d}/{image:02d}.png"


def write_synthetic_people(people: SyntheticPeople, size_px: int, folder: str | Path, *, num_workers: int = 1) -> int:
    """Render ``folder/person_0000/00.png`` ... and ``folder/landmarks/person_0000/00.png.npz`` ....

    Photos that are already there with landmarks that belong to them are kept, so an interrupted run can be
    repeated.

    Args:
        num_workers: processes.

    Returns:
        Number of photos rendered by this call.

    Raises:
        UserError: the folder holds other photos.
    """
    detector = f"synthetic {fingerprint(people, size_px)}"
    jobs = [
        (people.seed, identity, image, size_px, str(folder), detector)
        for identity in range(people.identities)
        for image in range(people.images_per_identity)
    ]
    refuse_others(Path(folder), [photo_name(identity, image) for _, identity, image, *_ in jobs])
    return sum(parallel_map(_render_one, jobs, num_workers=num_workers, title="Rendering people"))


def _render_one(job: tuple[int, int, int, int, str, str]) -> bool:
    """Write one photo and its landmarks; False if they were there."""
    from lit_restore.data.synthetic import render_face

    seed, identity, image, size_px, folder, detector = job
    key = photo_name(identity, image)
    path, points_path = Path(folder) / key, landmark_path(Path(folder) / LANDMARKS_NAME, key)
    if path.exists() and points_path.exists():
        known = read_landmarks(points_path)
        if (known.detector, known.image_sha256) == (detector, hashlib.sha256(path.read_bytes()).hexdigest()):
            return False
    face = render_face(seed, identity, image, size_px)
    write_image(face.image, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    write_landmarks(Landmarks(face.landmarks, face.visible, sha256, detector), points_path)
    return True
