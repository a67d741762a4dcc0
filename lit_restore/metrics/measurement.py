"""What a metric says about a batch of restorations: a number for every picture, or why there is none.

A picture that cannot be measured (no face found, no truth, too small) counts as a failure. Its number is NaN and its
reason goes with it, so that whoever takes the mean can say over how many.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from lit_restore.errors import UserError
from lit_restore.types import RestorationBatch

NO_TRUTH = "no true picture"
NO_LANDMARKS = "no landmarks"
"""How the reason begins where faces were to be found by landmarks that the data does not have."""


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is printed and read."""

    title: str
    higher_is_better: bool | None
    """None: neither; the number puts another one into perspective."""
    format: str
    unit: str | None = None


@dataclass(frozen=True)
class Values:
    """One number per picture of a batch."""

    numbers: torch.Tensor
    """(B,) float64 on the CPU; NaN where there is none."""
    failures: dict[int, str] = field(default_factory=dict)
    """Place in the batch -> why it has no number; exactly the NaNs."""


class Metric(Protocol):
    """Measures pictures one by one; what it makes of one does not depend on the others in its batch."""

    columns: dict[str, MetricInfo]
    """Name -> description of every number it gives."""
    protocol: dict[str, str]
    """All that has to be the same where its numbers are compared, besides pictures and the versions of Python and
    torch."""

    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        """Columns of a batch.

        Args:
            restored: (B, 3, H, W) in [-1, 1]; values outside are clipped, as in a picture file.
            batch: what it was made from and should be; on any device.
        """


class Comparison:
    """A metric that compares each restoration with the truth, in whole pictures.

    Args:
        name: of the column.
        info: of the column.
        compare: restored, truth (B, 3, H, W) in [0, 1] -> (B,); NaN = not defined.
        protocol: see `Metric`.
        undefined: why ``compare`` may give NaN.
    """

    def __init__(
        self,
        name: str,
        info: MetricInfo,
        compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        protocol: dict[str, str],
        undefined: str = "not defined for these pictures",
    ) -> None:
        self.columns = {name: info}
        self.protocol = protocol
        self._name, self._compare, self._undefined = name, compare, undefined

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        known = batch["has_hq"].to(restored.device)
        hq = batch["hq"].to(restored.device)
        if restored.shape != hq.shape:
            raise UserError("restorations differ from the truth in size", expected=_size(hq), found=_size(restored))
        numbers = torch.full((len(restored),), torch.nan, dtype=torch.float64)
        if known.any():
            numbers[known.cpu()] = self._compare(unit(restored[known]), unit(hq[known])).double().cpu()
        reasons = [self._undefined if there else NO_TRUTH for there in known.tolist()]
        return {self._name: with_reasons(numbers, reasons)}


class Judgement:
    """A metric that looks at the restoration alone.

    Args:
        name: of the column.
        info: of the column.
        judge: restored (B, 3, H, W) in [0, 1] -> (B,); NaN = not defined.
        protocol: see `Metric`.
        undefined: why ``judge`` may give NaN.
    """

    def __init__(
        self,
        name: str,
        info: MetricInfo,
        judge: Callable[[torch.Tensor], torch.Tensor],
        protocol: dict[str, str],
        undefined: str = "not defined for this picture",
    ) -> None:
        self.columns = {name: info}
        self.protocol = protocol
        self._name, self._judge, self._undefined = name, judge, undefined

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        numbers = self._judge(unit(restored)).double().cpu()
        return {self._name: with_reasons(numbers, [self._undefined] * len(numbers))}


def unit(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1], float32, clipped."""
    return (images.float().clamp(-1, 1) + 1) / 2


def with_reasons(numbers: torch.Tensor, reasons: list[str]) -> Values:
    """``numbers`` (B,), of which the NaNs have failed for the reasons at their places."""
    failed = numbers.isnan().nonzero().flatten().tolist()
    return Values(numbers.double().cpu(), {index: reasons[index] for index in failed})


def library(name: str) -> str:
    """Name and version of an installed package."""
    return f"{name} {importlib.metadata.version(name)}"


def _size(images: torch.Tensor) -> str:
    return f"{images.shape[-1]}x{images.shape[-2]}"
