"""A training of a few 64 px iterations; run as a script it is a training that gets killed.

python small_training.py BASE CACHE FACE_NETWORK RUN_FOLDER BATCH
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from lit_restore.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.data.synthetic_folder import SyntheticPeople
from lit_restore.losses.composite import LossConfig
from lit_restore.losses.identity import IdentityConfig
from lit_restore.losses.landmark_attention import LandmarkAttentionConfig
from lit_restore.models.discriminator import AdversarialConfig
from lit_restore.models.generator import GeneratorConfig
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.restoration import RestorationModule

PEOPLE = SyntheticPeople(identities=6, images_per_identity=3, seed=1)


def learner(base: Path, *, max_iterations: int = 4, **changes: Any) -> RestorationModule:
    generator = {"size_px": 64, "lora_rank_unet": 4, "lora_rank_vae": 4, "train_timesteps": [249, 499]}
    generator |= changes.pop("generator", {})
    options: dict[str, Any] = {
        "losses": LossConfig(l1=1.0, ms_ssim=0.5, lpips=0.0),
        "optimizer": OptimizerConfig(learning_rate=2e-3, schedule="cosine", warmup_iterations=2),
        "seed": 3,
    }
    return RestorationModule(
        GeneratorConfig(base=str(base), **generator), max_iterations=max_iterations, **(options | changes)
    )


def all_losses(recognition: Path | str, **adversarial: Any) -> LossConfig:
    """Every term on, with one small network as identity network and as backbone of the discriminator."""
    return LossConfig(
        l1=1.0,
        ms_ssim=0.5,
        lpips=0.0,
        identity=IdentityConfig(weight=1.0, network=str(recognition)),
        landmark_attention=LandmarkAttentionConfig(weight=50.0),
        adversarial=AdversarialConfig(**({"weight": 0.5, "backbone": str(recognition)} | adversarial)),
    )


def game(base: Path, face_network: Path, **changes: Any) -> RestorationModule:
    """All there is to resume: two players with schedules of their own, two batches per update, averaged weights."""
    options = {"losses": all_losses(face_network), "accumulate": 2, "ema_decay": 0.9}
    options["discriminator_optimizer"] = OptimizerConfig(learning_rate=1e-3, warmup_iterations=3)
    return learner(base, **(options | changes))


def people(cache: Path, **changes: Any) -> RestorationDataModule:
    options = {"size_px": 64, "batch_size": 2, "eval_batch_size": 2, "max_references": 2, "num_workers": 0}
    options |= {"scale_degradation": True, "zero_reference_probability": 0.3}
    return RestorationDataModule(synthetic=PEOPLE, cache_dir=str(cache), **(options | changes))


CONFIG = """\
# The game as a configuration file.
seed_everything: 7
model:
  class_path: RestorationModule
  init_args:
    generator: {{base: {base}, size_px: 64, lora_rank_unet: 4, lora_rank_vae: 4}}
    losses:
      l1: 1.0
      ms_ssim: 0.5
      lpips: 0.0
      identity: {{weight: 1.0, network: {face_network}}}
      landmark_attention: {{weight: 50.0, layers: sample, references: sample}}
      adversarial: {{weight: 0.5, backbone: {face_network}}}
    optimizer: {{learning_rate: 1.0e-3, schedule: cosine, warmup_iterations: 3}}
    discriminator_optimizer: {{learning_rate: 2.0e-3}}
    max_iterations: 6
    accumulate: 2
    ema_decay: 0.9
    seed: ${{seed_everything}}
data:
  size_px: 64
  synthetic: {{identities: 6, images_per_identity: 3, seed: 7}}
  split: {{val: 1, test: 1}}
  scale_degradation: true
  max_references: 2
  zero_reference_probability: 0.3
  batch_size: 1
  eval_batch_size: 2
  num_workers: 0
  cache_dir: {cache}
checkpoints: {{every_iterations: 1}}
trainer:
  accelerator: cpu
  limit_val_batches: 1
  val_check_interval: 3
  log_every_n_steps: 1
  logger:
    class_path: CSVLogger
    init_args: {{save_dir: "${{trainer.default_root_dir}}", name: log, flush_logs_every_n_steps: 1}}
"""


class Losses(Callback):
    """Every iteration's loss, as it was computed; with a discriminator the sum of both."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.iteration = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.iteration = pl_module.iteration

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if pl_module.iteration > self.iteration:
            self.iteration = pl_module.iteration
            logged = trainer.callback_metrics
            self.values.append(float(logged["train/loss"]) + float(logged.get("train/discriminator/loss", 0)))


class Updates(Callback):
    """Learning rate and gradient of every update of one player, as the optimiser used them."""

    def __init__(self, player: int = 0) -> None:
        self.player = player

    def on_train_start(self, trainer, pl_module) -> None:
        self.rates: list[float] = []
        self.gradients: list[list[torch.Tensor]] = []
        trainer.optimizers[self.player].register_step_post_hook(self._record)

    def _record(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.gradients.append([p.grad.clone() for p in optimizer.param_groups[0]["params"] if p.grad is not None])

    def norms(self) -> list[float]:
        return [torch.nn.utils.get_total_norm(gradients).item() for gradients in self.gradients]


class Kill(Callback):
    """Pull the plug before a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer(folder: Path, *callbacks: Callback, every: int = 100, **options: Any) -> Trainer:
    values: dict[str, Any] = {"max_epochs": 1, "limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": False}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[Checkpoints(every), *callbacks],
        plugins=[AtomicCheckpointIO(), *options.pop("plugins", [])],
        enable_progress_bar=False,
        enable_model_summary=False,
        **(values | options),
    )


def fit(
    folder: Path, module: RestorationModule, data: RestorationDataModule, *callbacks: Callback, **options: Any
) -> list[float]:
    """Train; the loss of every iteration."""
    losses, resumed = Losses(), options.pop("ckpt_path", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(folder, losses, *callbacks, **options).fit(
            module, data, ckpt_path=resumed and str(resumed), weights_only=True if resumed else None
        )
    return losses.values


if __name__ == "__main__":
    base, cache, face_network, folder = map(Path, sys.argv[1:5])
    fit(folder, game(base, face_network), people(cache), Kill(int(sys.argv[5])), every=2)
