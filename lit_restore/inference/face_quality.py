"""What makes a face a good reference: how much detail it has, and how it is turned. Pure functions of one face."""

from __future__ import annotations

import cv2
import numpy as np

DETAIL_LOSS = 0.03
"""Share of a picture's contrast that may vanish when it is shrunk and enlarged again before this counts as a loss."""
DETAIL_STEP = 2**0.25


def detail_px(face: np.ndarray) -> float:
    """The smallest side in pixels that a face could be stored in without losing more than `DETAIL_LOSS`.

    A photo that was enlarged, or is out of focus, has few whatever its size; noise passes for detail.

    Args:
        face: uint8 (S, S, 3), aligned.

    Returns:
        between S / 32 and S; for photos enlarged by bicubic interpolation up to twice the
        side they were stored in.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    contrast, side = float(grey.std()), len(grey)
    smallest = float(side)
    if contrast < 1e-3:
        return side / 32
    while smallest / DETAIL_STEP >= side / 32:
        size = round(smallest / DETAIL_STEP)
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        again = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
        if float((again - grey).std()) > DETAIL_LOSS * contrast:
            break
        smallest /= DETAIL_STEP
    return smallest


def pose(points5: np.ndarray) -> np.ndarray:
    """How far a head is turned and raised, (2,), without unit: from where the nose tip lies among eyes and mouth.

        turn  = (nose_x - eyes_x) / distance of the eyes           0 from the front, about 0.4 at 45 degrees
        raise = (nose_y - eyes_y) / (mouth_y - eyes_y)             about 0.55 when looking straight ahead

    Args:
        points5: (5, 2) of an upright face: eyes, nose tip, mouth corners.
    """
    eyes, mouth, nose = points5[:2].mean(0), points5[3:].mean(0), points5[2]
    between = max(1e-6, float(np.linalg.norm(points5[1] - points5[0])))
    height = mouth[1] - eyes[1]
    height = height if abs(height) > 0.1 * between else 0.1 * between
    return np.array([(nose[0] - eyes[0]) / between, (nose[1] - eyes[1]) / height])
