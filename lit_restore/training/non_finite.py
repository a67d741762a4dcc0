"""A loss or gradient that is not a number stops the training before any weight is changed, and leaves evidence.

    <run folder>/non_finite/iteration_000123_rank_0/
        report.json         photos, seed, loss terms, range and number of non-finite values of every tensor
        batch.safetensors   the batch as the model got it

With the seed and the iteration number everything else of that step can be repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.training import ranks
from lit_restore.types import RestorationBatch

MOST_NAMED = 4


@dataclass
class _Culprit:
    """The first batch of an update that went wrong."""

    what: str
    micro_batch: int
    values: dict[str, float]
    batch: RestorationBatch

    def found(self) -> str:
        """What is not finite, and whether that was so from the beginning."""
        names = [name for name, value in self.values.items() if not math.isfinite(value)]
        given = [name for name, tensor in _tensors(self.batch).items() if not bool(torch.isfinite(tensor).all())]
        text = ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "")
        return f"{text} not finite, {'already in ' + ', '.join(given) if given else 'of finite pictures'}"


class NonFiniteGuard:
    """Looks at every batch of an update; `stop` is for the moment when all ranks know that something is wrong."""

    def __init__(self) -> None:
        self._culprit: _Culprit | None = None

    def watch(
        self,
        batch: RestorationBatch,
        micro_batch: int,
        losses: Mapping[str, torch.Tensor],
        gradient_norms: Mapping[str, torch.Tensor],
    ) -> None:
        """Keep the batch if it is the first one with a non-finite loss or gradient."""
        numbers = torch.stack([value.detach().float() for value in (*losses.values(), *gradient_norms.values())])
        if self._culprit is not None or bool(torch.isfinite(numbers).all()):
            return
        values = dict(zip((*losses, *gradient_norms), numbers.tolist(), strict=True))
        what = "loss" if any(not math.isfinite(values[name]) for name in losses) else "gradient"
        self._culprit = _Culprit(what, micro_batch, values, batch)

    def forget(self) -> None:
        """An update has gone well."""
        self._culprit = None

    def stop(self, run_folder: Path, *, iteration: int, rank: int, seed: int, what: str) -> NoReturn:
        """Write down what is known and raise, on all ranks with the same words.

        Args:
            rank: of this process.
            what: ``loss`` or ``gradient``; what to say if no single batch is to blame.

        Raises:
            UserError: always.
        """
        mine = self._culprit
        summaries = ranks.gather(mine and (mine.what, mine.batch["key"], mine.found()))
        folders = [run_folder / "non_finite" / f"iteration_{iteration:06d}_rank_{r}" for r in range(len(summaries))]
        if mine is not None:
            _write(folders[rank], mine, {"iteration": iteration, "rank": rank, "seed": seed})
        first = next((r for r, summary in enumerate(summaries) if summary), None)
        if first is None:
            raise UserError(
                f"the {what} is not finite",
                where=f"iteration {iteration}, only after averaging over batches",
                fix="This step changed no weight; lower the learning rate.",
            )
        what, keys, found = summaries[first]
        raise UserError(
            f"the {what} is not finite",
            where=f"iteration {iteration}, photos {', '.join(keys)}",
            found=found,
            fix=f"This step changed no weight. Look at {folders[first] / 'report.json'} and the tensors beside it "
            "(safetensors.torch.load_file); if the photos are in order, lower the learning rate or set "
            "trainer.precision to 32.",
        )


def _write(folder: Path, culprit: _Culprit, context: dict[str, Any]) -> None:
    tensors = _tensors(culprit.batch)
    report = context | {
        "micro_batch": culprit.micro_batch,
        "what": culprit.what,
        "photos": culprit.batch["key"],
        "people": culprit.batch["identity"],
        "values": {name: _plain(value) for name, value in culprit.values.items()},
        "tensors": {name: _describe(tensor) for name, tensor in tensors.items()},
    }
    with atomic_path(folder / "batch.safetensors") as path:
        path.write_bytes(save(tensors))
    with atomic_path(folder / "report.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _tensors(batch: RestorationBatch) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in batch.items() if isinstance(value, torch.Tensor)}


def _describe(tensor: torch.Tensor) -> dict[str, Any]:
    finite = tensor[torch.isfinite(tensor)].float()
    description: dict[str, Any] = {"shape": list(tensor.shape), "not_finite": tensor.numel() - finite.numel()}
    if finite.numel():
        description |= {"min": finite.min().item(), "max": finite.max().item()}
    return description


def _plain(value: float) -> float | str:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else str(value)
