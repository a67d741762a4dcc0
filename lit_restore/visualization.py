"""Tensors -> pictures to look at."""

from __future__ import annotations

import numpy as np
import torch

from lit_restore.image import to_uint8
from lit_restore.types import RestorationBatch

GAP_PX = 4
WHITE = 255


def restoration_rows(batch: RestorationBatch, restored: torch.Tensor) -> list[np.ndarray]:
    """One row per photo: degraded | references | restored | truth, uint8 (H, W, 3) each.

    Args:
        restored: (B, 3, H, W) in [-1, 1].
    """
    rows = []
    for index in range(len(restored)):
        references = batch["references"][index][batch["reference_mask"][index]]
        tiles = [batch["lq"][index], *references, restored[index], batch["hq"][index]]
        rows.append(row([to_uint8(tile) for tile in tiles]))
    return rows


def row(tiles: list[np.ndarray]) -> np.ndarray:
    """Tiles of equal height side by side, with a white gap."""
    gap = np.full((tiles[0].shape[0], GAP_PX, 3), WHITE, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def column(rows: list[np.ndarray]) -> np.ndarray:
    """Rows of `restoration_rows` one above the other, restored below restored and truth below truth.

    White fills the gaps and the places of references that a photo lacks.
    """
    width = max(one.shape[1] for one in rows)
    return np.concatenate([part for one in rows for part in _with_gap(one, width)][:-1])


def _with_gap(one: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    height = len(one)
    ends = 2 * height + GAP_PX  # restored and truth; pictures are square
    blank = np.full((height, width - one.shape[1], 3), WHITE, np.uint8)
    gap = np.full((GAP_PX, width, 3), WHITE, np.uint8)
    return np.concatenate([one[:, :-ends], blank, one[:, -ends:]], axis=1), gap
