"""What the three recipes of the bundled networks share: plain supervised training counted in iterations.

They exist because the embedded default must not download anything: a small VAE, a small UNet and a small recognition
network take the places of Stable Diffusion's and CurricularFace's. All three see faces through the same data module as
the restorer.

Everything drawn while training is a pure function of (seed, iteration, what it is for), and so is the data (see the
sampler): a recipe that was killed goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn

from lit_restore.errors import check_at_least
from lit_restore.models.generator import seeded_noise
from lit_restore.training.optim import OptimizerConfig, build_optimizer, learning_rate, set_learning_rate
from lit_restore.types import RestorationBatch


def all_faces(batch: RestorationBatch) -> torch.Tensor:
    """Every clean face of a batch, targets and references: (F, 3, H, W) in [-1, 1]."""
    references = batch["references"][batch["reference_mask"]]
    return torch.cat([batch["hq"], references])


class PretrainingModule(LightningModule, ABC):
    """Manual optimisation of one network with an exponential moving average of its weights.

    Subclasses call `track` and implement `loss` and `export`.

    Args:
        output: folder the averaged network is written to when training ends.
        ema_decay: of the moving average; its window is about 1 / (1 - decay) iterations.
        seed: of what is drawn while training; the start of the network is Lightning's ``seed_everything``.
    """

    network: nn.Module

    def __init__(
        self, output: str, optimizer: OptimizerConfig, max_iterations: int, ema_decay: float, seed: int = 0
    ) -> None:
        super().__init__()
        check_at_least(1, "model", max_iterations=max_iterations)
        self.automatic_optimization = False
        self.output = Path(output)
        self.optimizer_config = optimizer
        self.max_iterations = max_iterations
        self.ema_decay = ema_decay
        self.seed = seed
        self.iteration = 0

    def track(self, network: nn.Module) -> None:
        """Declare the network to train and start its average."""
        self.network = network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(network).requires_grad_(False).eval()

    def noise(self, purpose: str, like: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of this iteration, of the shape, kind and place of ``like``."""
        return seeded_noise(self.seed, "pretraining", self.iteration, self.global_rank)(purpose, like.shape).to(like)

    def draws(self, *purpose: object) -> random.Random:
        """A source of this iteration's single numbers, the same on all devices."""
        return random.Random(repr((self.seed, "pretraining", self.iteration, *purpose)))

    @abstractmethod
    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The value to minimise and what to log beside it."""

    @abstractmethod
    def export(self, network: nn.Module, folder: Path) -> None:
        """Write the trained network."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer((p for p in self.parameters() if p.requires_grad), self.optimizer_config)

    def training_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        optimizer = self.optimizers()
        set_learning_rate(
            optimizer.optimizer, learning_rate(self.optimizer_config, self.iteration, self.max_iterations)
        )
        value, terms = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(value)
        if self.optimizer_config.clip_norm > 0:
            nn.utils.clip_grad_norm_((p for p in self.parameters() if p.requires_grad), self.optimizer_config.clip_norm)
        optimizer.step()
        self.iteration += 1
        self.trainer.should_stop = self.trainer.should_stop or self.iteration >= self.max_iterations
        self._update_average()
        self.log_dict({f"train/{name}": v for name, v in terms.items()}, prog_bar=True)

    @torch.no_grad()
    def _update_average(self) -> None:
        # The decay grows with the iterations, so that the first, random weights are soon forgotten.
        decay = min(self.ema_decay, (1 + self.iteration) / (10 + self.iteration))
        for average, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
        for average, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
            average.copy_(current)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["iteration"] = self.iteration

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.iteration = checkpoint["iteration"]

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero and self.iteration >= self.max_iterations:
            self.export(self.average, self.output)
