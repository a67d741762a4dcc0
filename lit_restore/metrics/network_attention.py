"""The metric ``attention_mass``: it looks into the restorer while it works, not at its picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from lit_restore.errors import UserError
from lit_restore.metrics.attention import landmark_attention_mass
from lit_restore.metrics.measurement import MetricInfo, Values, with_reasons
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.types import RestorationBatch

COLUMNS = {
    "attention_mass": MetricInfo("attention on landmarks", True, "{:.3f}"),
    "attention_mass_even": MetricInfo("attention on landmarks, if even", None, "{:.3f}"),
}


class Restorer(Protocol):
    """A method whose attention can be watched."""

    name: str
    attention: Callable[[RestorationBatch], AttentionProbe]


class NetworkAttention:
    """`lit_restore.metrics.attention.landmark_attention_mass`, averaged over the shared layers.

    Args:
        restorer: the method that is measured; None = not known yet, see `of`.
    """

    columns = COLUMNS

    def __init__(self, restorer: Restorer | None = None) -> None:
        self.protocol = {"attention": "within 2 sigma of the landmark in any reference; mean of layers, heads, cells"}
        self._restorer = restorer

    def of(self, method: object) -> NetworkAttention:
        """The metric of this method.

        Raises:
            UserError: it has no attention to look at.
        """
        if not hasattr(method, "attention"):
            raise UserError(
                "attention_mass looks into a trained restorer",
                expected="a checkpoint",
                found=getattr(method, "name", type(method).__name__),
                fix="Leave it out of the metrics of pictures.",
            )
        return NetworkAttention(method)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        assert self._restorer is not None, "bind it with `of`"
        seen = self._restorer.attention(batch).seen
        numbers = torch.full((2, len(restored)), torch.nan, dtype=torch.float64)
        for sample in range(len(restored)):
            layers = [landmark_attention_mass(layer.sample(sample), batch, sample) for layer in seen.values()]
            known = [layer for layer in layers if layer is not None]
            if known:
                numbers[:, sample] = torch.tensor(known, dtype=torch.float64).mean(0)
        reasons = ["no reference shows a landmark of the photo"] * len(restored)
        return {name: with_reasons(values, reasons) for name, values in zip(COLUMNS, numbers, strict=True)}
