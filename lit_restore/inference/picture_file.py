"""Write a restored photo: the pixels it is given, and everything else as it was in the original.

PNG, TIFF and WebP are written without loss; JPEG at quality 95 without colour subsampling. Pillow writes 8 bits; what
it cannot do, 16 bits of colour, is put together here: OpenCV's PNG with our EXIF and ICC chunks, and a TIFF of one
deflated strip.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.inference.picture import Picture, stored

OUTPUT_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
_EXIF_FOLDERS = (0x8769, 0x8825)
"""Tags whose value is another table: the camera's settings and the place."""
# TIFF: width, height, bits, compression, photometric, strips, ..., predictor, colour map, tiles, sample format, tables.
_LAYOUT_TAGS = {254, 255, *range(256, 267), 273, 277, 278, 279, 280, 281, 284, 317, 320, *range(322, 326), 338, 339}
_LAYOUT_TAGS |= {347, *range(512, 522), 529, 530, 531, 532}
_ICC_TAG = 34675


def check_output(picture: Picture, path: Path) -> None:
    """Refuse a format that would drop something of the photo.

    Raises:
        UserError: unknown suffix, 16 bits as JPEG or WebP, or transparency as JPEG.
    """
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise UserError("unknown image format", where=path, expected=" ".join(OUTPUT_SUFFIXES), found=suffix or "none")
    lost = "16 bits" if picture.levels > 255 and suffix in (".jpg", ".jpeg", ".webp") else None
    lost = "transparency" if picture.alpha is not None and suffix in (".jpg", ".jpeg") else lost
    if lost:
        raise UserError(
            f"the photo has {lost}, which this format cannot keep", where=path, fix="Write it as .png or .tif."
        )


def write_picture(picture: Picture, path: str | Path) -> None:
    """Write in the format of the suffix; the file appears complete or not at all.

    Raises:
        UserError: as `check_output`; the folder cannot be written or the disk is full.
    """
    path = Path(path)
    check_output(picture, path)
    values = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    values = np.ascontiguousarray(stored(values, picture.orientation))
    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix in (".tif", ".tiff"):
            temporary.write_bytes(_tiff(values, picture))
        elif values.dtype == np.uint16:
            temporary.write_bytes(_png16(values, picture))
        else:
            _write_8_bit(values, picture, temporary, suffix)


def _write_8_bit(values: np.ndarray, picture: Picture, path: Path, suffix: str) -> None:
    kind = {".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
    options = {
        "PNG": {"compress_level": 3},
        "WEBP": {"lossless": True, "exact": True, "quality": 50},
        "JPEG": {"quality": 95, "subsampling": 0},
    }[kind]
    if picture.exif is not None:
        options["exif"] = b"Exif\0\0" + _without_layout(picture.exif)
    if picture.icc is not None:
        options["icc_profile"] = picture.icc
    if picture.dpi is not None:
        options["dpi"] = picture.dpi
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path, kind, **options)


def _png16(values: np.ndarray, picture: Picture) -> bytes:
    if values.shape[2] == 2:  # OpenCV knows no grey with alpha
        values = np.dstack([values[..., :1]] * 3 + [values[..., 1:]])
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]
    done, encoded = cv2.imencode(".png", values[..., order], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert done
    chunks = b""
    if picture.icc is not None:
        chunks += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi is not None:
        x, y = (round(float(value) / 0.0254) for value in picture.dpi)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if picture.exif is not None:
        chunks += _chunk(b"eXIf", _without_layout(picture.exif))
    content = encoded.tobytes()
    header = 8 + 25  # signature and IHDR
    return content[:header] + chunks + content[header:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _tiff(values: np.ndarray, picture: Picture) -> bytes:
    height, width, channels = values.shape
    strip = zlib.compress(values.tobytes(), 3)
    table = TiffImagePlugin.ImageFileDirectory_v2()
    if picture.exif is not None:
        exif = _parsed(picture.exif)
        for tag, value in exif.items():
            if tag not in _LAYOUT_TAGS and tag not in _EXIF_FOLDERS:
                table[tag] = value
        for tag in _EXIF_FOLDERS:
            if folder := exif.get_ifd(tag):
                table[tag] = dict(folder)
    if picture.dpi is not None:
        table[282], table[283], table[296] = float(picture.dpi[0]), float(picture.dpi[1]), 2
    if picture.icc is not None:
        table.tagtype[_ICC_TAG] = 7
        table[_ICC_TAG] = picture.icc
    has_alpha = picture.alpha is not None
    layout = {
        256: width,
        257: height,
        258: (8 * values.itemsize,) * channels,
        259: 8,  # deflate
        262: 1 if channels - has_alpha == 1 else 2,
        277: channels,
        278: height,
        279: len(strip),
        284: 1,
    }
    if has_alpha:
        layout[338] = 2
    for tag, value in layout.items():
        table[tag] = value
    table[273] = 0  # Pillow adds where the strip comes to lie
    head = io.BytesIO()
    table.save(head)
    return head.getvalue() + strip


def _parsed(exif: bytes) -> Image.Exif:
    parsed = Image.Exif()
    parsed.load(exif)
    return parsed


def _without_layout(exif: bytes) -> bytes:
    """Unchanged unless it comes from a TIFF, whose table also says where the pixels of that file were."""
    parsed = _parsed(exif)
    layout = [tag for tag in (273, 279, 258) if tag in parsed]
    if not layout:
        return exif
    for tag in _LAYOUT_TAGS & set(parsed):
        del parsed[tag]
    return parsed.tobytes().removeprefix(b"Exif\0\0")
