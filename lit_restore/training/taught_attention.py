"""Attention that is shown where to look: teacher forcing for the pre-training of the bundled base.

Where to look and what to do with what is found are learned apart. While a network still looks a little beside the place
or at all of its surroundings, what it finds there is blurred, and a squared error teaches it to trust little of that;
trusting little, it has no reason to look more closely. So the values of the right place are handed to every query,

    out_n = sum_i w_ni V'_c(n,i)        c(n, 1..4) the cells around the spot in the other photo

and its own attention, which is not used there, learns the place by itself:

    loss = - sum_i w_ni log softmax(Q_n K^T / sqrt(d))_c(n,i),   averaged over n, heads and layers

Axis letters as in `lit_restore.models.reference_attention`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.reference_attention import ReferenceFeatures, SharedAttentionProcessor
from lit_restore.training.correspondence import Places


@dataclass
class TaughtFeatures(ReferenceFeatures):
    """Keys and values of one reference per photo, and where in it each cell is to look."""

    places: dict[int, Places] = field(default_factory=dict)
    """For each layer's number of cells N."""


class TaughtAttentionProcessor(SharedAttentionProcessor):
    """As in the restorer, unless it is told the places: then these decide, where known."""

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        allowed: torch.Tensor | None,
        reference: object,
    ) -> torch.Tensor:
        own = super().attend(query, key, value, allowed, reference)
        if not isinstance(reference, TaughtFeatures):
            return own
        cells, weights, known = reference.places[query.shape[2]]
        wanted = cells.flatten(1)[:, None, :, None].expand(-1, value.shape[1], -1, value.shape[3])
        corners = value.gather(2, wanted).unflatten(2, (-1, 4))  # (B, h, N, 4, d)
        taught = (corners * weights[:, None, :, :, None].to(value.dtype)).sum(3)
        return torch.where(known[:, None, :, None], taught, own)


def place_loss(probe: AttentionProbe, places: dict[int, Places]) -> torch.Tensor:
    """Cross entropy between the places and the attention, averaged over known cells, heads and layers.

    With gradients to queries and keys: unlike in the restorer, both belong to the network in training. 0 where no place
    is known.
    """
    total, count = 0.0, 0
    for seen in probe.seen.values():
        cells, weights, known = places[seen.query.shape[2]]
        query, key = seen.query.float(), seen.key.float()
        log_attention = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).log_softmax(-1)  # (B, h, N, N)
        heads = query.shape[1]
        at_corners = log_attention.gather(3, cells[:, None].expand(-1, heads, -1, -1))  # (B, h, N, 4)
        total = total - ((weights[:, None] * at_corners).sum(-1) * known[:, None]).sum()
        count = count + heads * known.sum()
    return total / count.clamp(min=1)
