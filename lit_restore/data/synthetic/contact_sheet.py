"""Rows of people, columns of their photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_restore.data.synthetic.render import render_face


def contact_sheet(seed: int, identities: Sequence[int], images: Sequence[int], size_px: int) -> np.ndarray:
    """uint8 RGB ``(len(identities) * size_px, len(images) * size_px, 3)``."""
    rows = [[render_face(seed, who, image, size_px).image for image in images] for who in identities]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
