"""From a photo to faces, and from a photo to one aligned face."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from lit_restore.errors import UserError, nearest
from lit_restore.faces.alignment import (
    FFHQ_TEMPLATE_512,
    compose,
    is_aligned,
    points_5_from_68,
    scaling,
    similarity,
    transform_points,
    warp,
)
from lit_restore.faces.weights import LANDMARKS68, LANDMARKS68_CONVERTED, RETINAFACE, locate, missing
from lit_restore.image import fit_square

Backend = Literal["auto", "retinaface", "face-alignment"]
BACKENDS: tuple[Backend, ...] = ("auto", "retinaface", "face-alignment")

MIN_SCORE = 0.8
"""On 83 portraits every sitter scores above 0.98; background that looks like a face mostly stays below."""

DETECTION_SIDES_PX = (256, 640, 1280)
"""RetinaFace looks at the photo in these sizes and stops at the first that shows a face. In a small picture
large or blurred faces are found more surely, and seldom twice; faces narrower than about a twentieth of the
longer side need the larger ones."""

AGREEMENT = 1 / 32
"""How far the five points among the 68 may lie from the detector's on average, as a fraction of an aligned crop's side.
The small 68-point network knows sharp faces (0.9 % in the median of 42 portraits, 2.1 % at most); blur makes it lose
the face altogether (10 % and more), while the detector's points hold."""


@dataclass(frozen=True)
class Face:
    """A face in the pixels of its photo (pixel centres at integers)."""

    box_xyxy: np.ndarray
    """``(4,)`` left, top, right, bottom."""
    score: float
    """The detector's confidence in [0, 1]."""
    points5: np.ndarray
    """``(5, 2)`` eyes, nose tip, mouth corners in image order."""
    points68: np.ndarray | None
    """``(68, 2)`` in iBUG order, or None if the 68-point network is not at hand or cannot make out the face."""

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return float(np.prod(self.box_xyxy[2:] - self.box_xyxy[:2]))


@dataclass(frozen=True)
class AlignedFace:
    """A face in the FFHQ frame."""

    image: np.ndarray
    """uint8 RGB ``(S, S, 3)``, grey where the photo ends."""
    matrix: np.ndarray
    """``(2, 3)`` from pixels of the photo to pixels of ``image``; `alignment.invert` leads back."""
    points68: np.ndarray | None
    """``(68, 2)`` in pixels of ``image``."""
    face: Face
    """The same face in the photo."""


def find_faces(
    image: np.ndarray, *, backend: Backend = "auto", weights: str | Path | None = None, device: str = "cpu"
) -> list[Face]:
    """All faces in a photo, largest first.

    Args:
        image: uint8 RGB ``(H, W, 3)``.
        backend: ``auto`` takes RetinaFace where its file is at hand, else face-alignment, which may download.
        weights: folder to look for weight files in, before those of `weights.search_folders`.
        device: where the networks run, ``cpu`` or ``cuda``.

    Raises:
        UserError: weights are missing or damaged, or the backend is unknown.
    """
    faces = _load(backend, weights, device)(image)
    return sorted(faces, key=lambda face: -face.area)


def detector_version(backend: Backend = "auto", weights: str | Path | None = None) -> str:
    """Name and version of what `find_faces` would use: part of the key of cached landmarks."""
    if _resolve(backend, weights) == "retinaface":
        points = "+68" if _locate68(weights) else ""
        return f"retinaface{points}-2"
    return f"face-alignment-{importlib.metadata.version('face-alignment')}"


def align_face(
    image: np.ndarray,
    size_px: int = 512,
    *,
    choose: Literal["only", "largest"] | int = "only",
    backend: Backend = "auto",
    weights: str | Path | None = None,
    device: str = "cpu",
    where: object = None,
) -> AlignedFace:
    """Cut one face out of a photo, upright and in the FFHQ frame.

    A square picture with a face that already lies there is only resized, unless another is asked for by number.

    Args:
        image: uint8 RGB ``(H, W, 3)``.
        choose: which face, if there are several: ``only`` refuses, ``largest``, or its number in the refusal.
        backend, weights, device: as for `find_faces`.
        where: what error messages call the photo.

    Raises:
        UserError: no face, several faces and no choice, or as `find_faces`.
    """
    faces = find_faces(image, backend=backend, weights=weights, device=device)
    height, width = image.shape[:2]
    if height == width and choose in ("only", "largest"):
        for face in faces:
            if is_aligned(face.points5, width):
                return _aligned(face, fit_square(image, size_px), scaling(size_px / width))
    face = _choose(faces, choose, where)
    matrix = compose(scaling(size_px / 512), similarity(face.points5, FFHQ_TEMPLATE_512))
    return _aligned(face, warp(image, matrix, size_px), matrix)


def _aligned(face: Face, image: np.ndarray, matrix: np.ndarray) -> AlignedFace:
    points68 = None if face.points68 is None else transform_points(face.points68, matrix)
    return AlignedFace(image, matrix, points68, face)


def _choose(faces: list[Face], choose: Literal["only", "largest"] | int, where: object) -> Face:
    if not faces:
        raise UserError(
            "no face found",
            where=where,
            fix="Turn the photo upright, crop it closer to the face, or pass an already aligned face.",
        )
    if choose == "largest" or (choose == "only" and len(faces) == 1):
        return faces[0]
    if isinstance(choose, int) and 0 <= choose < len(faces):
        return faces[choose]
    listed = ", ".join(f"{number}: {_box_text(face)}" for number, face in enumerate(faces))
    if choose == "only":
        raise UserError(
            "several faces",
            where=where,
            found=f"{len(faces)} ({listed})",
            fix="Say which (--face largest, or its number), or crop the photo to one face.",
        )
    raise UserError(
        "no such face",
        where=where,
        expected="'only', 'largest' or a number below",
        found=f"{choose!r} ({listed})",
    )


def _box_text(face: Face) -> str:
    left, top, right, bottom = (round(float(edge)) for edge in face.box_xyxy)
    return f"{right - left}x{bottom - top} px at left {left}, top {top}"


def _resolve(backend: str, weights: str | Path | None) -> str:
    if backend not in BACKENDS:
        raise UserError(f"unknown face detector '{backend}'", fix=nearest(backend, BACKENDS))
    if backend != "auto":
        return backend
    return "face-alignment" if locate(RETINAFACE, weights) is None else "retinaface"


@lru_cache(maxsize=4)
def _load(backend: str, weights: str | Path | None, device: str) -> Callable[[np.ndarray], list[Face]]:
    """The networks, read once per process."""
    if _resolve(backend, weights) == "retinaface":
        return _retinaface(weights, device)
    return _face_alignment(weights, device)


def _locate68(weights: str | Path | None) -> Path | None:
    """The 68-point network in either form; both hold the same numbers."""
    return locate(LANDMARKS68, weights) or locate(LANDMARKS68_CONVERTED, weights)


def _retinaface(weights: str | Path | None, device: str) -> Callable[[np.ndarray], list[Face]]:
    from lit_restore.faces.landmarks68 import Landmarks68
    from lit_restore.faces.retinaface import RetinaFaceDetector

    path, path68 = locate(RETINAFACE, weights), _locate68(weights)
    if path is None:
        raise missing([RETINAFACE] if path68 else [RETINAFACE, LANDMARKS68], weights)
    if path68 is None:
        message = f"faces are aligned by five rough points only; for better ones: {missing([LANDMARKS68], weights)}"
        warnings.warn(message, stacklevel=4)  # points at the caller of find_faces
    detector = RetinaFaceDetector(path, device)
    landmarks = Landmarks68(path68, device) if path68 else None

    def find(image: np.ndarray) -> list[Face]:
        for side_px in DETECTION_SIDES_PX:
            found = detector.detect(image, min_score=MIN_SCORE, max_side_px=side_px)
            looked = [(face, detector.refine(image, face.points5)) for face in found]
            confirmed = [(face, points5) for face, points5 in looked if points5 is not None]
            if confirmed or side_px >= max(image.shape[:2]):
                break
        faces = []
        for face, points5 in confirmed:
            points68 = landmarks.detect(image, points5) if landmarks else None
            if points68 is not None and not _agree(points5, points_5_from_68(points68)):
                points68 = None
            if points68 is not None:
                points5 = (points5 + points_5_from_68(points68)) / 2
            faces.append(Face(face.box_xyxy, face.score, points5, points68))
        return faces

    return find


def _agree(points5: np.ndarray, others: np.ndarray) -> bool:
    """Whether two networks see the same face in the same place."""
    frame = similarity(points5, FFHQ_TEMPLATE_512)
    apart = transform_points(others, frame) - transform_points(points5, frame)
    return bool(np.linalg.norm(apart, axis=-1).mean() < AGREEMENT * 512)


def _face_alignment(weights: str | Path | None, device: str) -> Callable[[np.ndarray], list[Face]]:
    from lit_restore.faces.face_alignment_backend import FaceAlignmentBackend

    backend = FaceAlignmentBackend(weights, device)

    def find(image: np.ndarray) -> list[Face]:
        found = backend.detect(image, min_score=MIN_SCORE)
        return [Face(box, score, points_5_from_68(points68), points68) for box, score, points68 in found]

    return find
