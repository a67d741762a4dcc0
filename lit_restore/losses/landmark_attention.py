"""Landmark attention supervision (InstantRestore, section 3.4): teach the queries where to look.

A landmark of the target photo lies in query cell i of a layer's grid, the same landmark of reference c in key cell j:
the attention P_i of that query should be a Gaussian around j in reference c,

    LAS = mean_{h, i, j} (P~_ij - A~_ij)^2     over heads, supervised queries, and the cells of reference c,

with A the Gaussians of `lit_restore.data.attention_targets` and ~ the scaling of both maps, see
`lit_restore.losses.attention_rows`. Paper: every layer and reference; public code: one random layer and one random
reference per photo and step, an estimate of the same.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from lit_restore.data.attention_targets import gaussian_rows, landmark_cells
from lit_restore.errors import UserError
from lit_restore.losses.attention_rows import RowTarget, attention_row_loss
from lit_restore.models.attention_probe import AttentionProbe, SampleAttention
from lit_restore.types import RestorationBatch


@dataclass(frozen=True)
class LandmarkAttentionConfig:
    """What is supervised and how; the defaults are the paper's, where it says anything."""

    weight: float = 0.0
    """0 = off; the paper's 5000 belongs to min-max scaled maps and the squared distance."""
    layers: Literal["all", "sample"] | list[int] = "all"
    """Shared layers, 0 = coarsest; ``sample`` = one at random per photo (official)."""
    references: Literal["all", "sample"] | list[int] = "all"
    """References, 0 = first; ``sample`` = one at random per photo (official)."""
    scaling: Literal["minmax", "row_sum", "none"] = "minmax"
    """Of attention and target before they are compared; the paper does not say (official: minmax)."""
    extremes: Literal["rows", "map"] = "rows"
    """Where ``minmax`` finds minimum and maximum: in the supervised rows, or in the whole map (official)."""
    distance: Literal["l2", "cross_entropy"] = "l2"
    """``cross_entropy`` needs a scaling other than minmax."""
    targets: Literal["corrected", "official"] = "corrected"
    """``official`` = the public code's targets: x and y of the keys swapped, negative coordinates wrapping."""


class Supervision(NamedTuple):
    """One attention map to supervise."""

    sample: int
    layer: int
    reference: int


class SupervisionProbe(AttentionProbe):
    """The probe of one training step: which maps are supervised, and the landmarks that say how.

    Args:
        items: at least one.
        batch: the photos' landmarks.
    """

    def __init__(self, items: Sequence[Supervision], batch: RestorationBatch) -> None:
        super().__init__({item.layer for item in items})
        self.items, self.batch = items, batch


class LandmarkAttentionLoss:
    """Draws what to supervise, then measures it.

        probe = loss.probe(batch, draws)
        restored = generator(batch["lq"], batch["references"], batch["reference_mask"], ..., probe=probe)
        value = loss(probe) if probe else 0

    Args:
        config: see there.
        layers: names of the shared layers, coarse to fine (``generator.shared_layers``).

    Raises:
        UserError: no such layer, or options that do not go together.
    """

    def __init__(self, config: LandmarkAttentionConfig, layers: Sequence[str]) -> None:
        _check(config, len(layers))
        self.config = config
        self.layers = range(len(layers))

    def probe(self, batch: RestorationBatch, draws: Sequence[random.Random]) -> SupervisionProbe | None:
        """What to watch in the coming forward pass; None where the weight is 0 or nothing can be supervised.

        References without a single landmark in common with the target are never chosen.

        Args:
            draws: one source of choices per photo of the batch. Where each is made afresh of seed, iteration and photo,
                the choices depend on nothing else.
        """
        if self.config.weight == 0:
            return None
        items = []
        for sample, (usable, draw) in enumerate(zip(self._usable_references(batch), draws, strict=True)):
            if usable:
                layers = self._choose(self.config.layers, list(self.layers), draw)
                references = self._choose(self.config.references, usable, draw)
                items += [Supervision(sample, layer, reference) for layer in layers for reference in references]
        return SupervisionProbe(items, batch) if items else None

    def _usable_references(self, batch: RestorationBatch) -> list[list[int]]:
        """Per photo the real references which have a landmark in common with it."""
        if batch["references"].shape[1] == 0:
            return [[] for _ in batch["key"]]
        size_px = batch["hq"].shape[-1]
        known = [
            batch[f"{name}landmark_mask"] & landmark_cells(batch[f"{name}landmarks"], size_px, 1)[1]
            for name in ("", "reference_")
        ]
        common = (known[0][:, None] & known[1]).any(-1) & batch["reference_mask"]
        return [[index for index, usable in enumerate(row) if usable] for row in common.tolist()]

    @staticmethod
    def _choose(choice: str | list[int], options: list[int], draw: random.Random) -> list[int]:
        if choice == "all":
            return options
        if choice == "sample":
            return [draw.choice(options)]
        return [option for option in options if option in choice]

    def __call__(self, probe: SupervisionProbe) -> torch.Tensor:
        """The unweighted loss of the forward pass that ``probe`` watched, a scalar.

        Mean over the photos of the batch of the mean over each photo's supervised maps; photos without any count as 0,
        so a batch is the mean of its photos one by one.
        """
        if not probe.seen:
            raise UserError(
                "landmark attention supervision without shared attention",
                where="losses.landmark_attention.weight",
                fix="Set generator.use_references to true, or the weight to 0.",
            )
        total = probe.batch["hq"].new_zeros(())
        counts = Counter(item.sample for item in probe.items)
        for (sample, layer), items in itertools.groupby(probe.items, key=lambda item: item[:2]):
            attention = probe.seen[layer].sample(sample)
            targets = [self._target(probe.batch, attention, item) for item in items]
            value = attention_row_loss(
                attention,
                targets,
                scaling=self.config.scaling,
                distance=self.config.distance,
                extremes=self.config.extremes,
            )
            total = total + value * len(targets) / counts[sample]
        return total / len(probe.batch["hq"])

    def _target(self, batch: RestorationBatch, attention: SampleAttention, item: Supervision) -> RowTarget:
        sample, reference = slice(item.sample, item.sample + 1), item.reference
        rows = gaussian_rows(
            batch["landmarks"][sample],
            batch["reference_landmarks"][sample, reference],
            size_px=batch["hq"].shape[-1],
            grid=math.isqrt(attention.query.shape[1]),
            query_mask=batch["landmark_mask"][sample],
            reference_mask=batch["reference_landmark_mask"][sample, reference],
            variant=self.config.targets,
        )
        return RowTarget(rows.query, self._scaled(rows.values, attention), attention.starts[reference])

    def _scaled(self, values: torch.Tensor, attention: SampleAttention) -> torch.Tensor:
        """The target map's listed rows (K, N) on the scale of the attention they are compared with."""
        if self.config.scaling == "row_sum" or self.config.distance == "cross_entropy":
            return values / values.sum(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        if self.config.scaling == "minmax":
            every_row = len(values) == attention.query.shape[1]  # else others are zero
            low = values.min() if every_row else 0.0
            return (values - low) / (values.max() - low)
        return values


def _check(config: LandmarkAttentionConfig, num_layers: int) -> None:
    """Refuse what has no meaning."""
    where = "losses.landmark_attention"
    if config.weight < 0:
        raise UserError("negative weight", where=f"{where}.weight", expected="at least 0", found=config.weight)
    if (config.distance, config.scaling) == ("cross_entropy", "minmax"):
        raise UserError(
            "cross entropy compares distributions, which min-max scaled maps are not",
            where=f"{where}.scaling",
            expected="row_sum (where to look in a reference) or none (in which one, too)",
            found=config.scaling,
        )
    for name, values, last in (("layers", config.layers, num_layers - 1), ("references", config.references, None)):
        if isinstance(values, list):
            wrong = [value for value in values if value < 0 or (last is not None and value > last)]
            if wrong or not values:
                expected = f"numbers from 0 to {last}" if last is not None else "numbers from 0"
                raise UserError(f"no such {name}", where=f"{where}.{name}", expected=expected, found=values)
