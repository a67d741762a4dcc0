"""Photo files: nothing that a restored copy must keep is lost on the way in or out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from lit_restore.errors import UserError
from lit_restore.image import read_rgb
from lit_restore.inference.picture import read_picture, stored, upright
from lit_restore.inference.picture_file import write_picture

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = (".png", ".tif", ".webp")


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[274], tags[271], tags[306] = orientation, "Angstrom", "1931:05:06 07:08:09"
    tags.get_ifd(0x8769)[36867] = "1931:05:06 07:08:09"
    tags.get_ifd(0x8825)[1] = "N"
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow_and_can_be_undone(orientation: int, tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(upright(COLOUR, orientation), expected)
    np.testing.assert_array_equal(stored(upright(COLOUR, orientation), orientation), COLOUR)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("source", [".png", ".tif", ".webp", ".jpg"])
def test_everything_is_kept_from_any_format_to_any_other(source: str, suffix: str, tmp_path: Path) -> None:
    original, copy = tmp_path / f"straße{source}", tmp_path / f"copy{suffix}"
    Image.fromarray(COLOUR).save(original, exif=exif(6).tobytes(), icc_profile=ICC, dpi=(300, 300), lossless=True)
    picture = read_picture(original)
    assert picture.pixels.shape == (9, 6, 3)
    write_picture(picture, copy)
    again = read_picture(copy)
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    np.testing.assert_array_equal(again.pixels, read_rgb(original))
    assert (again.orientation, again.icc) == (6, ICC)
    tags = Image.open(copy).getexif()
    assert (tags[271], tags.get_ifd(0x8769)[36867], tags.get_ifd(0x8825)[1]) == ("Angstrom", "1931:05:06 07:08:09", "N")
    if source != ".tif" and suffix != ".tif":
        assert again.exif == picture.exif  # to the byte


@pytest.mark.parametrize("source", [".png", ".tif"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_stay_16_bits(source: str, suffix: str, channels: int, tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    cv2.imwrite(str(tmp_path / f"a{source}"), values[..., order])
    picture = read_picture(tmp_path / f"a{source}")
    np.testing.assert_array_equal(picture.pixels, values[..., :3])
    assert (picture.alpha is None) == (channels != 4)
    assert picture.levels == 65535
    write_picture(picture, tmp_path / f"b{suffix}")
    again = cv2.imread(str(tmp_path / f"b{suffix}"), cv2.IMREAD_UNCHANGED).reshape(values.shape)
    np.testing.assert_array_equal(again[..., order], values)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_keeps_its_tags(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "tags.png", exif=exif(8), icc_profile=ICC, dpi=(200, 100))
    picture = read_picture(tmp_path / "tags.png").with_pixels(upright(DEEP, 8))
    write_picture(picture, tmp_path / f"deep{suffix}")
    again = read_picture(tmp_path / f"deep{suffix}")
    np.testing.assert_array_equal(again.pixels, upright(DEEP, 8))
    assert (again.orientation, again.icc) == (8, ICC)
    np.testing.assert_allclose(again.dpi, (200, 100), atol=0.02)
    assert Image.open(tmp_path / f"deep{suffix}").getexif().get_ifd(0x8769)[36867] == "1931:05:06 07:08:09"


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_alpha_is_kept_also_where_it_hides_colours(mode: str, suffix: str, tmp_path: Path) -> None:
    values = np.dstack([COLOUR, RNG.integers(0, 256, (6, 9), dtype=np.uint8)])
    values[0, 0, 3] = 0
    image = Image.fromarray(values)
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(
        np.dstack([picture.pixels, picture.alpha]), np.array(image.convert("RGBA" if mode == "P" else mode))
    )
    write_picture(picture, tmp_path / f"b{suffix}")
    written = np.array(Image.open(tmp_path / f"b{suffix}").convert("RGBA"))
    np.testing.assert_array_equal(written, np.array(image.convert("RGBA")))


def test_grey_stays_grey(tmp_path: Path) -> None:
    Image.fromarray(COLOUR[..., 0]).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.pixels.shape == (6, 9, 1)
    np.testing.assert_array_equal(picture.rgb, np.repeat(COLOUR[..., :1], 3, axis=2))
    for name in ("b.png", "b.tif", "b.jpg"):
        write_picture(picture, tmp_path / name)
        assert Image.open(tmp_path / name).mode == "L"


def test_what_the_networks_see_is_what_read_rgb_gives(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), DEEP[..., ::-1])
    Image.fromarray(np.dstack([COLOUR, COLOUR[..., 0]])).save(tmp_path / "alpha.png")
    for name, tolerance in (("deep.png", 1), ("alpha.png", 1)):
        seen, read = read_picture(tmp_path / name).rgb, read_rgb(tmp_path / name)
        assert np.abs(seen.astype(int) - read).max() <= tolerance


def test_what_is_no_photo_is_named(tmp_path: Path) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
    for name in ("a.gif", "a.webp", "a.tif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match=r"not a photo but an animation or a document.*found 2 (frames|pages)"):
            read_picture(tmp_path / name)
    Image.fromarray(RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("dear diary")
    for name, message in (
        ("cut.jpg", "truncated or not an image"),
        ("empty.jpg", "empty file, not an image"),
        ("text.jpg", "truncated or not an image"),
        ("gone.jpg", "no such image file"),
    ):
        with pytest.raises(UserError, match=message):
            read_picture(tmp_path / name)


def test_formats_that_would_lose_something_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), DEEP)
    Image.fromarray(np.dstack([COLOUR, COLOUR[..., 0]])).save(tmp_path / "alpha.png")
    for source, name, message in (
        ("deep.png", "a.jpg", "the photo has 16 bits"),
        ("deep.png", "a.webp", "the photo has 16 bits"),
        ("alpha.png", "a.jpg", "the photo has transparency"),
        ("alpha.png", "a.gif", "unknown image format"),
    ):
        with pytest.raises(UserError, match=message):
            write_picture(read_picture(tmp_path / source), tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_telephones_jpeg_with_a_second_picture_is_a_photo(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(
        tmp_path / "a.mpo", "MPO", save_all=True, append_images=[Image.fromarray(COLOUR[::-1])]
    )
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg").pixels, read_rgb(tmp_path / "a.jpg"))
