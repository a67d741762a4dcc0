"""The numbers every run reports, computed per image."""

from __future__ import annotations

import torch
from torch import nn

from lit_restore.faces.points import Points
from lit_restore.metrics.image import psnr, ssim
from lit_restore.metrics.measurement import MetricInfo, unit

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
        recognition: `lit_restore.models.recognition.Recognizer`.
        points: where the five points of its crop come from.
    """

    def __init__(
        self, lpips: nn.Module | None = None, recognition: nn.Module | None = None, points: Points = "target"
    ) -> None:
        super().__init__()
        self.lpips, self.recognition = lpips, recognition
        self.points: Points = points

    @torch.no_grad()
    def forward(
        self,
        restored: torch.Tensor,
        hq: torch.Tensor,
        landmarks: torch.Tensor | None = None,
        landmark_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Metric name -> (B,); identity is NaN where no face was found.

        Args:
            restored, hq: (B, 3, H, W) in [-1, 1].
            landmarks, landmark_mask: of ``hq``, as in `lit_restore.types.RestorationBatch`.
        """
        restored, hq = restored.float(), hq.float()
        values = {"psnr": psnr(unit(restored), unit(hq)), "ssim": ssim(unit(restored), unit(hq))}
        if self.lpips is not None:
            values["lpips"] = self.lpips(restored, hq)
        if self.recognition is not None:
            cosine, found = self.recognition.compare(restored, hq, self.points, landmarks, landmark_mask)
            values["identity"] = torch.full_like(values["psnr"], torch.nan).masked_scatter(found, cosine)
        return values

    def protocol(self) -> dict[str, dict[str, str]]:
        """What has to be the same where numbers are compared, by metric."""
        return {} if self.recognition is None else {"identity": self.recognition.protocol(self.points)}
