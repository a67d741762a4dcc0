"""A window into the shared attention of one forward pass.

Fused attention never writes its probabilities ``softmax(Q K^T / sqrt(d))`` down, and at 64 x 64 cells with four
references they are too many to keep (5 x 4096 x 16384 per photo and layer). But queries and keys decide them, and those
exist anyway: a probe keeps hold of them, for chosen layers, and whoever wants probabilities computes only the rows of
interest. Axis letters as in `lit_restore.models.reference_attention`; M keys in all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SampleAttention:
    """Attention of one photo at one layer."""

    query: torch.Tensor
    """(h, N, d)."""
    key: torch.Tensor
    """(h, M, d): own tokens where they take part, then N per reference; no padding."""
    starts: tuple[int | None, ...]
    """Where each reference starts among the keys; None = a padded reference."""

    @property
    def num_own(self) -> int:
        """How many of the keys are the restored image's own: 0 or N."""
        return self.key.shape[1] - sum(start is not None for start in self.starts) * self.query.shape[1]

    def rows(self, cells: torch.Tensor) -> torch.Tensor:
        """Probabilities of some queries over all keys: (K,) int64 -> (h, K, M) float32, differentiable."""
        with torch.autocast(self.query.device.type, enabled=False):
            query, key = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (self.query, self.key))
            return torch.softmax(query[:, cells] @ key.transpose(1, 2) / query.shape[-1] ** 0.5, dim=-1)


@dataclass(frozen=True)
class AttentionInputs:
    """What one shared layer's attention was computed from."""

    query: torch.Tensor
    """(B, h, N, d), part of the autograd graph."""
    key: torch.Tensor
    """(B, h, M, d): own tokens where present, then N per reference."""
    allowed: torch.Tensor | None
    """(B, M) bool, False = padding, or own tokens where they take no part; None = all count."""
    num_references: int
    """R, padding included."""

    def sample(self, index: int) -> SampleAttention:
        """One photo's part."""
        query, key, tokens = self.query[index], self.key[index], self.query.shape[2]
        allowed = [True] * (key.shape[1] // tokens)  # per block of N keys
        if self.allowed is not None:
            allowed = self.allowed[index, ::tokens].tolist()
            key = key[:, self.allowed[index]]
        starts = [sum(allowed[:block]) * tokens if allowed[block] else None for block in range(len(allowed))]
        return SampleAttention(query, key, tuple(starts[len(allowed) - self.num_references :]))


class AttentionProbe:
    """Hand this to a forward pass of the generator; afterwards it knows the attention of the wanted layers.

    Nothing is recorded in a pass without references. One probe serves one forward pass.

    Args:
        layers: which shared layers, 0 = coarsest.
    """

    def __init__(self, layers: Collection[int]) -> None:
        self.layers = frozenset(layers)
        self.seen: dict[int, AttentionInputs] = {}

    def record(self, layer: int, inputs: AttentionInputs) -> None:
        """Called by the attention processors.

        Activation checkpointing runs layers a second time during the backward pass; only the tensors of the first run
        are part of the loss's graph, so the second is not recorded.
        """
        if layer in self.layers and layer not in self.seen:
            self.seen[layer] = inputs
