"""Tensors -> pictures to look at."""

from __future__ import annotations

import numpy as np
import torch

from lit_restore.image import to_uint8
from lit_restore.types import RestorationBatch

GAP_PX = 4


def restoration_grid(batch: RestorationBatch, restored: torch.Tensor, max_rows: int = 8) -> np.ndarray:
    """One row per photo: degraded | references | restored | truth, uint8 (H, W, 3).

    Args:
        restored: (B, 3, H, W) in [-1, 1].
    """
    rows = []
    for index in range(min(max_rows, len(restored))):
        references = batch["references"][index]
        tiles = [batch["lq"][index], *references, restored[index], batch["hq"][index]]
        rows.append(row([to_uint8(tile) for tile in tiles]))
    return column(rows)


def row(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles of equal height side by side, with a white gap."""
    gap = np.full((tiles[0].shape[0], GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def column(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of equal width one above the other, with a white gap."""
    gap = np.full((GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for one in rows for part in (one, gap)][:-1], axis=0)
