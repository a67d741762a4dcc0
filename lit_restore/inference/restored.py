"""What a restoration is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lit_restore.errors import UserError
from lit_restore.inference.found_faces import Alignment
from lit_restore.inference.matching import Strangers
from lit_restore.inference.picture import Picture
from lit_restore.inference.picture_file import write_picture
from lit_restore.inference.report import FaceReport, PhotoReport
from lit_restore.models.reference_shares import ReferenceShares

Choice = Literal["all", "largest"] | int
"""Which faces of a photo: all, the largest, or one by its number, 0 being the largest."""


@dataclass(frozen=True)
class Settings:
    """How a photo is restored; the arguments of `Restorer.restore`, which explains them.

    Raises:
        UserError: strength or fidelity is not between 0 and 1.
    """

    aligned: Alignment = "auto"
    crop: bool = False
    face: Choice = "all"
    strangers: Strangers = "leave"
    trust_references: bool = False
    strength: float = 1.0
    fidelity: float = 0.0
    match_colour: bool = False
    seed: int = 0
    max_references: int | None = None
    """None = the restorer's number, which takes its place before anything is restored."""
    attention: bool = False

    def __post_init__(self) -> None:
        for name in ("strength", "fidelity"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} out of range", expected="0 to 1", found=getattr(self, name))


@dataclass(frozen=True)
class RestoredFace:
    """One face that was restored."""

    report: FaceReport
    before: np.ndarray
    """uint8 RGB (S, S, 3): what the restorer saw."""
    after: np.ndarray
    """uint8 RGB (S, S, 3): what it made of it."""
    matrix: np.ndarray
    """(2, 3) from pixels of the photo to pixels of ``before`` and ``after``."""
    references: list[np.ndarray]
    """uint8 RGB (S, S, 3) each: the references that were used."""
    shares: ReferenceShares | None = None
    """Which reference each region drew from, if that was asked for and there were references."""


@dataclass(frozen=True)
class RestoredPhoto:
    """A restored photo and what was done to it."""

    picture: Picture
    report: PhotoReport
    faces: list[RestoredFace]
    original: Picture
    """The photo as it was read."""

    @property
    def image(self) -> np.ndarray:
        """Pixels (H, W, 3), or (H, W, 1) of a grey photo, uint8 or uint16 as the photo was; upright."""
        return self.picture.pixels

    @property
    def is_crop(self) -> bool:
        """Whether it is the aligned face alone rather than the whole photo."""
        return self.picture.pixels is self.faces[0].after

    def save(self, path: str | Path) -> None:
        """Write it with the photo's EXIF, orientation, ICC profile and alpha; see `write_picture`."""
        write_picture(self.picture, path)
