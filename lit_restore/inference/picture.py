"""A photo file with all that a restored copy must keep: every bit, alpha, EXIF, orientation, ICC profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lit_restore.errors import UserError
from lit_restore.image import open_image

ORIENTATION, BITS_PER_SAMPLE = 274, 258
# EXIF orientation -> how stored pixels become upright: (swap rows and columns, then flip rows, then flip columns).
_UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_STILL = ("MPO",)
"""Formats of several pictures of which the first is the photo: telephones put a depth map or a thumbnail behind it."""


@dataclass(frozen=True)
class Picture:
    """A decoded photo, upright."""

    pixels: np.ndarray
    """(H, W, C), C = 1 grey or 3 RGB; uint8 or uint16."""
    alpha: np.ndarray | None = None
    """(H, W) of the same type."""
    orientation: int = 1
    """EXIF's number: how the pixels lie in the file; see `stored` and `upright`."""
    exif: bytes | None = None
    """A TIFF structure, as EXIF is embedded everywhere."""
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    @property
    def levels(self) -> int:
        """The largest value of a channel: 255 or 65535."""
        return int(np.iinfo(self.pixels.dtype).max)

    @property
    def rgb(self) -> np.ndarray:
        """uint8 RGB (H, W, 3) for the networks; grey repeated, transparency laid on mid-grey (`read_rgb`'s way)."""
        image = self.pixels
        if image.dtype == np.uint16:
            image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        if self.alpha is not None:
            opacity = (self.alpha / self.levels)[..., None]
            image = np.rint(image * opacity + 128 * (1 - opacity)).astype(np.uint8)
        return np.ascontiguousarray(image)

    def with_pixels(self, pixels: np.ndarray) -> Picture:
        """The same photo with other pixels of the same shape and type."""
        return replace(self, pixels=pixels)


def read_picture(path: str | Path) -> Picture:
    """Read a photo without losing anything that `lit_restore.inference.picture_file` can write.

    8 and 16 bits per channel stay what they are, grey stays grey; palettes and CMYK become RGB (a CMYK profile is
    dropped with the CMYK).

    Raises:
        UserError: as `lit_restore.image.read_rgb`; also for animations and files of several pages.
    """
    with open_image(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _STILL:
            kind = "pages" if image.format == "TIFF" else "frames"
            raise UserError(
                "not a photo but an animation or a document",
                where=path,
                expected="one picture",
                found=f"{frames} {kind}",
                fix="Save the one you mean as PNG or JPEG.",
            )
        exif = image.getexif()  # of a TIFF before loading, which turns the pixels upright and forgets that it did
        orientation = exif.get(ORIENTATION, 1)
        orientation = orientation if orientation in _UPRIGHT else 1
        raw_exif = image.info.get("exif") or (exif.tobytes() if len(exif) else None)
        deep = _is_16_bit(image)
        image.load()
        pixels, alpha = (_deep_pixels(path) if deep else None) or _pixels(image)
        if image.format != "TIFF":
            pixels = upright(pixels, orientation)
            alpha = None if alpha is None else upright(alpha, orientation)
        icc = (
            image.info.get("icc_profile") if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16") else None
        )
        return Picture(
            np.ascontiguousarray(pixels),
            None if alpha is None else np.ascontiguousarray(alpha),
            orientation,
            raw_exif.removeprefix(b"Exif\0\0") if raw_exif else None,
            icc or None,
            _dpi(image),
        )


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (rows, columns, ...) as in the file -> as they are looked at."""
    swap, rows, columns = _UPRIGHT[orientation]
    turned = stored.swapaxes(0, 1) if swap else stored
    return turned[:: -1 if rows else 1, :: -1 if columns else 1]


def stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `upright`."""
    swap, rows, columns = _UPRIGHT[orientation]
    turned = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return turned.swapaxes(0, 1) if swap else turned


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    return None if dpi is None else (float(dpi[0]), float(dpi[1]))  # a TIFF has fractions


def _is_16_bit(image: Image.Image) -> bool:
    """Whether a colour file has 16 bits, which Pillow would reduce to 8."""
    if image.format == "TIFF":
        return set(image.tag_v2.get(BITS_PER_SAMPLE, ())) == {16} and image.mode in ("RGB", "RGBA")
    if image.format == "PNG":
        with open(image.filename, "rb") as stream:
            return stream.read(25)[24] == 16 and image.mode in ("RGB", "RGBA")
    return False


def _deep_pixels(path: str | Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """16-bit colour and alpha; None where OpenCV cannot read the file."""
    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        return None
    return decoded[..., 2::-1], decoded[..., 3] if decoded.shape[2] == 4 else None


def _pixels(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Whatever Pillow has -> (H, W, 1 or 3) and alpha."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)[..., None], None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        grey = image.mode in ("L", "LA", "La")
        values = np.array(image.convert("LA" if grey else "RGBA"))
        return values[..., :-1], values[..., -1]
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[..., None], None
    return np.array(image.convert("RGB")), None
