"""Image quality per image, the way the papers' tables average it: the mean of per-image values.

Images are (B, 3, H, W) in [0, 1], RGB, all channels together.
"""

from __future__ import annotations

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from lit_restore.errors import UserError
from lit_restore.losses.ms_ssim import WEIGHTS, ms_ssim
from lit_restore.metrics.measurement import Comparison, MetricInfo, library

BORDER_PX = 5  # half a window; torchmetrics reflects the image there, scikit-image and the papers leave it out
WINDOW_PX = 2 * BORDER_PX + 1

PSNR = MetricInfo("PSNR", True, "{:.2f}", "dB")
SSIM = MetricInfo("SSIM", True, "{:.3f}")
MS_SSIM = MetricInfo("MS-SSIM", True, "{:.3f}")

_COLOUR = {"colour": "RGB, all channels", "range": "[0, 1], not rounded"}


def psnr(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB per image, (B,); infinite where the images are equal."""
    return peak_signal_noise_ratio(restored, hq, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Structural similarity per image, (B,): 11-tap Gaussian window (sigma 1.5) inside the image (Wang et al. 2004).

    Raises:
        UserError: a side is smaller than the window.
    """
    if min(hq.shape[-2:]) < WINDOW_PX:
        raise UserError(
            "image too small for SSIM", expected=f"at least {WINDOW_PX} px", found=f"{min(hq.shape[-2:])} px"
        )
    _, full = structural_similarity_index_measure(
        restored, hq, data_range=1.0, reduction="none", return_full_image=True
    )
    return full[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean((1, 2, 3))


def psnr_metric() -> Comparison:
    """PSNR per image."""
    return Comparison("psnr", PSNR, psnr, _COLOUR | {"library": library("torchmetrics")})


def ssim_metric() -> Comparison:
    """SSIM per image."""
    window = {"window": "Gaussian, 11 px, sigma 1.5, inside the image", "k": "0.01, 0.03"}
    return Comparison("ssim", SSIM, ssim, _COLOUR | window | {"library": library("torchmetrics")})


def ms_ssim_metric() -> Comparison:
    """MS-SSIM per image, by the function that is also the loss (torchmetrics' needs more than 160 px)."""
    window = {"window": "Gaussian, 11 px, sigma 1.5, inside the image", "k": "0.01, 0.03"}
    scales = {"scales": f"{len(WEIGHTS)} from 176 px on, below as many as fit", "library": "lit_restore"}
    return Comparison("ms_ssim", MS_SSIM, ms_ssim, _COLOUR | window | scales)
