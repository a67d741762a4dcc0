"""Which face of a photo is whose, and what is done with those that are nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lit_restore.errors import UserError
from lit_restore.inference.found_faces import FoundFace
from lit_restore.inference.identity import BLURRED_DOUBT, DOUBT, MARGIN
from lit_restore.inference.people import Person
from lit_restore.inference.report import Action

Strangers = Literal["leave", "blind"]
"""What happens to faces of nobody we know: they stay as they are, or are restored without references."""


@dataclass(frozen=True)
class Match:
    """What is done with one face."""

    action: Action
    person: Person | None = None
    """Whose references it gets."""
    nearest: Person | None = None
    """Whom it is most like."""
    similarity: float | None = None
    """With ``nearest``."""
    reason: str = ""
    """Why not with references."""
    warnings: list[str] = field(default_factory=list)
    on_word: bool = False
    """Nobody but the user says that the references show this person."""


def match_faces(
    faces: Sequence[FoundFace],
    vectors: np.ndarray | None,
    people: Sequence[Person],
    *,
    threshold: float,
    photo: str,
    strangers: Strangers,
    certain: bool,
    trust: bool,
) -> list[Match]:
    """Match every face with a person.

    Args:
        vectors: (F, D), or None where no network can compare.
        threshold: of `Identity`.
        photo: content of the photo.
        certain: there is one person, and whoever asks says that the photo shows them. Of a single face too blurred to
            be recognised this is believed, unless not even a little of the likeness is left; a refused one is restored
            at least.
        trust: that word counts more than the network's.

    Raises:
        UserError: several faces of which nobody can say which is the person's.
    """
    if not people:
        return [Match("without references", reason="no references given") for _ in faces]
    if vectors is None or trust:
        if len(faces) > 1:
            raise several_faces(faces)
        if vectors is None:
            return [Match("with references", people[0], on_word=True)]
        return [_on_word(people[0], people[0].similarity(vectors[0], photo), threshold, "used on your word")]
    restore_anyway = certain and len(faces) == 1
    if restore_anyway and faces[0].is_too_coarse_to_recognise:
        similarity = people[0].similarity(vectors[0], photo)
        if threshold - BLURRED_DOUBT <= similarity < threshold:
            return [_on_word(people[0], similarity, threshold, "too blurred to be sure, used on your word")]
    return [_match(vector, people, threshold, photo, strangers == "blind", restore_anyway) for vector in vectors]


def _on_word(person: Person, similarity: float, threshold: float, why: str) -> Match:
    warnings = []
    if similarity < threshold:
        warnings = [f"similarity {similarity:.2f} to the references, needed {threshold:.2f}: {why}"]
    return Match("with references", person, person, similarity, on_word=True, warnings=warnings)


def _match(
    vector: np.ndarray, people: Sequence[Person], threshold: float, photo: str, blind: bool, restore_anyway: bool
) -> Match:
    similar = sorted(((person.similarity(vector, photo), person) for person in people), key=lambda pair: -pair[0])
    best, nearest = similar[0]
    second = similar[1][0] if len(similar) > 1 else -1.0
    if best >= threshold and best - second >= MARGIN:
        return Match("with references", nearest, nearest, best)
    if best >= threshold:
        reason = f"like {nearest.name} ({best:.2f}) and {similar[1][1].name} ({second:.2f}) alike: doubtful"
    else:
        who = "somebody else, or too blurred to tell" if best >= threshold - DOUBT else "somebody else"
        reason = f"{who}: similarity {best:.2f} to {nearest.name}, needed {threshold:.2f}"
    warnings = []
    if restore_anyway:
        warnings = [f"{reason}; restored without them (--trust-references uses them all the same)"]
    return Match("without references" if blind or restore_anyway else "left", None, nearest, best, reason, warnings)


def several_faces(faces: Sequence[FoundFace]) -> UserError:
    """The error that lists the faces by number."""
    listed = ", ".join(f"{number}: {face.text}" for number, face in enumerate(faces[:6]))
    more = f" and {len(faces) - 6} more" if len(faces) > 6 else ""
    return UserError(
        "several faces, and nothing to tell which is the person's",
        found=f"{len(faces)} ({listed}{more})",
        fix="Say which (--face largest, or its number), or crop the photo to one face.",
    )
