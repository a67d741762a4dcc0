"""The words data, model and losses share."""

from __future__ import annotations

from typing import TypedDict

import torch


class RestorationBatch(TypedDict):
    """One batch. B batch, R references (padded to the widest sample, may be 0), L landmarks (1,349)."""

    lq: torch.Tensor
    """(B, 3, H, W) in [-1, 1]: the degraded input."""
    hq: torch.Tensor
    """(B, 3, H, W) in [-1, 1]: the target. Where a data set has none (LQ-only folders) it repeats ``lq``."""
    references: torch.Tensor
    """(B, R, 3, H, W) in [-1, 1], unless ``data.reference_range`` says otherwise: other photos of the same person;
    padding is 0."""
    reference_mask: torch.Tensor
    """(B, R) bool, True = a real reference."""
    landmarks: torch.Tensor
    """(B, L, 2) float32, x and y in pixels of ``hq`` (pixel centres at integers); 0 where unknown."""
    landmark_mask: torch.Tensor
    """(B, L) bool, True = known and visible."""
    reference_landmarks: torch.Tensor
    """(B, R, L, 2), as ``landmarks``."""
    reference_landmark_mask: torch.Tensor
    """(B, R, L) bool."""
    identity: list[str]
    """Name of each person."""
    key: list[str]
    """Stable name of each target photo (path relative to its data root, POSIX separators, NFC)."""
    has_hq: torch.Tensor
    """(B,) bool, False where ``hq`` only repeats ``lq``."""
