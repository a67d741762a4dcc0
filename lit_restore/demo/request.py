"""One click on "Restore", without the web: uploads and knobs in, picture and report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_restore.demo.uploads import check_photo, check_photos
from lit_restore.errors import UserError
from lit_restore.inference import ReportPage, Restorer


@dataclass(frozen=True)
class Knobs:
    """What a visitor can turn; the arguments of `Restorer.restore`."""

    strength: float = 1.0
    fidelity: float = 0.0
    max_references: int = 4
    blind_strangers: bool = False
    """Restore faces of others too, without references."""


@dataclass(frozen=True)
class Answer:
    """What a visitor gets."""

    picture: Path
    """PNG with everything that the photo had."""
    report: Path
    """The page of evidence."""


def answer(
    restorer: Restorer,
    checkpoint: str,
    photo: str | Path | None,
    people: Mapping[str, Sequence[str | Path]],
    references: Sequence[str | Path],
    knobs: Knobs,
    folder: Path,
) -> Answer:
    """Restore a photo that was uploaded.

    Args:
        restorer: its people become those of this visitor.
        checkpoint: what the report calls it.
        people: name -> photos; what `add_person` gave.
        references: of the one person in the photo; not together with people.
        folder: where picture and report are written.

    Raises:
        UserError: there is no photo, an upload is refused, or nothing can be restored. Uploads go by their names.
    """
    if photo is None:
        raise UserError("no photo to restore", fix="Upload one.")
    if people and references:
        raise UserError("references and people exclude each other", fix="Add the references as a person.")
    uploads = [Path(path) for path in [photo, *references, *(path for paths in people.values() for path in paths)]]
    try:
        return _answer(restorer, checkpoint, check_photo(photo), people, references, knobs, folder)
    except UserError as error:
        raise _without_folders(error, uploads) from None


def _answer(
    restorer: Restorer,
    checkpoint: str,
    photo: Path,
    people: Mapping[str, Sequence[str | Path]],
    references: Sequence[str | Path],
    knobs: Knobs,
    folder: Path,
) -> Answer:
    restorer.people.clear()
    for name, photos in people.items():
        restorer.enroll(name, photos)
    restored = restorer.restore(
        photo,
        check_photos(references, "references"),
        strangers="blind" if knobs.blind_strangers else "leave",
        strength=knobs.strength,
        fidelity=knobs.fidelity,
        max_references=knobs.max_references,
        attention=True,
    )
    page = ReportPage(restorer, checkpoint=checkpoint)
    page.add(restored)
    result = Answer(folder / f"{photo.stem}_restored.png", folder / f"{photo.stem}_report.html")
    restored.save(result.picture)
    page.write(result.report)
    return result


def _without_folders(error: UserError, uploads: Sequence[Path]) -> UserError:
    """The same line with the names that the visitor knows."""
    text = str(error)
    for path in uploads:
        text = text.replace(str(path), path.name)
    return UserError(text)
