"""One face, before and after the networks: its references, and whether it became more like the person."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_restore.image import fit_square
from lit_restore.inference.face_batches import FaceWork
from lit_restore.inference.face_quality import pose
from lit_restore.inference.found_faces import VIEW_PX, FoundFace
from lit_restore.inference.identity import Identity
from lit_restore.inference.matching import Match
from lit_restore.inference.people import Candidate, Person, mean_vector
from lit_restore.inference.reference_choice import choose_references
from lit_restore.inference.report import FaceReport, ReferenceReport
from lit_restore.inference.restored import RestoredFace, Settings
from lit_restore.inference.tone import keep_coarse, match_colour

LOWERED = 0.02
"""A fall of the similarity that is worth a warning; smaller ones are the network's own noise."""
LARGE = 1.5
"""A face so many times wider than the restorer works loses detail that the photo had, or may have had."""


@dataclass(frozen=True)
class FaceRestorer:
    """What happens to faces that were found and matched; `FaceBatches` does the part in between."""

    identity: Identity | None

    def plan(
        self, number: int, face: FoundFace, vector: np.ndarray | None, match: Match, settings: Settings, content: str
    ) -> FaceWork:
        """Choose the references of one face.

        Args:
            number: of the face in its photo.
            vector: of the face, (D,); None where nobody can compare.
            match: whose references it gets.
            content: of the photo it is from.
        """
        started = time.perf_counter()
        report = FaceReport(number, face.box_xyxy, match.action, match.reason, warnings=list(match.warnings))
        references: list[Candidate] = []
        if match.person is not None:
            references, report.references = self._references(match.person, match, face, vector, content, settings)
            report.person = match.person.name
        if match.action == "with references" and not (references and settings.strength > 0):
            report.action = "without references"
            report.reason = _why_none(settings, references)
        report.seconds = time.perf_counter() - started
        return FaceWork(face, vector, match, content, settings, report, references)

    def finish(self, work: FaceWork) -> tuple[RestoredFace, np.ndarray]:
        """Make of what the networks gave what was asked for, and compare it with the references.

        Args:
            work: with its ``values``.

        Returns:
            the face with its report, and its values as float32 (S, S, 3) in [0, 1].
        """
        started = time.perf_counter()
        face, report, settings = work.face, work.report, work.settings
        before = face.crop.astype(np.float32) / 255
        values = keep_coarse(work.values, before, settings.fidelity)
        if settings.match_colour:
            values = match_colour(values, before)
        after = np.rint(values * 255).astype(np.uint8)
        self._compare(work, after)
        if face.side_px > LARGE * len(face.crop):
            width = f"the face's square is {face.side_px:.0f} px wide"
            report.warnings.append(f"{width}, the restorer works at {len(face.crop)}: fine detail is lost")
        report.seconds += time.perf_counter() - started
        return RestoredFace(report, face.crop, after, face.matrix, work.crops, work.shares), values

    def _references(
        self,
        person: Person,
        match: Match,
        face: FoundFace,
        vector: np.ndarray | None,
        content: str,
        settings: Settings,
    ) -> tuple[list[Candidate], list[ReferenceReport]]:
        return choose_references(
            person,
            pose(face.points5),
            vector,
            photo=content,
            limit=settings.max_references,
            threshold=None if self.identity is None or match.on_word else self.identity.threshold,
        )

    def _compare(self, work: FaceWork, after: np.ndarray) -> None:
        """Similarity to the references before and after; to the nearest person where none are used."""
        report, match, vector = work.report, work.match, work.vector
        if vector is None or self.identity is None or match.nearest is None:
            return
        # The same points for both: a restoration cannot move its own crop.
        (restored,) = self.identity([fit_square(after, VIEW_PX)], [work.face.points5])
        known = [candidate.vector for candidate in work.references if candidate.vector is not None]
        if known:
            mean = mean_vector(known)
            before_after = float(mean @ vector), float(mean @ restored)
        else:
            similarity = match.nearest.similarity
            before_after = similarity(vector, work.content), similarity(restored, work.content)
        report.similarity_before, report.similarity_after = before_after
        if match.person is not None and before_after[1] < before_after[0] - LOWERED:
            report.warnings.append(
                f"restoration lowered the similarity to {match.nearest.name}: "
                f"{before_after[0]:.2f} -> {before_after[1]:.2f}"
            )


def _why_none(settings: Settings, references: Sequence[Candidate]) -> str:
    if settings.max_references == 0:
        return "no references wanted"
    return "strength is 0" if references else "no photo of the person can be used"
