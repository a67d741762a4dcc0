"""Samples -> `RestorationBatch`: references are padded to the widest sample of the batch and masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lit_restore.types import RestorationBatch

PADDED = ("references", "reference_landmarks", "reference_landmark_mask")
STACKED = ("lq", "hq", "landmarks", "landmark_mask", "has_hq")


def collate(samples: Sequence[dict[str, Any]]) -> RestorationBatch:
    """Join samples of `RestorationDataset`. R may be 0: then ``references`` is (B, 0, 3, H, W)."""
    counts = torch.tensor([len(sample["references"]) for sample in samples])
    width = int(counts.max())
    batch: dict[str, Any] = {name: torch.stack([sample[name] for sample in samples]) for name in STACKED}
    batch |= {name: torch.stack([_pad(sample[name], width) for sample in samples]) for name in PADDED}
    batch["reference_mask"] = torch.arange(width) < counts[:, None]
    batch["identity"] = [sample["identity"] for sample in samples]
    batch["key"] = [sample["key"] for sample in samples]
    return RestorationBatch(**batch)


def _pad(values: torch.Tensor, length: int) -> torch.Tensor:
    """(r, ...) -> (length, ...), filled with 0 / False."""
    padded = values.new_zeros((length, *values.shape[1:]))
    padded[: len(values)] = values
    return padded
