"""One of two processes that train together on CPU (gloo); what it saw goes to RESULTS/SCENARIO_RANK.pt.

RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT are in the environment.

python two_ranks.py BASE CACHE FACE_NETWORK RESULTS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from small_training import Losses, Updates, all_losses, fit, learner, people

from lit_restore.errors import UserError
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.restoration import RestorationModule

CONSTANT = OptimizerConfig(learning_rate=1e-3)
ITERATIONS = {1: 5, 2: 2}
"""Batches per update -> length of the training."""
DATA = {"batch_size": 1, "zero_reference_probability": 0.5}


def player(base: Path, face_network: Path, accumulate: int) -> RestorationModule:
    """All losses; without augmentation, whose draws belong to a batch and not to a photo."""
    losses = all_losses(face_network, augmentation=[])
    options = {"optimizer": CONSTANT, "ema_decay": 0.9}
    return learner(base, losses=losses, accumulate=accumulate, max_iterations=ITERATIONS[accumulate], **options)


class Keys(Callback):
    """The photos of every batch."""

    def __init__(self) -> None:
        self.train: list[str] = []
        self.val: list[str] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.train += batch["key"]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_
    ) -> None:
        self.val += batch["key"]


class Spoil(Callback):
    """What goes wrong on rank 1 before the third iteration."""

    def __init__(self, what: str) -> None:
        self.what = what

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_rank == 1 and batch_idx == 2:
            if self.what == "photo":
                batch["hq"][0, 0, 3, 3] = float("nan")
            else:
                with torch.no_grad():
                    weight = pl_module.trained_parameters()[0].view(-1)
                    weight[:1] = torch.nextafter(weight[:1], torch.ones(1))


def result(module: RestorationModule, **values: Any) -> dict[str, Any]:
    return {"state": {name: tensor.clone() for name, tensor in module.state_dict().items()}} | values


def main(base: Path, cache: Path, face_network: Path, results: Path) -> None:
    rank = int(os.environ["RANK"])
    ddp: dict[str, Any] = {"devices": 2, "strategy": "ddp"}

    def keep(scenario: str, **values: Any) -> None:
        torch.save(values, results / f"{scenario}_{rank}.pt")

    for accumulate in (1, 2):
        module, mine, theirs, keys, losses = (
            player(base, face_network, accumulate), Updates(0), Updates(1), Keys(), Losses()
        )  # fmt: skip
        torch.manual_seed(rank)  # whatever the global random state is
        validation = {"limit_val_batches": 1.0, "val_check_interval": 3, "num_sanity_val_steps": 1}
        data = people(cache, **DATA, eval_batch_size=2)
        fit(results / "run", module, data, mine, theirs, keys, losses, **ddp, **validation)
        gradients = [mine.gradients[0], theirs.gradients[0]]
        counts = (module.iteration, module.trainer.global_step)
        keep(f"accumulate{accumulate}", **result(module), gradients=gradients, counts=counts, losses=losses.values,
             train=keys.train, val=keys.val)  # fmt: skip

    for what in ("photo", "weight"):
        module = player(base, face_network, 1)
        try:
            fit(results / what, module, people(cache, **DATA), Spoil(what), **ddp)
        except UserError as error:
            keep(what, message=str(error), **result(module, iteration=module.iteration))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
