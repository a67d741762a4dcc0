"""What counts as photos: one, several, or the images of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lit_restore.data.photo_files import natural_key
from lit_restore.errors import UserError
from lit_restore.image import IMAGE_SUFFIXES
from lit_restore.inference.picture import Picture, read_picture

Photo = str | Path | np.ndarray
"""A file, or uint8 RGB (H, W, 3)."""

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".bmp", ".gif")
"""What is looked at in a folder. GIF only to say of an animation that it is none of a photo."""


def list_photos(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo, several, or the images of a folder in natural order.

    Raises:
        UserError: the file or folder does not exist or cannot be read, or the folder holds no image.
    """
    if isinstance(photos, np.ndarray):
        return [photos]
    if not isinstance(photos, (str, Path)):
        return list(photos)
    path = Path(photos)
    if not path.exists():
        raise UserError("no such photo or folder", where=path, fix="Check the path.")
    if not path.is_dir():
        return [path]
    # Names with a leading dot are what some systems put beside every photo.
    files = [f for f in entries(path) if f.suffix.lower() in PHOTO_SUFFIXES and not f.name.startswith(".")]
    if not files:
        folders = [entry.name for entry in entries(path) if entry.is_dir()]
        found = f"folders: {', '.join(folders[:3])}{', ...' if len(folders) > 3 else ''}" if folders else None
        raise UserError("no images in folder", where=path, expected=" ".join(PHOTO_SUFFIXES), found=found)
    return sorted(files, key=lambda file: natural_key(file.name))


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in natural order.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise UserError("folder cannot be read", where=folder, found=found) from None


def read(photo: Photo) -> Picture:
    """A file, or an array as the picture of one.

    Raises:
        UserError: as `read_picture`; the array is no photo.
    """
    if not isinstance(photo, np.ndarray):
        return read_picture(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise UserError("not a photo", expected="uint8 (height, width, 3), RGB", found=f"{photo.dtype} {photo.shape}")
    return Picture(photo)


def name_of(photo: Photo) -> str:
    """What messages call a photo."""
    return "photo" if isinstance(photo, np.ndarray) else str(photo)


def state_of_file(photo: Photo) -> tuple[object, ...] | None:
    """Changes when the file changes; None for arrays and files that are not there."""
    try:
        status = Path(photo).stat()
    except (TypeError, OSError):
        return None
    return (str(photo), status.st_mtime_ns, status.st_size)
