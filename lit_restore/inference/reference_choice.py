"""Which of a person's photos help most with this face.

    score = sqrt(detail * size) * closeness * agreement                                             each in [0, 1]

    detail      pixels of detail in the view, of all it has (`face_quality.detail_px`)
    size        side of the crop in the photo, of the restorer's own; larger ones are no better
    closeness   exp(-(distance of the poses / 0.3)^2); 0.3 is a turn of about 35 degrees
    agreement   cosine with the person's other photos; 1 where nobody can tell

The best ones are taken. The attention shares out its weights among all references, so one that shows the face from
elsewhere, or shows less, costs something; it is still better than none, and nothing is dropped for a low score alone.
"""

from __future__ import annotations

import math

import numpy as np

from lit_restore.inference.people import Candidate, Person
from lit_restore.inference.report import ReferenceReport

POSE_SCALE = 0.3


def score(candidate: Candidate, target_pose: np.ndarray) -> float:
    """How much a photo is worth for a face of this pose, in [0, 1]."""
    face = candidate.face
    detail = candidate.detail_px / len(face.view)
    size = min(1.0, face.side_px / len(face.crop))
    distance = float(np.linalg.norm(candidate.pose - target_pose))
    agreement = 1.0 if candidate.agreement is None else max(0.0, candidate.agreement)
    return math.sqrt(detail * size) * math.exp(-((distance / POSE_SCALE) ** 2)) * agreement


def choose_references(
    person: Person,
    target_pose: np.ndarray,
    target_vector: np.ndarray | None,
    *,
    photo: str,
    limit: int,
    threshold: float | None,
) -> tuple[list[Candidate], list[ReferenceReport]]:
    """The references for one face, in the person's order, and a word on every photo of the person.

    Args:
        target_pose, target_vector: the degraded face's pose and, if a network is at hand, its unit vector.
        photo: digest of the photo it is from, which cannot be its own reference.
        limit: how many are wanted at most.
        threshold: below it a photo of a person without majority is refused; None = not compared.
    """
    scores = {c.name: score(c, target_pose) for c in person.candidates}
    cosines = {c.name: _cosine(c, target_vector) for c in person.candidates}
    reasons: dict[str, str] = {}
    left: list[Candidate] = []
    for candidate in person.candidates:
        cosine = cosines[candidate.name]
        if candidate.content == photo:
            reasons[candidate.name] = "the photo itself"
        elif person.mean is None and threshold is not None and cosine is not None and cosine < threshold:
            reasons[candidate.name] = (
                f"shows somebody else: similarity {cosine:.2f} to the face, needed {threshold:.2f}"
            )
        else:
            left.append(candidate)
    best = sorted(left, key=lambda candidate: -scores[candidate.name])[:limit]
    chosen = [candidate for candidate in left if candidate in best]
    passed_over = f"{limit} better; " if limit else "none wanted; "
    for candidate in left:
        taken = candidate in chosen
        reasons[candidate.name] = ("" if taken else passed_over) + _described(candidate, target_pose)
    used = {candidate.name for candidate in chosen}
    reports = [
        ReferenceReport(name, name in used, reason, scores.get(name), cosines.get(name))
        for name, reason in {**reasons, **person.refused}.items()
    ]
    return chosen, reports


def _cosine(candidate: Candidate, vector: np.ndarray | None) -> float | None:
    return None if candidate.vector is None or vector is None else float(candidate.vector @ vector)


def _described(candidate: Candidate, target_pose: np.ndarray) -> str:
    """The parts of the score in words."""
    face = candidate.face
    parts = [
        f"{face.side_px:.0f} px wide",
        f"detail {candidate.detail_px:.0f}/{len(face.view)}",
        f"pose {np.linalg.norm(candidate.pose - target_pose):.2f} away",
    ]
    if candidate.agreement is not None:
        parts.append(f"{candidate.agreement:.2f} like the others")
    return ", ".join(parts)
