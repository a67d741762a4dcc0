"""Pixel losses, for images (B, 3, H, W) in [-1, 1]; each returns one value."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def l1(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """mean |restored - hq|."""
    return F.l1_loss(restored.float(), hq.float())


def l2(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """mean (restored - hq)^2."""
    return F.mse_loss(restored.float(), hq.float())
