"""Landmarks of photos on disk: one small file per photo that knows which image and which detector it belongs
to.

``<cache>/<photo key>.npz`` holds points in pixels of the upright photo, visibility, the SHA-256 of the image
file and the name and version of what found them. Points are kept as found (68 or 1,349) and densified to
1,349 on reading.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_restore.data.canonical_face import NUM_DENSE, densify
from lit_restore.data.manifest import Photo, Skipped
from lit_restore.data.parallel import parallel_map
from lit_restore.errors import UserError
from lit_restore.image import atomic_path

KNOWN_COUNTS = (68, NUM_DENSE)


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one photo.

    Attributes:
        points: (N, 2) float32, x and y in pixels of the upright photo, pixel centres at integers; N is 68 or
            1,349.
        visible: (N,) bool.
        image_sha256: of the image file.
        detector: name and version of what found them, e.g. ``face-alignment 1.5.0``.
    """

    points: np.ndarray
    visible: np.ndarray
    image_sha256: str
    detector: str


def landmark_path(cache: str | Path, key: str) -> Path:
    """Where the landmarks of a photo are kept. The image's suffix stays, ``1.jpg`` and ``1.png`` are two
    photos."""
    return Path(cache) / f"{key}.npz"


def write_landmarks(landmarks: Landmarks, path: str | Path) -> None:
    """Write one file, complete or not at all.

    Raises:
        UserError: the points are not 68 or 1,349 finite (x, y) pairs, or the file cannot be written.
    """
    points = check_points(landmarks.points, path)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            points=points,
            visible=np.asarray(landmarks.visible, dtype=bool),
            image_sha256=np.array(landmarks.image_sha256),
            detector=np.array(landmarks.detector),
        )


def read_landmarks(path: str | Path) -> Landmarks:
    """Read what `write_landmarks` wrote.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Landmarks(
                points=check_points(file["points"], path),
                visible=file["visible"].astype(bool),
                image_sha256=str(file["image_sha256"]),
                detector=str(file["detector"]),
            )
    except FileNotFoundError:
        raise UserError("no landmarks for this photo", where=path, fix="Run 'lit_restore prepare'.") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError(
            "damaged landmark file", where=path, fix="Delete it and run 'lit_restore prepare' again."
        ) from None


def check_points(points: np.ndarray, where: object) -> np.ndarray:
    """Finite (68 or 1,349, 2) points as float32.

    Raises:
        UserError: any other number; the dense set is built from 68 points in iBUG order, nothing else fits.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2 or points.shape[0] not in KNOWN_COUNTS:
        raise UserError(
            "landmarks of another kind",
            where=where,
            expected=f"shape (68, 2) in iBUG order or ({NUM_DENSE}, 2)",
            found=f"shape {points.shape}",
            fix="Other schemes, e.g. 468-point meshes, have other meanings and cannot be converted.",
        )
    if not np.isfinite(points).all():
        raise UserError("landmarks are not finite numbers", where=where)
    return points.astype(np.float32)


def load_landmarks(cache: str | Path, photo: Photo, detector: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Dense landmarks of a photo.

    Args:
        detector: if given, only landmarks found by exactly this detector and version count.

    Returns:
        points (1349, 2) float32 in pixels of the photo, and mask (1349,) bool, True = known and visible.
        Without a
        landmark file: zeros and an all-False mask.

    Raises:
        UserError: the file is damaged or stale (made for another image or by another detector).
    """
    path = landmark_path(cache, photo.key)
    if not path.exists():
        return np.zeros((NUM_DENSE, 2), np.float32), np.zeros(NUM_DENSE, bool)
    landmarks = read_landmarks(path)
    for what, expected, found in (
        ("image", photo.sha256, landmarks.image_sha256),
        ("detector", detector, landmarks.detector),
    ):
        if expected is not None and expected != found:
            raise UserError(
                f"stale landmarks (another {what})",
                where=path,
                expected=expected,
                found=found,
                fix="Run 'lit_restore prepare' again, with --landmarks to find new ones.",
            )
    return dense(landmarks)


def dense(landmarks: Landmarks) -> tuple[np.ndarray, np.ndarray]:
    """1,349 points (float32) and mask; an added point is visible if all corners of its triangle are."""
    if len(landmarks.points) == NUM_DENSE:
        return landmarks.points, landmarks.visible
    points = densify(landmarks.points.astype(np.float64)).astype(np.float32)
    if landmarks.visible.all():
        return points, np.ones(NUM_DENSE, bool)
    # Weights that add up to 1 give 1 exactly where every corner counts.
    weight = densify(np.repeat(landmarks.visible[:, None].astype(np.float64), 2, axis=1))[:, 0]
    return points, weight > 1 - 1e-9


def is_current(cache: str | Path, photo: Photo, detector: str) -> bool:
    """True if there are landmarks for exactly this image by exactly this detector."""
    path = landmark_path(cache, photo.key)
    if not path.exists():
        return False
    try:
        landmarks = read_landmarks(path)
    except UserError:
        return False
    return (landmarks.image_sha256, landmarks.detector) == (photo.sha256, detector)


def discard_stale(cache: str | Path, photo: Photo) -> bool:
    """Remove a landmark file that is damaged or belongs to another version of the photo, and say whether there was one:
    nothing may use it."""
    path = landmark_path(cache, photo.key)
    try:
        if not path.exists() or read_landmarks(path).image_sha256 == photo.sha256:
            return False
    except UserError:
        pass
    path.unlink()
    return True


def compute_landmarks(
    photos: Sequence[Photo],
    cache: str | Path,
    detect: Callable[[str], np.ndarray],
    detector: str,
    *,
    num_workers: int = 1,
) -> list[Skipped]:
    """Find landmarks of every photo that has no current file yet; safe to interrupt and to start again.

    Args:
        detect: image path -> (68 or 1349, 2) points in pixels; raises `UserError` if there is no face.
        detector: name and version, kept with the points.
        num_workers: processes.

    Returns:
        The photos without landmarks, with the reason.
    """
    missing = [photo for photo in photos if not is_current(cache, photo, detector)]
    finder = _Finder(Path(cache), detect, detector)
    results = parallel_map(finder, missing, num_workers=num_workers, title="Finding landmarks")
    return [result for result in results if isinstance(result, Skipped)]


@dataclass(frozen=True)
class _Finder:
    """One photo -> its landmark file; a class so that it can be sent to another process."""

    cache: Path
    detect: Callable[[str], np.ndarray]
    detector: str

    def __call__(self, photo: Photo) -> Skipped | None:
        try:
            points = self.detect(photo.path)
        except UserError as error:
            discard_stale(self.cache, photo)
            return Skipped(photo.key, str(error))
        visible = np.ones(len(points), bool)
        write_landmarks(Landmarks(points, visible, photo.sha256, self.detector), landmark_path(self.cache, photo.key))
        return None
