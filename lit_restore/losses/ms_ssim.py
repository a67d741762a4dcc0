"""Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) as a loss.

    MS-SSIM = l_M * prod_{j=1..M} cs_j^{w_j},   loss = 1 - MS-SSIM

with an 11-tap Gaussian window (sigma 1.5), valid convolution, halving by 2x2 averages between scales, K = (0.01, 0.03)
and per-channel values clipped before the powers, which are not defined for the negative values of anti-correlated
images. Images below 176 px have too few pixels for five scales; they use the first scales that fit, with the weights
renormalised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lit_restore.errors import UserError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def ms_ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of images (B, C, H, W) in [0, 1], one value per image: (B,), 1 = equal.

    Raises:
        UserError: a side is smaller than the window.
    """
    # In bf16 a variance computed as E[x^2] - E[x]^2 turns negative, so autocast is kept out.
    with torch.autocast(first.device.type, enabled=False):
        return _ms_ssim(first.float(), second.float())


def _ms_ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    weights = first.new_tensor(WEIGHTS[: num_scales(min(first.shape[-2:]))])
    weights = weights / weights.sum() if len(weights) < len(WEIGHTS) else weights
    terms = []
    for scale in range(len(weights)):
        if scale > 0:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
        luminance, contrast = _ssim_terms(first, second)
        is_last = scale == len(weights) - 1
        terms.append((luminance * contrast if is_last else contrast).flatten(2).mean(2))  # (B, C)
    # Clipped at 1e-6 rather than 0: the gradient of 0 ** w is infinite, and a product with a zero factor would hide the
    # other scales from the optimiser.
    stacked = torch.stack(terms).clamp_min(1e-6)  # (scales, B, C)
    return stacked.pow(weights[:, None, None]).prod(0).mean(1)


def num_scales(side_px: int) -> int:
    """Scales at which the image still holds the window: 5 from 176 px on, 4 from 88, 3 from 44, 2 from 22, 1 below."""
    scales = sum(side_px // 2**scale >= WINDOW_SIZE for scale in range(len(WEIGHTS)))
    if scales == 0:
        raise UserError("image too small for SSIM", expected=f"at least {WINDOW_SIZE} px", found=f"{side_px} px")
    return scales


def ms_ssim_loss(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """1 - MS-SSIM, mean over the batch; images (B, 3, H, W) in [-1, 1]."""
    return 1.0 - ms_ssim((restored + 1) / 2, (hq + 1) / 2).mean()


def _ssim_terms(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Luminance and contrast-structure maps (B, C, h, w) of SSIM for data in [0, 1]."""
    moments = torch.cat([first, second, first * first, second * second, first * second])
    mean_1, mean_2, square_1, square_2, product = _gaussian(moments).chunk(5)
    variance_1, variance_2 = square_1 - mean_1**2, square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    contrast = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    return luminance, contrast


def _gaussian(images: torch.Tensor) -> torch.Tensor:
    """Blur every channel by the separable window, without padding."""
    offsets = torch.arange(WINDOW_SIZE, dtype=images.dtype, device=images.device) - WINDOW_SIZE // 2
    window = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    window = window / window.sum()
    # Depthwise: on CPU 20 times faster than folding the channels into the batch.
    channels = images.shape[1]
    images = F.conv2d(images, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(images, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
