from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import pictures
from safetensors.torch import load_file
from scipy.signal import convolve2d
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lit_restore.errors import UserError
from lit_restore.losses.ms_ssim import ms_ssim, ms_ssim_loss, num_scales

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "instantrestore_parity"


def smooth(seed: int, side: int, batch: int = 2) -> torch.Tensor:
    """Something with structure at all scales, in [0, 1]."""
    fields = [
        torch.nn.functional.interpolate(
            pictures(seed + level, batch, 3, 2**level, 2**level), (side, side), mode="bilinear"
        )
        for level in range(1, 7)
    ]
    return (sum(fields) / 6 + 1) / 2


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    tensors = load_file(FIXTURES / "math.safetensors")
    return tensors["msssim.a_u8"] / 255, tensors["msssim.b_u8"] / 255


def test_values_of_the_official_code(pair) -> None:
    expected = json.loads((FIXTURES / "math.json").read_text())["ms_ssim"]["per_image"]
    assert ms_ssim(*pair).tolist() == pytest.approx(expected, abs=2e-6)


def test_close_to_torchmetrics(pair) -> None:
    found = ms_ssim(*pair)
    for index in range(2):
        one, other = (images[index : index + 1] for images in pair)
        expected = multiscale_structural_similarity_index_measure(one, other, data_range=1.0)
        assert found[index].item() == pytest.approx(expected.item(), abs=1e-4)


def test_equal_images_are_one_and_order_does_not_matter(pair) -> None:
    first, second = pair
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(2))
    torch.testing.assert_close(ms_ssim(first, second), ms_ssim(second, first))


def written_out(first: torch.Tensor, second: torch.Tensor, scales: int) -> float:
    """The definition for one image (C, H, W), in float64 with a two-dimensional window."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][:scales])
    weights = weights / weights.sum() if scales < 5 else weights
    values = []
    for one, other in zip(first.double().numpy(), second.double().numpy(), strict=True):
        value = 1.0
        for scale in range(scales):
            if scale > 0:
                one, other = (i.reshape(len(i) // 2, 2, len(i) // 2, 2).mean((1, 3)) for i in (one, other))
            mean = [convolve2d(image, window, "valid") for image in (one, other)]
            square = [convolve2d(image**2, window, "valid") for image in (one, other)]
            covariance = convolve2d(one * other, window, "valid") - mean[0] * mean[1]
            variance = sum(s - m**2 for s, m in zip(square, mean, strict=True))
            similarity = (2 * covariance + 0.03**2) / (variance + 0.03**2)
            if scale == scales - 1:
                similarity *= (2 * mean[0] * mean[1] + 0.01**2) / (mean[0] ** 2 + mean[1] ** 2 + 0.01**2)
            value *= similarity.mean() ** weights[scale]
        values.append(value)
    return float(np.mean(values))


@pytest.mark.parametrize("scales", [1, 2, 3, 4, 5])
def test_small_images_use_the_first_scales_with_their_weights_renormalised(scales: int) -> None:
    side = 11 * 2 ** (scales - 1)
    assert num_scales(side) == scales
    first, second = smooth(0, side), smooth(10, side)
    second = (2 * first + second) / 3
    found = ms_ssim(first, second)
    for index in range(2):
        assert found[index].item() == pytest.approx(written_out(first[index], second[index], scales), abs=1e-5)


@pytest.mark.parametrize("side", [11, 12, 21, 22, 41, 43, 63, 64, 81, 87, 100, 127, 161, 175, 177])
def test_every_size_from_one_window_on_works(side: int) -> None:
    first, second = smooth(0, side), smooth(10, side)
    assert torch.isfinite(ms_ssim(first, second)).all()
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(2))
    assert side // 2 ** (num_scales(side) - 1) >= 11  # the coarsest map holds the window
    assert num_scales(side) == 5 or side // 2 ** num_scales(side) < 11


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(UserError, match="at least 11 px; found 10 px"):
        ms_ssim(torch.rand(1, 3, 10, 64), torch.rand(1, 3, 10, 64))


def test_autocast_changes_nothing(pair) -> None:
    expected = ms_ssim(*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ms_ssim(*pair), expected)
        rounded = ms_ssim(pair[0].bfloat16(), pair[1].bfloat16())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, ms_ssim(pair[0].bfloat16().float(), pair[1].bfloat16().float()))


@pytest.mark.parametrize(
    ("restored", "hq"),
    [
        (lambda x: 1 - x, lambda x: x),  # anti-correlated everywhere
        (lambda x: torch.full_like(x, 0.5), lambda x: x),
        (lambda x: x, lambda x: x),
        (lambda x: torch.zeros_like(x), lambda x: torch.ones_like(x)),
        (lambda x: torch.zeros_like(x), lambda x: torch.zeros_like(x)),
    ],
    ids=["negative", "grey", "equal", "black and white", "black"],
)
def test_gradients_are_finite_where_similarity_ends(restored, hq) -> None:
    image = smooth(0, 64)
    output = (restored(image) * 2 - 1).requires_grad_()
    loss = ms_ssim_loss(output, hq(image) * 2 - 1)
    loss.backward()
    assert 0 <= loss.item() <= 1 + 1e-6
    assert torch.isfinite(output.grad).all()


def test_the_negative_of_an_image_is_as_bad_as_can_be() -> None:
    image = smooth(0, 176)
    assert ms_ssim(image, 1 - image).max() < 1e-3


def test_following_the_gradient_makes_images_alike() -> None:
    hq = smooth(0, 64) * 2 - 1
    output = (pictures(3, 2, 3, 64, 64) * 0.2).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.05)
    start = ms_ssim_loss(output, hq).item()
    for _ in range(30):
        optimizer.zero_grad()
        loss = ms_ssim_loss(output, hq)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * start
