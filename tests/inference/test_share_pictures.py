"""Pictures of shares: colours that can be computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lit_restore.inference.share_pictures import DARK, PALE, STRONG, colour, drawn_from, looked_at, owners

GREY = np.full((64, 64, 3), 100, np.uint8)


def halves(left: float, right: float) -> np.ndarray:
    """Two references; the first has the share ``left`` in the left half and ``right`` in the right one."""
    first = np.full((8, 8), left, np.float32)
    first[:, 4:] = right
    return np.stack([first, 1 - first])


def test_owner_and_lead() -> None:
    number, lead = owners(halves(1.0, 0.2), 64)
    assert (number[:, :30] == 0).all()
    assert (number[:, 34:] == 1).all()
    assert lead[10, 5] == pytest.approx(1)
    assert lead[10, 60] == pytest.approx((0.8 - 0.5) / 0.5)
    assert owners(halves(0.5, 0.5), 64)[1].max() == 0
    only, certain = owners(np.full((1, 8, 8), 0.3, np.float32), 64)  # the rest went to the face's own keys
    assert only.max() == 0
    assert certain.min() == 1


def test_colours_are_mixed_by_the_lead() -> None:
    picture = drawn_from(GREY, halves(1.0, 0.2))
    np.testing.assert_allclose(picture[10, 5], (1 - STRONG) * 100 + STRONG * np.array(colour(0)), atol=1)
    opacity = PALE + (STRONG - PALE) * 0.6
    np.testing.assert_allclose(picture[10, 60], (1 - opacity) * 100 + opacity * np.array(colour(1)), atol=1)


def test_references_are_bright_where_they_were_looked_at() -> None:
    shares = np.zeros((8, 8), np.float32)
    shares[2, 5] = 0.25
    picture = looked_at(GREY, shares, 0.5)
    assert picture[0, 0, 0] == round(100 * DARK)
    assert np.unravel_index(picture[..., 0].argmax(), (64, 64)) in {(y, x) for y in (19, 20) for x in (43, 44)}
    assert picture.max() < 100 * (DARK + (1 - DARK) * 0.5) + 1
    assert looked_at(GREY, np.ones((8, 8), np.float32), 1.0).min() == 100


def test_every_reference_has_its_own_colour() -> None:
    colours = np.array([colour(number) for number in range(12)], float)
    distances = np.abs(colours[:, None] - colours[None]).sum(2) + 1e3 * np.eye(12)
    assert distances.min() > 50
