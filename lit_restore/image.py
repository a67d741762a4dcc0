"""Pixels in and out: the only place where files become arrays and value ranges change.

Conventions used everywhere else: RGB; files and metrics in ``[0, 255]`` uint8 or ``[0, 1]``, networks and losses in
``[-1, 1]``; arrays are ``(H, W, 3)``, tensors ``(3, H, W)``.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lit_restore.errors import UserError

if TYPE_CHECKING:
    import torch

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_UMASK = os.umask(0)  # asked once: it can only be read by setting it, for all threads
os.umask(_UMASK)
MAX_PIXELS = 175_000_000  # 13,000 x 13,000; above this a file is more likely a decompression bomb than a photo


def read_rgb(path: str | Path) -> np.ndarray:
    """Decode an image file to uint8 RGB ``(H, W, 3)``, upright.

    EXIF orientation is applied; grayscale is repeated to three channels, transparency is laid on mid-grey, 16-bit
    is scaled to 8, CMYK and palettes are converted. Only the first frame of an animation is read.

    Raises:
        UserError: the file is missing, empty, truncated, not an image, or larger than `MAX_PIXELS`.
    """
    with open_image(path) as image:
        image.load()
        return _to_rgb8(ImageOps.exif_transpose(image))


@contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """An image file as Pillow opens it, not decoded yet.

    Raises:
        UserError: as `read_rgb`, also for what goes wrong while the image is used.
    """
    path = Path(path)
    try:
        # Set rather than switched on and off, which is not safe where several threads read.
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    "image too large",
                    where=path,
                    expected=f"at most {MAX_PIXELS // 10**6} megapixels",
                    found=f"{image.width}x{image.height}",
                    fix="Scale it down first.",
                )
            yield image
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("no such image file", where=path) from None
    except IsADirectoryError:
        raise UserError("a folder where an image file was expected", where=path) from None
    except Image.DecompressionBombError:
        limit = f"at most {MAX_PIXELS // 10**6} megapixels"
        raise UserError("image too large", where=path, expected=limit, fix="Scale it down first.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        size = path.stat().st_size if path.exists() else 0
        if isinstance(error, PermissionError):
            raise UserError("image cannot be read (permission denied)", where=path) from None
        what = "empty file, not an image" if size == 0 else "image cannot be decoded (truncated or not an image)"
        raise UserError(what, where=path, found=f"{size} bytes") from None


def _to_rgb8(image: Image.Image) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        # 16-bit files arrive as I;16 or I; scale by the full 16-bit range, never by the image's own maximum.
        grey = np.clip(np.rint(values / 257.0), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (128, 128, 128, 255))
        return np.array(Image.alpha_composite(backdrop, image).convert("RGB"))
    return np.array(image.convert("RGB"))  # a copy: torch wants writable arrays


def pixels_sha256(image: np.ndarray) -> str:
    """SHA-256 of shape and pixels: equal for equal pictures, whatever kind of file they come from."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def fit_square(image: np.ndarray, size_px: int) -> np.ndarray:
    """Scale the shorter side to ``size_px`` (Lanczos) and crop the centre square, as the papers prepare faces.

    Args:
        image: uint8 ``(H, W, 3)``.

    Returns:
        uint8 ``(size_px, size_px, 3)``; the input itself when it already has that size.
    """
    height, width = image.shape[:2]
    if (height, width) == (size_px, size_px):
        return image
    scale = size_px / min(height, width)
    new_width, new_height = max(size_px, round(width * scale)), max(size_px, round(height * scale))
    resized = np.array(Image.fromarray(image).resize((new_width, new_height), Image.Resampling.LANCZOS))
    top, left = (new_height - size_px) // 2, (new_width - size_px) // 2
    return np.ascontiguousarray(resized[top : top + size_px, left : left + size_px])


def fit_square_points(points: np.ndarray, height: int, width: int, size_px: int) -> np.ndarray:
    """Move points ``(..., 2)`` (x, y; pixel centres at integers) the way `fit_square` moves pixels."""
    scale = size_px / min(height, width)
    new_width, new_height = max(size_px, round(width * scale)), max(size_px, round(height * scale))
    top, left = (new_height - size_px) // 2, (new_width - size_px) // 2
    factor = np.array([new_width / width, new_height / height])
    return (points + 0.5) * factor - 0.5 - np.array([left, top])


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 or float ``(H, W, 3)`` (float in ``[0, 1]``) -> float32 ``(3, H, W)`` in ``[-1, 1]``."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()
    if image.dtype == np.uint8:
        values = values / 255.0
    return values * 2.0 - 1.0


def to_uint8(tensor: torch.Tensor) -> np.ndarray:
    """``(3, H, W)`` in ``[-1, 1]`` -> uint8 ``(H, W, 3)``, clipped and rounded half to even."""
    values = (tensor.detach().float().cpu().clamp(-1, 1) + 1.0) * 127.5
    return values.round().byte().permute(1, 2, 0).numpy()


def write_image(image: np.ndarray, path: str | Path) -> None:
    """Write uint8 RGB ``(H, W, 3)`` in the format of the suffix; the file appears complete or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        options = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg", ".webp") else {"compress_level": 3}
        Image.fromarray(image).save(temporary, format=_format_of(path), **options)


def _format_of(path: Path) -> str:
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        raise UserError(
            "unknown image format", where=path, expected=" ".join(formats), found=path.suffix or "no suffix"
        ) from None


class atomic_path:
    """Context manager: write to the path it gives; on success it is renamed to ``path``, on failure removed.

    Missing parent folders are made. Operating-system errors (unwritable, full disk) become a `UserError`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.stem}-", suffix=self.path.suffix)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is None:
            try:
                # mkstemp makes private files; give them the permissions an ordinary open() would.
                self.temporary.chmod(0o666 & ~_UMASK)
                os.replace(self.temporary, self.path)
                return
            except OSError as failure:
                error = failure
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(self.path, error) from None


class atomic_folder:
    """Context manager: fill the folder it gives; on success it takes the place of ``folder``, on failure it goes.

    Readers see the old folder or the new one, never files of both. Missing parent folders are made;
    operating-system errors become a `UserError`.

    Args:
        folder: where it ends up.
        ours: what may be in ``folder`` before and is replaced; anything else in there is kept.
    """

    def __init__(self, folder: str | Path, ours: Collection[str]) -> None:
        self.folder = Path(folder)
        self.ours = ours

    def __enter__(self) -> Path:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if self.folder.exists() and not self.folder.is_dir():
                raise FileExistsError(errno.EEXIST, "a file is there")
            self.temporary = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}-"))
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is None:
            try:
                self.temporary.chmod(0o777 & ~_UMASK)
                self._take_place()
                return
            except OSError as failure:
                error = failure
        shutil.rmtree(self.temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritable(self.folder, error) from None

    def _take_place(self) -> None:
        if not self.folder.exists():
            self.temporary.rename(self.folder)
            return
        if not _exchange(self.temporary, self.folder):
            new = self.temporary.rename(f"{self.temporary}-new")
            self.folder.rename(self.temporary)
            new.rename(self.folder)
        for entry in self.temporary.iterdir():  # now what was there before
            if entry.name not in self.ours:
                entry.rename(self.folder / entry.name)
        shutil.rmtree(self.temporary)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
    return rename(current_folder, os.fsencode(first), current_folder, os.fsencode(second), exchange) == 0


def check_writable(folder: str | Path) -> None:
    """Make a folder and try to write into it, before anything expensive is done for its sake.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(Path(folder), error) from None


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        "cannot write",
        where=path,
        found=(error.strerror or str(error)).lower(),
        fix="Choose another output folder or free some space.",
    )
