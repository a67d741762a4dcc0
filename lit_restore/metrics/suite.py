"""The numbers every run reports, computed per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lit_restore.metrics.image import psnr, ssim


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is printed."""

    title: str
    higher_is_better: bool
    format: str


METRICS = {
    "psnr": MetricInfo("PSNR", True, "{:.2f}"),
    "ssim": MetricInfo("SSIM", True, "{:.3f}"),
    "lpips": MetricInfo("LPIPS", False, "{:.3f}"),
    "identity": MetricInfo("ID", True, "{:.3f}"),
}


class MetricSuite(nn.Module):
    """PSNR and SSIM always; LPIPS and identity where their networks are given.

    Args:
        lpips: `lit_restore.losses.perceptual.Lpips`.
        recognition: aligned faces (B, 3, H, W) in [-1, 1] -> unit vectors (B, D).
    """

    def __init__(self, lpips: nn.Module | None = None, recognition: nn.Module | None = None) -> None:
        super().__init__()
        self.lpips, self.recognition = lpips, recognition

    @torch.no_grad()
    def forward(self, restored: torch.Tensor, hq: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> metric name -> (B,)."""
        restored, hq = restored.float(), hq.float()
        unit_restored, unit_hq = (restored.clamp(-1, 1) + 1) / 2, (hq + 1) / 2
        values = {"psnr": psnr(unit_restored, unit_hq), "ssim": ssim(unit_restored, unit_hq)}
        if self.lpips is not None:
            values["lpips"] = self.lpips(restored, hq)
        if self.recognition is not None:
            values["identity"] = (self.recognition(restored) * self.recognition(hq)).sum(1)
        return values
