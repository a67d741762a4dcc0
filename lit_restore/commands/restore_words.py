"""What ``lit_restore restore`` says: reports in lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from lit_restore.inference import FaceReport, PhotoReport, Restorer
    from lit_restore.inference.people import Person
    from lit_restore.models.checked_file import CacheNotes


def summary(report: PhotoReport) -> str:
    """One line on a photo."""
    count = len(report.faces)
    faces = "1 face" if count == 1 else f"{count} faces"
    restored = "restored" if report.num_restored == count else f"{report.num_restored} restored"
    people = [f"{face.person or 'somebody'} with {_references(face)}" for face in report.faces if face.action != "left"]
    listed = ", ".join(people[:4]) + (f" and {len(people) - 4} more" if len(people) > 4 else "")
    return f"{faces}, {restored} ({listed}; {report.seconds:.1f} s)"


def face_lines(report: PhotoReport) -> list[str]:
    """Everything about the faces of a photo."""
    lines = []
    for face in report.faces:
        left, top, right, bottom = face.box_xyxy
        said = [f"face {face.number}, {right - left}x{bottom - top} px at left {left}, top {top}"]
        if face.action == "left":
            said.append(f"left as it is ({face.reason})")
        else:
            said.append(f"{face.person or 'somebody'} restored with {_references(face)}")
            if face.reason:
                said[-1] += f" ({face.reason})"
        if face.similarity_after is not None:
            said.append(f"similarity {face.similarity_before:.2f} -> {face.similarity_after:.2f}")
        if face.cache.found:
            said.append(f"{face.cache.found} of them from the cache")
        lines.append("; ".join(said))
        for reference in sorted(face.references, key=lambda one: (not one.used, -(one.score or 0))):
            mark = "used    " if reference.used else "not used"
            score = "" if reference.score is None else f" score {reference.score:.2f}:"
            lines.append(f"  {mark} {Path(reference.name).name}:{score} {reference.reason}")
    return lines


def people_lines(person: Person) -> list[str]:
    """Who was understood, and the photos that cannot be used."""
    lines = [f"{person.name}: {len(person.candidates)} photos can be used"]
    lines += [f"note: {person.name}: {Path(photo).name} refused: {why}" for photo, why in person.refused.items()]
    if person.mean is None and len(person.candidates) > 1:
        lines.append(f"note: {person.name}: no two of the photos look like the same person")
    return lines


class Notes:
    """Collects what a person should know; each thing is said once, however many photos it is about.

    Args:
        restorer: knows what is missing and where its cache is.
    """

    def __init__(self, restorer: Restorer) -> None:
        self.restorer = restorer
        self._lines: dict[str, None] = {}
        self._about: dict[tuple[str, str], dict[str, None]] = {}
        self._used_references = False
        self._is_cache_useless = False

    def add(self, report: PhotoReport, target: Path) -> None:
        """Take what there is to say about one photo, written to ``target``."""
        for name, why in report.taken_as_aligned.items():
            self._group("taken as aligned faces, being square", why, name)
        if target.suffix.lower() in (".jpg", ".jpeg"):
            self._say("note: JPEG rounds every pixel, also outside of the faces; .png, .tif and .webp keep them")
        for face in report.faces:
            self._used_references |= bool(face.references)
            for text in face.warnings:
                self._say(f"warning: {Path(report.name).name}, face {face.number}: {text}")
            for reference in face.references:
                if not (reference.used or reference.score is not None or self.restorer.people):  # else said before
                    self._group("left out as references", reference.reason, reference.name)
            self._add_cache(face.cache)

    def show(self, stream: TextIO) -> None:
        """Print everything."""
        if self._used_references and self.restorer.no_identity is not None:
            self._say(f"note: faces are not compared with the references: {self.restorer.no_identity}")
        if self.restorer.face_cache is not None:
            self._add_cache(self.restorer.face_cache.notes)
        for (text, reason), names in self._about.items():
            listed = ", ".join(list(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            print(f"note: {text}: {listed} ({reason})", file=stream)
        for line in self._lines:
            print(line, file=stream)
        cache = self.restorer.cache
        if cache is not None and self._used_references and (size := cache.size_bytes()):
            print(f"note: reference cache: {size / 1e6:,.1f} MB in {cache.folder}", file=stream)

    def _add_cache(self, notes: CacheNotes) -> None:
        for path, why in notes.rebuilt.items():
            self._say(f"note: damaged file of the reference cache replaced: {path} ({why})")
        if notes.not_stored and not self._is_cache_useless:
            self._is_cache_useless = True  # every file has a reason of its own, and all are the same
            self._say(f"note: the reference cache cannot be used, which only costs time: {notes.not_stored}")

    def _say(self, line: str) -> None:
        self._lines[line] = None

    def _group(self, text: str, reason: str, name: str) -> None:
        self._about.setdefault((text, reason), {})[Path(name).name] = None


def _references(face: FaceReport) -> str:
    count = face.num_references if face.action == "with references" else 0
    return "no references" if count == 0 else f"{count} reference{'' if count == 1 else 's'}"
