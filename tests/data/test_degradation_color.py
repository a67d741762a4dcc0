"""GFPGAN's colour changes against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_restore.data.degradation.color import change_color

functional = pytest.importorskip("torchvision.transforms.functional")


def image() -> np.ndarray:
    return np.random.default_rng(0).random((24, 20, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("brightness", 0.6),
        ("brightness", 1.4),
        ("contrast", 0.5),
        ("contrast", 1.3),
        ("saturation", 0.0),
        ("saturation", 1.5),
        ("hue", -0.1),
        ("hue", 0.07),
    ],
)
def test_jitter_is_torchvisions(name: str, amount: float) -> None:
    tensor = torch.from_numpy(image()).permute(2, 0, 1)
    expected = getattr(functional, f"adjust_{name}")(tensor, amount).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(change_color(image(), {"jitter": [[name, amount]]}), expected, atol=5e-6)


def test_jitter_follows_the_recorded_order() -> None:
    steps = [["contrast", 1.5], ["brightness", 1.5]]
    forward, backward = change_color(image(), {"jitter": steps}), change_color(image(), {"jitter": steps[::-1]})
    assert np.abs(forward - backward).max() > 0.01


def test_shift_moves_channels_and_clips() -> None:
    shifted = change_color(np.full((4, 4, 3), 0.95, np.float32), {"shift": [0.0, -0.05, 0.08]})
    np.testing.assert_allclose(shifted[0, 0], [0.95, 0.90, 1.0], atol=1e-6)


def test_gray_has_three_equal_channels_of_bt601_luma() -> None:
    gray = change_color(image(), {"gray": True})
    np.testing.assert_allclose(gray, np.repeat((image() @ [0.299, 0.587, 0.114])[..., None], 3, axis=2), atol=1e-6)
