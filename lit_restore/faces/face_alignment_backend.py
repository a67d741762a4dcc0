"""Faces and 68 points from the face-alignment package (S3FD and FAN; Bulat & Tzimiropoulos, ICCV 2017).

The package downloads its two weight files when it starts. Here they are looked for in the local weight
folders and in torch's download folder first, checked, and only then fetched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from lit_restore.faces.weights import FAN, LANDMARKS68, RETINAFACE, SFD, fetch, locate

MAX_DETECTION_SIDE_PX = 640  # S3FD takes seconds per photo above this; the points are found at full resolution


class FaceAlignmentBackend:
    """The package's networks on a device.

    Args:
        weights: folder to look in first.

    Raises:
        UserError: weights are damaged, or not at hand and cannot be downloaded.
    """

    def __init__(self, weights: str | Path | None = None, device: str = "cpu") -> None:
        needed, instead = [SFD, FAN], [RETINAFACE, LANDMARKS68]
        paths = [locate(file, weights) or fetch(file, weights, needed=needed, instead=instead) for file in needed]
        from face_alignment import FaceAlignment, LandmarksType  # slow import (numba, scikit-image)

        with _download_folder_of(paths):
            # compile=True would compile once and leave a cache in the home folder.
            self.aligner: Any = FaceAlignment(LandmarksType.TWO_D, device=device, compile=False)

    def detect(self, image: np.ndarray, *, min_score: float) -> list[tuple[np.ndarray, float, np.ndarray]]:
        """Faces in a photo: box ``(4,)`` left, top, right, bottom, score, and points ``(68, 2)``.

        Args:
            image: uint8 RGB ``(H, W, 3)``.
        """
        height, width = image.shape[:2]
        scale = min(1.0, MAX_DETECTION_SIDE_PX / max(height, width))
        new_size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(image, new_size, interpolation=cv2.INTER_AREA)
        boxes = [box for box in self.aligner.face_detector.detect_from_image(small) if box[4] >= min_score]
        if not boxes:
            return []
        to_image = np.tile([width / new_size[0], height / new_size[1]], 2)
        boxes = [np.append(box[:4] * to_image, box[4]) for box in boxes]
        points = self.aligner.get_landmarks_from_image(image, detected_faces=boxes)
        return [(box[:4], float(box[4]), found) for box, found in zip(boxes, points, strict=True)]


@contextmanager
def _download_folder_of(paths: list[Path]) -> Iterator[None]:
    """Let torch believe that it has downloaded these files before."""
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        for path in paths:
            try:
                os.symlink(path.resolve(), checkpoints / path.name)
            except OSError:  # file systems and accounts without symbolic links
                shutil.copyfile(path, checkpoints / path.name)
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
