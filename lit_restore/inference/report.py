"""What was done to a photo and why: plain values, for the screen and for a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lit_restore.models.checked_file import CacheNotes

Action = Literal["with references", "without references", "left"]


@dataclass(frozen=True)
class ReferenceReport:
    """One photo of the person."""

    name: str
    used: bool
    reason: str
    """Why it was used or not."""
    score: float | None = None
    """In [0, 1], see `lit_restore.inference.reference_choice`; None for photos that could not be considered."""
    similarity: float | None = None
    """Cosine with the degraded face."""


@dataclass
class FaceReport:
    """One face of the photo."""

    number: int
    """As ``face`` takes it; 0 is the largest."""
    box_xyxy: tuple[int, int, int, int]
    action: Action
    reason: str
    """Why it was left, or restored without references; '' otherwise."""
    person: str | None = None
    """Whose references were used."""
    similarity_before: float | None = None
    """Cosine of the degraded face with the person; of a face that is nobody's, with the most similar person."""
    similarity_after: float | None = None
    """The same of the restored face."""
    warnings: list[str] = field(default_factory=list)
    references: list[ReferenceReport] = field(default_factory=list)
    cache: CacheNotes = field(default_factory=CacheNotes)
    """What of the references' keys and values came from disk; all zero where the cache is off."""
    seconds: float = 0.0

    @property
    def num_references(self) -> int:
        return sum(reference.used for reference in self.references)


@dataclass
class PhotoReport:
    """One photo."""

    name: str
    size: tuple[int, int]
    """Width and height of the original."""
    settings: dict[str, object]
    """What `Restorer.restore` was asked for."""
    faces: list[FaceReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """About the photo as a whole."""
    taken_as_aligned: dict[str, str] = field(default_factory=dict)
    """Square photo -> why nobody looked for a face in it."""
    seconds: float = 0.0

    @property
    def num_restored(self) -> int:
        return sum(face.action != "left" for face in self.faces)
