"""Where the five points of the faces in a batch come from.

InstantRestore's code detects them in the restoration and in the truth, each for itself; see `Points`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from lit_restore.errors import UserError
from lit_restore.faces.alignment import ffhq_template, points_5_from_68
from lit_restore.faces.crop import is_face
from lit_restore.faces.detect import find_faces
from lit_restore.image import to_uint8

Points = Literal["target", "detect", "template"]
"""``target``: the landmarks stored with the truth, used for both images: deterministic, no detector in the loop, and a
restoration cannot move the crop in its favour. ``detect``: a detector looks at both images, as InstantRestore's code
does (that uses MTCNN, here it is the one of `lit_restore.faces.detect`). ``template``: where FFHQ-aligned faces have
them; for aligned data sets without landmarks."""

_OF_68 = [*range(36, 48), 30, 48, 54]  # eyes, nose tip, mouth corners


def landmark_points(landmarks: torch.Tensor, mask: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Five points from the landmarks of a batch, whose first 68 are those of iBUG.

    Args:
        landmarks: (B, L, 2), L >= 68.
        mask: (B, L) bool, True = known.

    Returns:
        (B, 5, 2) and whether all of them are known and look like a face, (B,) bool.
    """
    points5 = points_5_from_68(landmarks[:, :68].double().cpu().numpy())
    known = mask[:, _OF_68].all(1).cpu().numpy()
    return points5, np.array([bool(k) and is_face(p) for k, p in zip(known, points5, strict=True)], bool)


def detected_points(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Five points of the largest face in every image (B, 3, H, W) in [-1, 1]; as `landmark_points`.

    Raises:
        UserError: the detector's weights are missing or damaged.
    """
    points5, found = np.zeros((len(images), 5, 2)), np.zeros(len(images), bool)
    for index, image in enumerate(images.detach().float().clamp(-1, 1)):
        faces = find_faces(to_uint8(image), device=str(images.device))
        if faces:
            points5[index], found[index] = faces[0].points5, True
    return points5, found


def template_points(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The five points of FFHQ-aligned faces in every image (B, 3, S, S); as `landmark_points`.

    Raises:
        UserError: the images are not square.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise UserError("images of aligned faces must be square", found=f"{width}x{height}")
    return np.tile(ffhq_template(width), (len(images), 1, 1)), np.ones(len(images), bool)
