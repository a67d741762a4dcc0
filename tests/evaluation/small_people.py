"""Three small people of a few smooth pictures each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_restore.image import write_image

SIZE_PX = 64
PHOTOS = {"anna": 3, "bert": 3, "carl": 2}


def picture(seed: int, size_px: int = SIZE_PX) -> np.ndarray:
    """A smooth random picture, different for every seed."""
    coarse = np.random.RandomState(seed).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    places = np.arange(size_px) * 8 // size_px
    return coarse[places][:, places]


def write_people(folder: Path) -> Path:
    for person, (name, count) in enumerate(PHOTOS.items()):
        for number in range(count):
            write_image(picture(100 * person + number), folder / name / f"{number}.png")
    return folder
