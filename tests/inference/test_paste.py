"""Pasting: nothing outside of the masks changes, what is inside comes from the right place."""

from __future__ import annotations

import numpy as np
import pytest

from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, compose, ffhq_template, scaling, similarity, warp
from lit_restore.inference.paste import PlacedFace, face_mask, paste_faces, paste_mask
from lit_restore.inference.tone import keep_coarse, match_colour

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8)


def placed(size_px: int, left: float, top: float, side: float, turn: float = 0.0, value: float = 0.5) -> PlacedFace:
    """A flat face whose crop covers a turned square of the photo."""
    cosine, sine = np.cos(turn) * side / size_px, np.sin(turn) * side / size_px
    into_photo = np.array([[cosine, -sine, left], [sine, cosine, top]])
    inverse = np.linalg.inv(np.vstack([into_photo, [0, 0, 1]]))[:2]
    return PlacedFace(np.full((size_px, size_px, 3), value, np.float32), inverse)


def test_the_mask_is_one_on_the_face_and_zero_at_the_edges() -> None:
    mask = face_mask(128)
    for x, y in ffhq_template(128):
        assert mask[round(y), round(x)] == 1
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.15  # soft
    np.testing.assert_array_equal(mask, mask[:, ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("face", [placed(32, 30, 20, 70), placed(64, 120, 90, 40, 0.4), placed(64, -20, -10, 50)])
def test_pixels_outside_of_the_mask_are_the_photos_own(face: PlacedFace, dtype: type, channels: int) -> None:
    levels = np.iinfo(dtype).max
    photo = RNG.integers(0, levels + 1, (120, 160, channels)).astype(dtype)
    before = photo.copy()
    out = paste_faces(photo, [face])
    mask = paste_mask((120, 160), [face])
    assert out.dtype == dtype
    np.testing.assert_array_equal(photo, before)
    np.testing.assert_array_equal(out[mask == 0], photo[mask == 0])
    assert 0.005 < (mask > 0).mean() < 0.6
    expected = photo + mask[..., None] * (0.5 * levels - photo.astype(np.float64))
    np.testing.assert_allclose(out, expected, atol=0.51 + levels * 1e-6)


@pytest.mark.parametrize("size_px", [32, 128, 512])
def test_a_crop_comes_back_to_where_it_was_cut(size_px: int) -> None:
    smooth = np.add.outer(np.arange(300), 1.5 * np.arange(400))[..., None] * np.array([0.3, 0.2, 0.25])
    photo = np.rint(smooth).clip(0, 255).astype(np.uint8)
    points = FFHQ_TEMPLATE_512 @ np.array([[0.35, 0.1], [-0.1, 0.35]]) + (120, 60)
    matrix = compose(scaling(size_px / 512), similarity(points, FFHQ_TEMPLATE_512))
    crop = warp(photo, matrix, size_px)
    out = paste_faces(photo, [PlacedFace(crop.astype(np.float32) / 255, matrix)])
    assert np.abs(out.astype(int) - photo).max() <= 2


def test_neighbours_share_their_border_whichever_comes_first() -> None:
    one, other = placed(64, 30, 20, 60, value=0.2), placed(64, 60, 20, 60, value=0.8)
    photo = np.full((120, 160, 3), 128, np.uint8)
    forth, back = paste_faces(photo, [one, other]), paste_faces(photo, [other, one])
    assert np.abs(forth.astype(int) - back).max() <= 1
    middle = forth[53, 75:76].astype(float)  # as far from one as from the other
    np.testing.assert_allclose(middle, 127.5, atol=2)
    assert forth[:, :70].max() <= 140
    assert forth[53, 60, 0] == pytest.approx(51, abs=2)


def test_many_faces_and_faces_outside_of_the_photo() -> None:
    faces = [placed(32, 5 + 15 * (n % 10), 5 + 25 * (n // 10), 14) for n in range(40)]
    out = paste_faces(PHOTO, [*faces, placed(32, 500, 500, 40)])
    mask = paste_mask(PHOTO.shape[:2], faces)
    np.testing.assert_array_equal(out[mask == 0], PHOTO[mask == 0])
    assert (out[mask == 1] == 128).all()
    assert (mask == 1).sum() > 500


def test_fidelity_replaces_what_is_coarse_and_nothing_else() -> None:
    restored = RNG.random((64, 64, 3)).astype(np.float32) * 0.2 + 0.4
    darker = restored - np.float32(0.1)
    np.testing.assert_array_equal(keep_coarse(restored, darker, 0.0), restored)
    np.testing.assert_allclose(keep_coarse(restored, darker, 1.0), darker, atol=1e-6)
    np.testing.assert_allclose(keep_coarse(restored, darker, 0.5), restored - 0.05, atol=1e-6)
    stripes = np.tile(np.array([0.05, -0.05], np.float32), 32)[None, :, None]  # two pixels: finer than the cutoff
    mixed = keep_coarse(restored, restored + stripes, 1.0)
    np.testing.assert_allclose(mixed[:, 4:-4], restored[:, 4:-4], atol=5e-3)


def test_colours_are_matched_within_the_mask() -> None:
    y, x = np.mgrid[:64, :64] / 64
    lq = np.stack([0.3 + 0.3 * x, 0.4 + 0.2 * y, 0.5 + 0 * x], axis=2).astype(np.float32)
    cast = (0.8 * lq + (0.1, 0.0, -0.05)).astype(np.float32)
    np.testing.assert_allclose(match_colour(cast, lq)[16:56, 16:48], lq[16:56, 16:48], atol=0.01)
