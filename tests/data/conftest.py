"""Small folders of photos for the data tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lit_restore.image import write_image


def picture(seed: int, height: int = 96, width: int = 96) -> np.ndarray:
    """A smooth random picture, different for every seed."""
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 6, 3)).astype(np.uint8)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 6 // width
    return coarse[rows][:, columns]


@pytest.fixture
def people_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes ``people/<name>/<number>.png`` with as many photos per name as asked for."""

    def make(root: Path | None = None, /, **counts: int) -> Path:
        root = root or tmp_path / "people"
        for person, (name, count) in enumerate(counts.items()):
            for number in range(count):
                write_image(picture(1000 * person + number), root / name / f"{number}.png")
        return root

    return make
