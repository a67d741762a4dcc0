"""How much of the attention is where it should be: inside the Gaussians of landmark attention supervision.

A landmark's query cell should look where the same landmark is in each reference: at the cells within two standard
deviations of it (sigma = grid/32 cells, so 5 cells of a 16 x 16 grid, 13 of 32 x 32, 49 of 64 x 64). The measure is the
probability that falls on them, over all references together and averaged over heads and over the query cells that have
a landmark:

    mass = mean_{h, i} sum_r sum_{j near the landmarks of i in r} P_ij

Even attention would give the share of such cells among all keys, which is the number to compare with.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from lit_restore.data.attention_targets import gaussian_rows
from lit_restore.models.attention_probe import SampleAttention
from lit_restore.types import RestorationBatch

INSIDE = math.exp(-2.0)  # a Gaussian of peak 1, two standard deviations from its centre
CHUNK = 64  # rows at a time: 84 MB of probabilities at 64 x 64 cells, 5 heads and 4 references


class AttentionMass(NamedTuple):
    """Of one photo at one layer."""

    mass: float
    """In [0, 1]."""
    even: float
    """What even attention would give."""


@torch.no_grad()
def landmark_attention_mass(attention: SampleAttention, batch: RestorationBatch, sample: int) -> AttentionMass | None:
    """The measure for one photo of a batch; None where it has no landmark in common with a reference.

    Args:
        attention: of that photo at one layer.
        sample: its position in the batch.
    """
    num_cells, num_keys = attention.query.shape[1], attention.key.shape[1]
    inside = torch.zeros(num_cells, num_keys, dtype=torch.bool, device=attention.key.device)
    asked = torch.zeros(num_cells, dtype=torch.bool, device=attention.key.device)
    photo = slice(sample, sample + 1)
    for reference, start in enumerate(attention.starts):
        if start is None:
            continue
        rows = gaussian_rows(
            batch["landmarks"][photo],
            batch["reference_landmarks"][photo, reference],
            size_px=batch["hq"].shape[-1],
            grid=math.isqrt(num_cells),
            query_mask=batch["landmark_mask"][photo],
            reference_mask=batch["reference_landmark_mask"][photo, reference],
        )
        inside[rows.query, start : start + num_cells] = rows.values >= INSIDE
        asked[rows.query] = True
    cells = asked.nonzero().flatten()
    if len(cells) == 0:
        return None
    inside = inside[cells]
    masses = [
        (attention.rows(part) * wanted).sum(-1).mean(0)  # (h, k, M) -> (k,)
        for part, wanted in zip(cells.split(CHUNK), inside.split(CHUNK), strict=True)
    ]
    return AttentionMass(float(torch.cat(masses).mean()), float(inside.float().mean()))
