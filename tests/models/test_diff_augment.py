from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import for_each_math_file, pictures
from safetensors.torch import load_file

from lit_restore.errors import UserError
from lit_restore.models.diff_augment import AugmentationDraws, augment, draw_augmentation

ALL = ["color", "translation", "cutout"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for_each_math_file(metafunc, "adversarial.safetensors")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(**given: float) -> AugmentationDraws:
    """Draws for one image that change nothing, but for what is given; the box lies at the top left corner."""
    neutral = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5, "shift_rows": 0, "shift_cols": 0}
    neutral |= {"cutout_row": 0, "cutout_col": 0}
    return AugmentationDraws(**{name: torch.tensor([value]) for name, value in (neutral | given).items()})


def test_parity_of_diff_augment(math_file: Path) -> None:
    stored = load_file(math_file)
    uniform = [stored[f"aug.{name}_u"] for name in ("brightness", "saturation", "contrast")]
    whole = [stored[f"aug.{name}"] for name in ("shift_rows", "shift_cols", "cutout_row", "cutout_col")]
    augmented = augment(stored["aug.input"], AugmentationDraws(*uniform, *whole), ALL)
    torch.testing.assert_close(augmented, stored["aug.output"], atol=1e-6, rtol=0)


def test_neutral_draws_change_nothing() -> None:
    images = pictures(0, 1, 3, 10, 16)
    torch.testing.assert_close(augment(images, draws(), ["color", "translation"]), images)
    assert torch.equal(augment(images, draws(brightness=0.9, shift_rows=1), []), images)


def test_color_follows_its_three_formulas() -> None:
    image = pictures(1, 3, 6, 8).double().numpy()
    brightness, saturation, contrast = 0.9, 0.2, 0.75
    expected = image + 0.4
    grey = expected.mean(axis=0, keepdims=True)
    expected = (expected - grey) * 0.4 + grey
    expected = (expected - expected.mean()) * 1.25 + expected.mean()
    given = draws(brightness=brightness, saturation=saturation, contrast=contrast)
    found = augment(torch.from_numpy(image)[None].float(), given, ["color"])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert found.max() > 1.0  # nothing is clamped


@pytest.mark.parametrize(("row", "col"), [(2, -1), (-2, 1), (0, 2), (-1, 0)])
def test_translation_moves_whole_pixels_and_fills_with_zero(row: int, col: int) -> None:
    images = pictures(2, 1, 3, 16, 12)
    found = augment(images, draws(shift_rows=row, shift_cols=col), ["translation"])[0]
    for r in range(16):
        for c in range(12):
            inside = 0 <= r + row < 16 and 0 <= c + col < 12
            expected = images[0, :, r + row, c + col] if inside else torch.zeros(3)
            assert torch.equal(found[:, r, c], expected)


@pytest.mark.parametrize(("row", "col", "box"), [(0, 0, (0, 4, 0, 3)), (5, 4, (1, 9, 1, 7)), (16, 9, (12, 16, 6, 12))])
def test_cutout_zeroes_a_box_cut_at_the_border(row: int, col: int, box: tuple[int, int, int, int]) -> None:
    """A box of 8 x 6 in 16 x 12 pixels."""
    images = pictures(3, 1, 3, 16, 12)
    expected = images.clone()
    expected[..., box[0] : box[1], box[2] : box[3]] = 0
    assert torch.equal(augment(images, draws(cutout_row=row, cutout_col=col), ["cutout"]), expected)


def test_draws_cover_their_ranges_and_nothing_else() -> None:
    """16 x 9: shifts of up to 2 and 1 pixels, a box of 8 (even: 17 places) by 5 (odd: 9 places)."""
    found = draw_augmentation(4000, 16, 9, seeded(0))
    for u in (found.brightness, found.saturation, found.contrast):
        assert 0 <= u.min() < 0.01
        assert 0.99 < u.max() < 1
        assert u.mean().item() == pytest.approx(0.5, abs=0.02)
    assert found.shift_rows.unique().tolist() == [-2, -1, 0, 1, 2]
    assert found.shift_cols.unique().tolist() == [-1, 0, 1]
    assert found.cutout_row.unique().tolist() == list(range(17))
    assert found.cutout_col.unique().tolist() == list(range(9))


def test_draws_are_a_function_of_the_generator_alone() -> None:
    one, other, next_ = seeded(5), seeded(5), seeded(5)
    first, again = draw_augmentation(3, 16, 16, one), draw_augmentation(3, 16, 16, other)
    second = draw_augmentation(3, 16, 16, one)
    assert all(torch.equal(getattr(first, f.name), getattr(again, f.name)) for f in fields(first))
    assert not torch.equal(first.brightness, second.brightness)
    # A generator that is put back where it was, as a resumed run does, draws the same again.
    next_.set_state(other.get_state())
    resumed = draw_augmentation(3, 16, 16, next_)
    assert all(torch.equal(getattr(second, f.name), getattr(resumed, f.name)) for f in fields(second))


def test_every_image_has_its_own_draws() -> None:
    image = pictures(4, 1, 3, 16, 16)
    found = augment(image.expand(8, -1, -1, -1), draw_augmentation(8, 16, 16, seeded(1)), ALL)
    assert len({tuple(one.flatten().tolist()) for one in found}) == 8


def test_gradients_reach_every_pixel_that_is_still_seen() -> None:
    images = pictures(5, 1, 3, 16, 16).requires_grad_()
    given = draws(shift_rows=2, cutout_row=8, cutout_col=8)  # rows 0 and 1 leave, a box of 8 x 8 is hidden
    augment(images, given, ["translation", "cutout"]).sum().backward()
    expected = torch.ones(16, 16)
    expected[:2] = 0
    expected[6:14, 4:12] = 0  # the box, two rows further down in the input
    assert torch.equal(images.grad[0], expected.expand(3, -1, -1))


def test_an_unknown_operation_is_named() -> None:
    with pytest.raises(UserError, match=r"no such augmentation: colour\. Did you mean 'color'"):
        augment(pictures(0, 1, 3, 8, 8), draws(), ["colour"])
