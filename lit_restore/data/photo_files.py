"""Photos by name: what a layout reports, and listing of image files. Opens no image."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lit_restore.errors import UserError
from lit_restore.image import IMAGE_SUFFIXES

Role = Literal["hq", "lq", "reference"]

OTHER_IMAGE_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".tif", ".tiff")


@dataclass(frozen=True)
class FoundPhoto:
    """One photo by name.

    Attributes:
        path: the file.
        key: stable name, the path relative to the root with ``/`` separators, Unicode NFC (degradations.md
            6.1).
        identity: the person.
        role: ``hq`` a target (and a reference for other targets of the person), ``lq`` a degraded photo
            without ground truth, ``reference`` never a target.
        lq: file with the fixed degraded version of a target, if the data set has one.
        references: keys of the photos that may be references, best first; None = the other photos of the
            person.
        split: ``train``, ``val`` or ``test`` where the data set itself says so.
        landmarks: ready landmark file that comes with the photo.
    """

    path: Path
    key: str
    identity: str
    role: Role = "hq"
    lq: Path | None = None
    references: tuple[str, ...] | None = None
    split: str | None = None
    landmarks: Path | None = None


@dataclass(frozen=True)
class Found:
    """What a layout found: photos, and (key, reason) of image files it left out."""

    photos: list[FoundPhoto]
    skipped: list[tuple[str, str]]


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key that puts ``2.png`` before ``10.png``."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"([0-9]+)", text) if part]


def photo_key(root: Path, path: Path) -> str:
    """Path relative to ``root``, ``/`` separators, Unicode NFC."""
    return unicodedata.normalize("NFC", path.relative_to(root).as_posix())


def folders_in(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def images_in(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, by suffix; empty if the folder does not exist. Hidden files do not
    count."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _is_image(path))


def images_below(folder: Path) -> list[Path]:
    return sorted(images_in(folder) + [path for inner in folders_in(folder) for path in images_in(inner)])


def refuse_others(folder: Path, keys: Iterable[str]) -> None:
    """Refuse to write photos into a folder that holds others: they would silently become part of the set.

    Raises:
        UserError: ``folder`` has image files, at most one folder deep, that are not in ``keys``.
    """
    if not folder.is_dir():
        return
    others = sorted({photo_key(folder, path) for path in images_below(folder)} - set(keys))
    if others:
        raise UserError(
            "the output holds other photos",
            where=folder,
            found=", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else ""),
            fix="Remove them, or choose an empty folder.",
        )


def _is_image(path: Path) -> bool:
    # A link that leads nowhere counts, so that its absence is reported when it is read.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def image_named(folder: Path, stem: str) -> Path | None:
    """The image ``folder/<stem>.<any image suffix>``."""
    return next((path for path in images_in(folder) if path.stem == stem), None)


def unsupported_in(root: Path, folders: list[Path]) -> list[tuple[str, str]]:
    """Pictures in formats that are not read, so that nobody wonders where they went."""
    return [
        (photo_key(root, path), f"format {path.suffix} is not read (convert it to PNG or JPEG)")
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in OTHER_IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
