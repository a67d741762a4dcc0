"""One photo, before and after the networks: whose faces it shows, and the photo with the restored ones in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_restore.errors import UserError
from lit_restore.image import pixels_sha256
from lit_restore.inference.face_batches import FaceWork
from lit_restore.inference.face_restorer import FaceRestorer
from lit_restore.inference.found_faces import FaceFinder, FoundFace
from lit_restore.inference.identity import Identity
from lit_restore.inference.matching import Match, match_faces, several_faces
from lit_restore.inference.paste import PlacedFace, paste_faces
from lit_restore.inference.people import Person
from lit_restore.inference.picture import Picture
from lit_restore.inference.report import FaceReport, PhotoReport
from lit_restore.inference.restored import Choice, RestoredPhoto, Settings


@dataclass
class PhotoWork:
    """A photo on its way through the networks."""

    picture: Picture
    report: PhotoReport
    whole: bool
    """The photo comes back as a whole rather than as the crop of one face."""
    faces: list[FaceReport | FaceWork]
    """In the photo's order; those that stay as they are have nothing but a report."""

    @property
    def to_restore(self) -> list[FaceWork]:
        return [face for face in self.faces if isinstance(face, FaceWork)]


@dataclass(frozen=True)
class PhotoRestorer:
    """What happens to photos; `FaceBatches` does the part in between."""

    finder: FaceFinder
    identity: Identity | None
    faces: FaceRestorer

    def plan(
        self, name: str, picture: Picture, given: Person | None, known: Sequence[Person], settings: Settings
    ) -> PhotoWork:
        """Find the faces of a photo and say whose they are.

        Args:
            given: whose photos were given as references.
            known: who is looked for otherwise.

        Raises:
            UserError: it shows no face, or none that may be restored, or nothing that was given can be used for it.
        """
        started = time.perf_counter()
        image = picture.rgb
        report = PhotoReport(name, (image.shape[1], image.shape[0]), vars(settings))
        found = self.finder(image, settings.aligned)
        if found.assumed:
            report.taken_as_aligned[name] = found.assumed
        numbers = _choose(found.faces, settings.face, name)
        faces = [found.faces[number] for number in numbers]
        content = pixels_sha256(image)
        if given is not None:
            _check_usable(given, content)
            report.taken_as_aligned |= given.taken_as_aligned
        people = list(known) if given is None else [given]
        vectors = None
        if people and self.identity is not None:
            vectors = self.identity([face.view for face in faces], [face.points5 for face in faces])
        matches = self._match(faces, vectors, people, content, settings, certain=given is not None)
        if settings.crop and sum(match.action != "left" for match in matches) > 1:
            raise several_faces(faces)
        work = PhotoWork(picture, report, not (found.is_aligned or settings.crop), [])
        for index, (number, face, match) in enumerate(zip(numbers, faces, matches, strict=True)):
            if match.action == "left":
                work.faces.append(_left(number, face, match))
            else:
                vector = None if vectors is None else vectors[index]
                work.faces.append(self.faces.plan(number, face, vector, match, settings, content))
        report.faces = [face.report if isinstance(face, FaceWork) else face for face in work.faces]
        if not work.to_restore:
            raise _nobody(report)
        report.seconds = time.perf_counter() - started
        return work

    def finish(self, work: PhotoWork) -> RestoredPhoto:
        """The photo with its faces, once they have their values."""
        started = time.perf_counter()
        report = work.report
        report.seconds += sum(face.report.seconds for face in work.to_restore)
        done = [self.faces.finish(face) for face in work.to_restore]
        if work.whole:
            placed = [PlacedFace(values, face.matrix) for face, values in done]
            result = work.picture.with_pixels(paste_faces(work.picture.pixels, placed))
        else:
            result = Picture(done[0][0].after)
        report.seconds += time.perf_counter() - started
        return RestoredPhoto(result, report, [face for face, _ in done], work.picture)

    def _match(
        self,
        faces: Sequence[FoundFace],
        vectors: np.ndarray | None,
        people: Sequence[Person],
        content: str,
        settings: Settings,
        certain: bool,
    ) -> list[Match]:
        return match_faces(
            faces,
            vectors,
            people,
            threshold=0.0 if self.identity is None else self.identity.threshold,
            photo=content,
            strangers=settings.strangers,
            certain=certain,
            trust=settings.trust_references and certain,
        )


def nothing_usable(refused: dict[str, str], what: str) -> UserError:
    """The error that says why each photo of a person is refused."""
    return UserError(
        what,
        found="; ".join(f"{name}: {reason}" for name, reason in refused.items()),
        fix="Give other photos, or none to restore without references.",
    )


def _check_usable(person: Person, photo: str) -> None:
    if not any(candidate.content != photo for candidate in person.candidates):
        itself = {candidate.name: "the photo itself" for candidate in person.candidates}
        raise nothing_usable({**itself, **person.refused}, "none of the references can be used")


def _choose(faces: Sequence[FoundFace], choice: Choice, where: str) -> list[int]:
    if not faces:
        raise UserError(
            "no face found",
            where=where,
            fix="Turn the photo upright, crop it closer to the face, or pass an already aligned face.",
        )
    if choice == "all":
        return list(range(len(faces)))
    if choice == "largest":
        return [0]
    if isinstance(choice, int) and 0 <= choice < len(faces):
        return [choice]
    listed = ", ".join(f"{number}: {face.text}" for number, face in enumerate(faces))
    raise UserError(
        "no such face", where=where, expected="'all', 'largest' or a number below", found=f"{choice!r} ({listed})"
    )


def _left(number: int, face: FoundFace, match: Match) -> FaceReport:
    return FaceReport(number, face.box_xyxy, "left", match.reason, similarity_before=match.similarity)


def _nobody(report: PhotoReport) -> UserError:
    more = f" and {len(report.faces) - 6} more" if len(report.faces) > 6 else ""
    return UserError(
        "no face of a known person",
        where=report.name,
        found="; ".join(f"face {face.number}: {face.reason}" for face in report.faces[:6]) + more,
        fix="--strangers blind restores faces of others without references.",
    )
