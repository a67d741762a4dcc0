"""Landmarks by a face detector: one photo -> 68 points. The only file here that knows the detectors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lit_restore.errors import UserError
from lit_restore.faces.alignment import is_aligned
from lit_restore.faces.detect import Backend, Face, detector_version, find_faces
from lit_restore.faces.weights import LANDMARKS68, missing
from lit_restore.image import read_rgb

NO_LANDMARKS = "no landmarks can be made out in the face (blurred, small or turned away)"


@dataclass(frozen=True)
class LandmarkDetector:
    """Image path -> (68, 2) points in pixels; a class so that it can be sent to another process."""

    backend: Backend = "auto"
    weights: str | None = None
    choose: Literal["only", "largest"] = "only"

    def check(self) -> str:
        """Name and version of the detector.

        Raises:
            UserError: its weights are missing, or they cannot give 68 points.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is an error here
            find_faces(np.zeros((64, 64, 3), np.uint8), backend=self.backend, weights=self.weights)
        version = detector_version(self.backend, self.weights)
        if version.startswith("retinaface-"):
            raise missing([LANDMARKS68], self.weights)
        return version if self.choose == "only" else f"{version} {self.choose}"

    def __call__(self, path: str) -> np.ndarray:
        """Points of the aligned face, else of the only or the largest face.

        Raises:
            UserError: no face, or several, none of them in the middle of an aligned crop, and no choice.
        """
        image = read_rgb(path)
        faces = find_faces(image, backend=self.backend, weights=self.weights)
        face = _the_face(faces, image.shape[:2], self.choose)
        if face.points68 is None:
            raise UserError(NO_LANDMARKS)
        return face.points68


def _the_face(faces: list[Face], size_hw: tuple[int, int], choose: str) -> Face:
    if not faces:
        raise UserError("no face found")
    if size_hw[0] == size_hw[1]:
        for face in faces:
            if is_aligned(face.points5, size_hw[1]):
                return face
    if len(faces) > 1 and choose == "only":
        fix = "Take the largest (--face largest), or crop the photo to one face."
        raise UserError("several faces", found=len(faces), fix=fix)
    return faces[0]
