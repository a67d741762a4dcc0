"""Pictures of `ReferenceShares`: whose colour a region of the face has, and where a reference was looked at."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

# Okabe & Ito's colours, which people with any colour vision tell apart; black and yellow vanish on a grey face.
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233))
PALE, STRONG = 0.25, 0.75
"""How opaque the colour is where all references have equal shares, and where one has everything."""
DARK = 0.3
"""Brightness of what was not looked at."""


def colour(number: int) -> tuple[int, int, int]:
    """RGB of reference ``number``, counted from 0."""
    if number < len(COLOURS):
        return COLOURS[number]
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.7, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def owners(drawn: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The reference with the largest share at every pixel, and how clearly it leads.

    Args:
        drawn: (R, G, G) of `ReferenceShares`.

    Returns:
        number (S, S) int64, and lead (S, S) in [0, 1]: 0 = all references have equal shares, 1 = one has everything.
    """
    large = np.stack([cv2.resize(part, (size_px, size_px), interpolation=cv2.INTER_LINEAR) for part in drawn])
    of_references = large.max(0) / np.maximum(large.sum(0), 1e-6)  # whatever the face's own keys took
    even = 1 / len(drawn)
    lead = (of_references - even) / (1 - even) if len(drawn) > 1 else np.ones_like(of_references)
    return large.argmax(0), np.clip(lead, 0, 1)


def drawn_from(face: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The face in grey, every region in the colour of the reference that it drew most from; paler where others helped.

    Args:
        face: uint8 (S, S, 3).
        drawn: (R, G, G).
    """
    number, lead = owners(drawn, len(face))
    colours = np.array([colour(index) for index in range(len(drawn))], np.float32)[number]
    opacity = (PALE + (STRONG - PALE) * lead)[..., None]
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.rint(grey * (1 - opacity) + colours * opacity).astype(np.uint8)


def looked_at(reference: np.ndarray, shares: np.ndarray, most: float) -> np.ndarray:
    """A reference, bright where it was looked at.

    Args:
        reference: uint8 (S, S, 3).
        shares: (G, G) of this reference.
        most: the share that is shown in full brightness.
    """
    size = len(reference)
    large = cv2.resize(shares, (size, size), interpolation=cv2.INTER_LINEAR)
    brightness = DARK + (1 - DARK) * np.clip(large / max(most, 1e-9), 0, 1)[..., None]
    return np.rint(reference * brightness).astype(np.uint8)
