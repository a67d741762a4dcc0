"""Train the one-step restorer.

Everything random in a step (noise level, noise, posterior sample) is a pure function of (seed, iteration), and so is
the data (see the sampler); what a resumed run needs is only weights, optimiser state and the iteration number.
"""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn

from lit_restore.errors import UserError
from lit_restore.losses.composite import LossConfig, RestorationLoss
from lit_restore.models.generator import Draw, GeneratorConfig, OneStepGenerator, fixed_noise, seeded_noise
from lit_restore.training.optim import OptimizerConfig, build_optimizer, learning_rate, set_learning_rate
from lit_restore.types import RestorationBatch

CHECKPOINT_KEY = "lit_restore"


class RestorationModule(LightningModule):
    """The generator, its losses and one optimisation step.

    Args:
        generator: what to train; see `GeneratorConfig`.
        losses: weights of the reconstruction terms.
        optimizer: AdamW and its schedule.
        max_iterations: generator updates of the whole training, whatever Lightning counts.
        accumulate: batches per update.
        seed: of noise levels, noise and the start of the LoRA matrices.
    """

    def __init__(
        self,
        generator: GeneratorConfig = GeneratorConfig(),
        losses: LossConfig = LossConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        max_iterations: int = 50_000,
        accumulate: int = 1,
        seed: int = 42,
    ) -> None:
        super().__init__()
        # Two players take turns on one batch, so the loop below decides who steps when.
        self.automatic_optimization = False
        self.strict_loading = False  # frozen weights are not in the checkpoint; `on_load_checkpoint` checks the rest
        self.generator = OneStepGenerator(generator, seed=seed)
        self.reconstruction_loss = RestorationLoss(losses)
        self.optimizer_config = optimizer
        self.max_iterations = max_iterations
        self.accumulate = accumulate
        self.seed = seed
        self.iteration = 0
        self._micro_batch = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.trained_parameters(), self.optimizer_config)

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the generator's optimiser owns."""
        return [p for p in self.generator.parameters() if p.requires_grad]

    def training_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        restored = self.restore_for_training(batch)
        total, terms = self.reconstruction_loss(restored, batch["hq"])
        if not torch.isfinite(total):
            raise UserError(
                "the loss is not finite",
                where=f"iteration {self.iteration}, photos {', '.join(batch['key'])}",
                found={name: float(value) for name, value in terms.items()},
                fix="Weights before this step are intact in the last checkpoint; lower the learning rate or check "
                "these photos.",
            )
        self.manual_backward(total / self.accumulate)
        self._micro_batch += 1
        if self._micro_batch == self.accumulate:
            self._update()
        self.log("train/loss", total.detach(), prog_bar=True)
        self.log_dict({f"train/loss/{name}": value for name, value in terms.items()})

    def restore_for_training(self, batch: RestorationBatch) -> torch.Tensor:
        """One forward pass at a randomly drawn noise level (paper, section 3.4)."""
        context = ("train", self.iteration, self._micro_batch, self.global_rank)
        steps = self.generator.config.train_timesteps
        timestep = random.Random(repr((self.seed, *context))).choice(steps)
        return self.generator(
            batch["lq"],
            batch["references"],
            batch["reference_mask"],
            timestep=timestep,
            draw=seeded_noise(self.seed, *context, device=self.device),
            sample_posterior=True,
        )

    def _update(self) -> None:
        optimizer = self.optimizers()
        rate = learning_rate(self.optimizer_config, self.iteration, self.max_iterations)
        set_learning_rate(optimizer.optimizer, rate)
        optimizer.step()
        optimizer.zero_grad()
        self._micro_batch = 0
        self.iteration += 1
        self.trainer.should_stop = self.trainer.should_stop or self.iteration >= self.max_iterations

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; here, because under fp16 it is still scaled before."""
        parameters = self.trained_parameters()
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        skips_by_itself = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not torch.isfinite(norm) and not skips_by_itself:
            raise UserError(
                "the gradient is not finite",
                where=f"iteration {self.iteration}",
                fix="Weights before this step are intact in the last checkpoint; lower the learning rate.",
            )
        if self.optimizer_config.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.optimizer_config.clip_norm, norm)
        self.log("train/gradient_norm", norm)

    def restore(
        self, batch: RestorationBatch, num_references: int | None = None, draw: Draw | None = None
    ) -> torch.Tensor:
        """Restore a batch as at inference, with at most ``num_references`` references; (B, 3, H, W) in [-1, 1]."""
        return self.generator(
            batch["lq"],
            batch["references"][:, :num_references],
            batch["reference_mask"][:, :num_references],
            draw=draw or fixed_noise(device=self.device),
        )

    def validation_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    def test_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    def predict_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Only what is trained: ``unet.*`` and ``vae.*`` in diffusers/peft names."""
        return {
            f"{part}.{name}": tensor
            for part, adaptation in self.generator.adaptations.items()
            for name, tensor in adaptation.state_dict().items()
        }

    def load_state_dict(self, state_dict: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:
        for part, adaptation in self.generator.adaptations.items():
            prefix = f"{part}."
            own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
            adaptation.load_state_dict(own, where=f"checkpoint, {part}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CHECKPOINT_KEY] = {
            "iteration": self.iteration,
            "generator": asdict(self.generator.config),
            "base_fingerprint": self.generator.base_fingerprint,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None:
            raise UserError("not a checkpoint of lit_restore's restoration training", expected=CHECKPOINT_KEY)
        if saved["base_fingerprint"] != self.generator.base_fingerprint:
            raise UserError(
                "the checkpoint belongs to another base",
                expected=f"{saved['generator']['base']} ({saved['base_fingerprint']})",
                found=f"{self.generator.config.base} ({self.generator.base_fingerprint})",
                fix="Set model.generator.base to the base the checkpoint was trained on.",
            )
        self.iteration = saved["iteration"]
