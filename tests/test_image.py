"""Every kind of file a person may have, and every way in which writing can fail."""

from __future__ import annotations

import errno
import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_restore import image as image_file
from lit_restore.errors import UserError
from lit_restore.image import atomic_path, fit_square, fit_square_points, read_rgb, to_tensor, to_uint8, write_image

PICTURE = np.random.RandomState(0).randint(0, 256, (12, 16, 3)).astype(np.uint8)


def encoded(format: str, picture: np.ndarray = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, **options)
    return buffer.getvalue()


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 200 // height, columns * 200 // width, (rows + columns) % 50], -1).astype(np.uint8)


def test_png_survives_exactly_and_jpeg_nearly(tmp_path: Path) -> None:
    for suffix in (".png", ".PNG", ".jpg", ".jpeg", ".webp"):
        picture = smooth(40, 60)
        write_image(picture, tmp_path / f"a{suffix}")
        error = np.abs(read_rgb(tmp_path / f"a{suffix}").astype(int) - picture).mean()
        assert error == 0 if suffix.lower() == ".png" else error < 5


def test_grayscale_is_repeated(tmp_path: Path) -> None:
    Image.fromarray(PICTURE[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.repeat(PICTURE[..., :1], 3, 2))


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = PICTURE[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "bits.png")[..., 1], bits * np.uint8(255))
    few = PICTURE // 128 * 200
    Image.fromarray(few).quantize(256).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), few)


def test_transparency_is_laid_on_mid_grey(tmp_path: Path) -> None:
    alpha = np.zeros((12, 16), np.uint8)
    alpha[:, :4], alpha[:, 4:8] = 255, 128
    Image.fromarray(np.dstack([PICTURE, alpha])).save(tmp_path / "a.png")
    found = read_rgb(tmp_path / "a.png")
    np.testing.assert_array_equal(found[:, :4], PICTURE[:, :4])
    assert (found[:, 8:] == 128).all()
    half = PICTURE[:, 4:8].astype(float) * 128 / 255 + 128 * 127 / 255
    assert np.abs(found[:, 4:8] - half).max() <= 1
    grey = Image.fromarray(np.dstack([PICTURE[..., 0], alpha]), "LA")
    grey.save(tmp_path / "grey.png")
    assert (read_rgb(tmp_path / "grey.png")[:, 8:] == 128).all()


def test_a_transparent_colour_of_the_palette(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), [[[128, 128, 128], [0, 0, 255]]])


def test_sixteen_bits_are_scaled_by_the_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    values = np.full((4, 4, 3), (65535, 32896, 257), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    assert read_rgb(tmp_path / "a.png")[0, 0].tolist() == [255, 128, 1]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red, green, blue = read_rgb(tmp_path / "red.jpg")[0, 0]
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encoded("PNG", exif=exif.tobytes()))
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), upright(PICTURE))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    header = b"Exif\0\0"
    random = [header + b"II*\0" + np.random.RandomState(seed).bytes(60) for seed in range(20)]
    for junk in (b"", header, header + b"MM\0*\0\0\0\x08\xff\xff", header + b"II*\0\xff\xff\xff\xff", *random):
        (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=junk))
        assert read_rgb(tmp_path / "a.jpg").shape == PICTURE.shape


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert read_rgb(tmp_path / "a.webp")[0, 0].tolist() == [255, 0, 0]


def test_result_is_writable(tmp_path: Path) -> None:
    write_image(PICTURE, tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file, not an image: .*found 0 bytes"),
        (b"hello, this is text", "cannot be decoded .*found 19 bytes"),
        (encoded("PNG")[:300], "cannot be decoded"),
        (encoded("JPEG")[:400], "cannot be decoded"),
        (encoded("WEBP", lossless=True)[:200], "cannot be decoded"),
    ],
    ids=["empty", "text", "png", "jpeg", "webp"],
)
def test_what_is_no_image_or_cut_off_is_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_rgb(tmp_path / "a.jpg")
    assert str(tmp_path / "a.jpg") in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such image file"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(UserError, match="a folder where an image file was expected"):
        read_rgb(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="no such image file"):
        read_rgb(tmp_path / "file" / "a.png")


def test_a_huge_image_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr(image_file, "MAX_PIXELS", 100)
    with pytest.raises(UserError, match=r"image too large.*found 16x12"):
        read_rgb(tmp_path / "a.png")
    # 60,000 x 60,000 in 67 bytes, refused by Pillow itself
    header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\2\0\0\0"
    header += zlib.crc32(header[12:]).to_bytes(4, "big") + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(header)
    with pytest.raises(UserError, match="image too large"):
        read_rgb(tmp_path / "bomb.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_flipped_bytes_give_an_image_or_a_clear_error(tmp_path: Path, format: str) -> None:
    intact, random = encoded(format, smooth(40, 60)), np.random.RandomState(0)
    failed = 0
    for _ in range(150):
        damaged = bytearray(intact)
        for position in random.randint(0, len(intact), 3):
            damaged[position] = random.randint(256)
        (tmp_path / "a").write_bytes(damaged)
        try:
            found = read_rgb(tmp_path / "a")
            assert found.dtype == np.uint8
            assert found.ndim == 3
        except UserError:
            failed += 1
    assert failed > 10


def test_fit_square_scales_the_short_side_and_crops_the_centre() -> None:
    picture = smooth(100, 200)
    found = fit_square(picture, 50)
    assert found.shape == (50, 50, 3)
    centre = np.asarray(Image.fromarray(picture).resize((100, 50), Image.Resampling.LANCZOS))[:, 25:75]
    np.testing.assert_array_equal(found, centre)
    assert fit_square(picture[:, :100], 100).base is picture  # nothing to do, nothing copied
    for shape in ((101, 77), (33, 500), (500, 33), (64, 65)):
        assert fit_square(smooth(*shape), 64).shape == (64, 64, 3)


@pytest.mark.parametrize(("height", "width"), [(100, 200), (301, 150), (64, 64), (40, 30)])
def test_points_move_with_the_pixels(height: int, width: int) -> None:
    """A bright spot is found where the moved point says."""
    point = np.array([width * 0.55, height * 0.47])
    rows, columns = np.mgrid[:height, :width]
    sigma = min(height, width) / 16
    spot = 255 * np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * sigma**2))
    found = fit_square(np.repeat(spot[..., None].astype(np.uint8), 3, 2), 64)[..., 0].astype(float)
    rows, columns = np.mgrid[:64, :64]
    centre = np.array([(found * columns).sum(), (found * rows).sum()]) / found.sum()
    np.testing.assert_allclose(fit_square_points(point, height, width, 64), centre, atol=0.1)


def test_tensors_and_arrays_are_each_other_s_inverse() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = to_tensor(every)
    assert (tensor.shape, tensor.dtype) == ((3, 16, 16), torch.float32)
    assert (tensor.min().item(), tensor.max().item()) == (-1, 1)
    torch.testing.assert_close(tensor, torch.from_numpy(every).permute(2, 0, 1) / 127.5 - 1)
    np.testing.assert_array_equal(to_uint8(tensor), every)
    torch.testing.assert_close(to_tensor(every.astype(np.float32) / 255), tensor)


def test_to_uint8_clips_and_rounds() -> None:
    values = torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 2.0]).view(1, 1, 6).expand(3, 1, 6)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]
    assert to_uint8(values.bfloat16().requires_grad_())[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as path:
        path.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as path:  # noqa: PT012
        path.write_text("half of tw")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as path:
        raise KeyboardInterrupt
    assert target.read_text() == "one"
    assert files(tmp_path / "new") == ["a.txt"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_image(PICTURE, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(UserError, match=r"cannot write: .*a.png; found no space left on device"):
            write_image(PICTURE, tmp_path / "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match="no space left"):
            write_image(PICTURE, tmp_path / "a.png")
    assert files(tmp_path) == []


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_image(PICTURE, tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_image(PICTURE, tmp_path / "folder.png")
    assert files(tmp_path) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_an_unknown_format_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"unknown image format.*expected .jpg .jpeg .png .webp"):
        write_image(PICTURE, tmp_path / name)
    assert files(tmp_path) == []
