"""Image quality per image, the way the papers' tables average it: the mean of per-image values.

Images are (B, 3, H, W) in [0, 1], RGB, all channels together.
"""

from __future__ import annotations

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

BORDER_PX = 5  # half a window; torchmetrics reflects the image there, scikit-image and the papers leave it out


def psnr(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB per image, (B,)."""
    return peak_signal_noise_ratio(restored, hq, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Structural similarity per image, (B,): 11-tap Gaussian window (sigma 1.5) inside the image (Wang et al. 2004)."""
    _, full = structural_similarity_index_measure(
        restored, hq, data_range=1.0, reduction="none", return_full_image=True
    )
    return full[..., BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean((1, 2, 3))
