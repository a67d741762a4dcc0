"""What a visitor of the page may send: names, kinds, numbers and sizes of files are checked before one is opened."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.inference.sources import PHOTO_SUFFIXES

MAX_FILE_MB = 64
MAX_PHOTOS = 50
"""Of one person."""
MAX_PEOPLE = 20
MAX_NAME = 60
"""Letters of a person's name."""


def check_photo(path: str | Path) -> Path:
    """A file that may be a photo.

    Raises:
        UserError: its suffix is none of a photo, or it is too large.
    """
    path = Path(path)
    if path.suffix.lower() not in PHOTO_SUFFIXES:
        raise UserError(
            "not the name of a photo", where=path.name, expected=" ".join(PHOTO_SUFFIXES), found=path.suffix or "none"
        )
    size_mb = path.stat().st_size / 1e6
    if size_mb > MAX_FILE_MB:
        raise UserError(
            "file too large", where=path.name, expected=f"at most {MAX_FILE_MB} MB", found=f"{size_mb:.0f} MB"
        )
    return path


def check_photos(paths: Sequence[str | Path], whose: str) -> list[Path]:
    """Photos of one person.

    Raises:
        UserError: as `check_photo`; there are too many.
    """
    if len(paths) > MAX_PHOTOS:
        raise UserError("too many photos", where=whose, expected=f"at most {MAX_PHOTOS}", found=len(paths))
    return [check_photo(path) for path in paths]


def check_name(name: str) -> str:
    """A person's name without blanks around it.

    Raises:
        UserError: it is empty, too long, or has characters that do not belong into a name.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name:
        raise UserError("the person needs a name")
    if len(name) > MAX_NAME:
        raise UserError("name too long", expected=f"at most {MAX_NAME} letters", found=len(name))
    wrong = [letter for letter in name if not letter.isprintable() or letter in '/\\<>:"|?*']
    if wrong:
        raise UserError("not a name", where=ascii(name), found=ascii(wrong[0]), fix="Use letters, digits and blanks.")
    return name


def add_person(
    people: Mapping[str, Sequence[str | Path]], name: str, photos: Sequence[str | Path]
) -> dict[str, list[Path]]:
    """The people and one more, or the same with other photos.

    Raises:
        UserError: as `check_name` and `check_photos`; there is no photo, or there are too many people.
    """
    name = check_name(name)
    if not photos:
        raise UserError("no photos", where=name, expected="at least one good photo")
    known = {one: [Path(path) for path in paths] for one, paths in people.items()}
    known[name] = check_photos(photos, name)
    if len(known) > MAX_PEOPLE:
        raise UserError("too many people", expected=f"at most {MAX_PEOPLE}", found=len(known))
    return known
