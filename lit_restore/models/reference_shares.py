"""Which reference each region of a face drew from, measured: the attention of one pass, summed up.

For query n of the face, head h and layer l, the mass in reference r is the sum of ``softmax(q k / sqrt(d))`` over the
keys of r. It is averaged over heads, brought to the grid of the finest layer, and averaged over layers. That says where
the values came from, not how much they changed the picture: a cell may look firmly at one reference and find there
what it had anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from lit_restore.models.attention_probe import AttentionProbe, SampleAttention

CHUNK_VALUES = 2**24
"""Probabilities that are written down at a time: 64 MB."""


@dataclass(frozen=True)
class ReferenceShares:
    """Attention of one face to R references, on a grid of G x G cells."""

    drawn: np.ndarray
    """(R, G, G) float32: how much of the attention of each cell of the face lies in each reference. Sums to 1 over the
    references; to less where the face's own keys take part."""
    looked_at: np.ndarray
    """(R, G, G) float32: how much of all attention lies in each cell of each reference; as a whole the same sum as the
    mean of ``drawn`` over cells."""

    @property
    def total(self) -> np.ndarray:
        """(R,) the share of every reference in the whole face."""
        return self.drawn.mean(axis=(1, 2))


@torch.inference_mode()
def reference_shares(probe: AttentionProbe, sample: int = 0) -> ReferenceShares | None:
    """Sum up what a probe saw.

    Args:
        probe: after a pass of square images.
        sample: which of the batch.

    Returns:
        shares in the references that are no padding, in their order; None if there were none.
    """
    layers = [inputs.sample(sample) for inputs in probe.seen.values()]
    if not layers or all(start is None for start in layers[0].starts):
        return None
    finest = max(math.isqrt(layer.query.shape[1]) for layer in layers)
    drawn, looked_at = zip(*(_layer_shares(layer, finest) for layer in layers), strict=True)
    return ReferenceShares(*(torch.stack(parts).mean(0).cpu().numpy() for parts in (drawn, looked_at)))


def _layer_shares(attention: SampleAttention, finest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both kinds of shares at one layer, (R, G, G)."""
    tokens, own = attention.query.shape[1], attention.num_own
    grid = math.isqrt(tokens)
    drawn, looked_at = [], torch.zeros((), device=attention.query.device)
    for cells in torch.arange(tokens).split(max(1, CHUNK_VALUES // attention.query.shape[0] // attention.key.shape[1])):
        rows = attention.rows(cells.to(attention.query.device)).mean(0)[:, own:].unflatten(1, (-1, tokens))  # (K, R, N)
        drawn.append(rows.sum(2))
        looked_at = looked_at + rows.sum(0)
    # Enlarging keeps the value of a cell, so a sum over cells grows with their number, to finest**2 from tokens.
    parts = torch.cat(drawn).T, looked_at / finest**2  # (R, N) each
    maps = (part.unflatten(1, (grid, grid))[None] for part in parts)
    drawn_here, looked_at_here = (F.interpolate(one, (finest, finest), mode="bilinear")[0] for one in maps)
    return drawn_here, looked_at_here
