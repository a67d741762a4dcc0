"""Image quality per image, the way the papers' tables average it: the mean of per-image values.

Images are (B, 3, H, W) in [0, 1], RGB, all channels together.
"""

from __future__ import annotations

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def psnr(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB per image, (B,)."""
    return peak_signal_noise_ratio(restored, hq, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Structural similarity per image, (B,): 11-tap Gaussian window of sigma 1.5."""
    value = structural_similarity_index_measure(restored, hq, data_range=1.0, reduction="none")
    return value.reshape(-1)
