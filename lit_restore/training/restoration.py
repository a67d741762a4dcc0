"""Train the one-step restorer: two players take turns on every batch.

    generator       minimises  L(G(x), y)                                    see `lit_restore.losses.composite`
    discriminator   minimises  w_adv L_D(y, G(x)),   G(x) without gradient   see `lit_restore.losses.adversarial`

Both gradients of an update are computed before either player moves, on the same batches and the same G(x); the
discriminator is a fixed function in the generator's turn and the other way round. Nothing moves if anything is not
finite.

Everything random is a pure function of (seed, iteration, position of the photo in the update): noise level, noise,
posterior sample, augmentation; and so is the data (see the sampler). A resumed run needs only weights, optimiser states
and the iteration number, and how the photos of an update are divided into devices, accumulated batches and photos per
batch does not matter for their noise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm

from lit_restore.errors import UserError, check_at_least
from lit_restore.losses.adversarial import discriminator_loss
from lit_restore.losses.composite import LossConfig, RestorationLoss
from lit_restore.losses.landmark_attention import SupervisionProbe
from lit_restore.models.artifact import load_weights
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.discriminator import Discriminator
from lit_restore.models.generator import Draw, GeneratorConfig, OneStepGenerator, fixed_noise, seeded_noise
from lit_restore.training import ranks
from lit_restore.training.average import WeightAverage
from lit_restore.training.non_finite import NonFiniteGuard
from lit_restore.training.optim import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    gradient_norm,
    learning_rate,
    set_learning_rate,
)
from lit_restore.types import RestorationBatch

CHECKPOINT_KEY = "lit_restore"
POWER_ITERATIONS = 15  # before the first step, as in torch's newer spectral normalisation


class RestorationModule(LightningModule):
    """The generator, its losses, its opponent, and one optimisation step.

    Args:
        generator: what to train; see `GeneratorConfig`.
        init: start from the trained weights of another run: a model folder, a run folder, a ``.ckpt`` file, or what
            ``lit_restore convert`` made of an official checkpoint.
        losses: weights of the loss terms and what they need.
        optimizer: AdamW and its schedule.
        discriminator_optimizer: the discriminator's; null = the same settings.
        max_iterations: generator updates of the whole training, whatever Lightning counts.
        accumulate: batches per update.
        ema_decay: validate, restore and export with an average of the weights over about 1 / (1 - ema_decay)
            iterations; 0 = with the last weights, as paper and official code.
        gradient_checkpointing: compute activations a second time instead of keeping them: less memory, same gradients.
        compat_leaked_gradient: a defect of the official code (instantrestore.md, D3): the discriminator also gets the
            gradient of the generator's adversarial loss, which tells it to believe restored images.
        seed: of noise levels, noise, augmentation and the start of what is trained.
    """

    def __init__(
        self,
        generator: GeneratorConfig = GeneratorConfig(),
        init: str | None = None,
        losses: LossConfig = LossConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        discriminator_optimizer: OptimizerConfig | None = None,
        max_iterations: int = 50_000,
        accumulate: int = 1,
        ema_decay: float = 0.0,
        gradient_checkpointing: bool = False,
        compat_leaked_gradient: bool = False,
        seed: int = 42,
    ) -> None:
        super().__init__()
        check_at_least(1, "model", max_iterations=max_iterations, accumulate=accumulate)
        # Two players take turns on one batch, so the loop below decides who steps when.
        self.automatic_optimization = False
        self.strict_loading = False  # frozen weights are not in the checkpoint; `on_load_checkpoint` checks the rest
        self.generator = OneStepGenerator(generator, seed=seed)
        if init is not None:
            load_weights(self.generator, init)
        if gradient_checkpointing:
            self.generator.unet.enable_gradient_checkpointing()
            self.generator.vae.enable_gradient_checkpointing()
        self.loss = RestorationLoss(losses, self.generator.shared_layers)
        self.adversarial_config = losses.adversarial
        self.discriminator = None
        if losses.adversarial.weight > 0:
            self.discriminator = Discriminator(losses.adversarial, seed=seed)
            _settle(self.discriminator)
        self._trained: dict[str, nn.Parameter] = {}
        for part, adaptation in self.generator.adaptations.items():
            parameters = dict(adaptation.network.named_parameters())
            self._trained |= {f"{part}.{name}": parameters[name] for name in adaptation.names}
        self.average = WeightAverage(self._trained, ema_decay) if ema_decay else None
        self.optimizer_config = optimizer
        self.discriminator_optimizer_config = discriminator_optimizer or optimizer
        self.max_iterations = max_iterations
        self.accumulate = accumulate
        self.compat_leaked_gradient = compat_leaked_gradient
        self.seed = seed
        self.iteration = 0
        self._micro_batch = 0
        self._batches_per_update = accumulate
        self._values: list[dict[str, torch.Tensor]] = []
        self._guard = NonFiniteGuard()

    # --- who owns what --------------------------------------------------------------------------------------------

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the generator's optimiser owns."""
        return list(self._trained.values())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [build_optimizer(self.trained_parameters(), self.optimizer_config)]
        if self.discriminator is not None:
            parameters = self.discriminator.trained_parameters()
            optimizers.append(build_optimizer(parameters, self.discriminator_optimizer_config))
        return optimizers

    @property
    def identity_network_fingerprint(self) -> str | None:
        """Which recognition weights the identity loss trains with, so that evaluation can use others."""
        return None if self.loss.identity is None else self.loss.identity.fingerprint

    def setup(self, stage: str) -> None:
        if stage == "fit":
            ranks.prepare(self, self.trainer)
            # A trial run of a few batches should get as far as an update.
            self._batches_per_update = min(self.accumulate, self.trainer.fast_dev_run or self.accumulate)

    def on_train_start(self) -> None:
        self._micro_batch, self._values = 0, []
        self.zero_grad()  # an earlier training may have been stopped in the middle of an update
        ranks.broadcast(self.state_dict().values())

    # --- one batch ------------------------------------------------------------------------------------------------

    def training_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        with ranks.local_gradients(self.trainer):
            restored, values = self._generator_turn(batch)
            norms = {"gradient norm": gradient_norm(self.trained_parameters())}
            if self.discriminator is not None:
                values |= self._discriminator_turn(batch, restored)
                norms["discriminator's gradient norm"] = gradient_norm(self.discriminator.trained_parameters())
        self._guard.watch(batch, self._micro_batch, values, {} if self._may_overflow else norms)
        self._values.append(values)
        self._micro_batch += 1
        if self._micro_batch == self._batches_per_update:
            self._update()
        # Lightning counts batches here, and gives the count to loggers as x axis of whatever callbacks log.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.iteration

    def _generator_turn(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Add to the generator's gradient; G(x) without gradient, and what to log."""
        draws = [self._random("supervision", position) for position in self._positions(len(batch["lq"]))]
        probe = self.loss.landmark_attention.probe(batch, draws)
        restored = self.restore_for_training(batch, probe).float()
        logits = None
        if self.discriminator is not None:
            with _fixed(self.discriminator, leak=self.compat_leaked_gradient):
                logits = self.discriminator(restored, self._torch_random("augmentation"))
        total, terms = self.loss(
            restored, batch["hq"], batch["landmarks"], batch["landmark_mask"], probe=probe, logits=logits
        )
        self.manual_backward(total / self._batches_per_update)
        return restored.detach(), {"loss": total.detach()} | {f"loss/{name}": value for name, value in terms.items()}

    def _discriminator_turn(self, batch: RestorationBatch, restored: torch.Tensor) -> dict[str, torch.Tensor]:
        """Add to the discriminator's gradient; what to log."""
        draws = self._torch_random("discriminator's augmentation")
        real = self.discriminator(batch["hq"], draws)
        fake = self.discriminator(restored, draws)
        value = discriminator_loss(real, fake, self.adversarial_config.form)
        self.manual_backward(self.adversarial_config.weight * value / self._batches_per_update)
        return {
            "discriminator/loss": value.detach(),
            "discriminator/belief_real": _belief(real),
            "discriminator/belief_restored": _belief(fake),
        }

    def restore_for_training(self, batch: RestorationBatch, probe: SupervisionProbe | None = None) -> torch.Tensor:
        """One forward pass at randomly drawn noise levels (paper, appendix A)."""
        steps = self.generator.config.train_timesteps
        photos = self._positions(len(batch["lq"]))
        timesteps = [self._random("timestep", position).choice(steps) for position in photos]
        return self.generator(
            batch["lq"],
            batch["references"],
            batch["reference_mask"],
            timestep=torch.tensor(timesteps, device=self.device),
            draw=self._noise(photos),
            sample_posterior=True,
            probe=probe,
        )

    def _positions(self, num_photos: int) -> list[int]:
        """Where the photos of this batch stand among those of the whole update, as the sampler deals them out."""
        first = self._micro_batch * num_photos
        return [(first + index) * ranks.count() + self.global_rank for index in range(num_photos)]

    def _noise(self, photos: list[int]) -> Draw:
        """Noise of each photo, and of each of its references, for itself."""

        def draw(name: str, shape: torch.Size) -> torch.Tensor:
            rows = shape[0] // len(photos)
            noise = [
                seeded_noise(self.seed, "train", self.iteration, position, row)(name, shape[1:])
                for position in photos
                for row in range(rows)
            ]
            return torch.stack(noise).to(self.device)

        return draw

    def _random(self, *purpose: object) -> random.Random:
        return random.Random(repr((self.seed, "train", self.iteration, *purpose)))

    def _torch_random(self, purpose: str) -> torch.Generator:
        seed = self._random(purpose, self._micro_batch, self.global_rank).getrandbits(63)
        return torch.Generator().manual_seed(seed)

    # --- one update -----------------------------------------------------------------------------------------------

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The loss scaler, with trainer.precision 16-mixed."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    @property
    def _may_overflow(self) -> bool:
        """Under fp16 overflowing gradients are nothing unusual: the scaler skips the step and lowers the scale.

        Where there is nothing left to lower, it is not the scale's fault.
        """
        return self._scaler is not None and self._scaler.get_scale() >= 1

    def _update(self) -> None:
        """Both players move."""
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        configs = [self.optimizer_config, self.discriminator_optimizer_config]
        scale = self._scaler.get_scale() if self._scaler is not None else 1.0
        players = []
        for optimizer, config in zip(optimizers, configs, strict=False):
            parameters = optimizer.param_groups[0]["params"]
            ranks.average_gradients(parameters)
            norm = gradient_norm(parameters) / scale
            rate = learning_rate(config, self.iteration, self.max_iterations)
            set_learning_rate(optimizer.optimizer, rate)
            players.append((optimizer, config, norm, rate))
        means = self._means()
        self._check_finite(means, [norm for _, _, norm, _ in players])
        for optimizer, config, norm, _ in players:
            clip_gradients(optimizer.param_groups[0]["params"], config, norm)
        self._step(*((optimizer, norm) for optimizer, _, norm, _ in players))
        self._micro_batch, self._values = 0, []
        self._guard.forget()
        self.iteration += 1
        if self.average is not None:
            self.average.update(self.iteration)
        if ranks.count() > 1:
            ranks.check_equal(self.state_dict().values(), self.iteration)
        for prefix, (_, _, norm, rate) in zip(("train", "train/discriminator"), players, strict=False):
            means |= {f"{prefix}/gradient_norm": norm.item(), f"{prefix}/learning_rate": rate}
        self._log(means)
        self.trainer.should_stop = self.trainer.should_stop or self.iteration >= self.max_iterations

    def _means(self) -> dict[str, float]:
        """What to log, averaged over the batches of the update and over ranks."""
        names = list(self._values[0])
        table = torch.stack([torch.stack([values[name].float() for name in names]) for values in self._values])
        return {f"train/{name}": v for name, v in zip(names, ranks.mean(table.mean(0)).tolist(), strict=True)}

    def _check_finite(self, means: dict[str, float], norms: list[torch.Tensor]) -> None:
        """Stop on all ranks alike: by now the losses and gradients of each have reached all."""
        finite = bool(torch.isfinite(torch.tensor(list(means.values()))).all())
        if finite and (self._may_overflow or all(bool(torch.isfinite(norm)) for norm in norms)):
            return
        self._guard.stop(
            Path(self.trainer.default_root_dir),
            iteration=self.iteration,
            rank=self.global_rank,
            seed=self.seed,
            what="gradient" if finite else "loss",
        )

    def _step(self, generator: tuple[Any, torch.Tensor], *discriminator: tuple[Any, torch.Tensor]) -> None:
        """Apply the gradients and forget them."""
        for optimizer, _ in discriminator:
            if self._scaler is not None:  # before the generator's step, which may change the scale
                self._scaler.unscale_(optimizer.optimizer)
        generator[0].step()
        for optimizer, norm in discriminator:
            if bool(torch.isfinite(norm)):
                # Not through Lightning, whose global_step counts every step: it should count iterations.
                optimizer.optimizer.step()
        for optimizer, _ in (generator, *discriminator):
            optimizer.zero_grad()

    def _log(self, values: dict[str, float]) -> None:
        """To the progress bar and to callbacks every iteration, to loggers as often as they want it."""
        self.log("train/loss", values["train/loss"], prog_bar=True, logger=False)
        self.log_dict({name: value for name, value in values.items() if name != "train/loss"}, logger=False)
        every = self.trainer.log_every_n_steps
        if every and (self.iteration % every == 0 or self.iteration == self.max_iterations):
            for logger in self.loggers:
                logger.log_metrics(values, step=self.iteration)
                logger.save()

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients: Lightning would drop those of an update whose batches a validation interrupts."""

    # --- restoring ------------------------------------------------------------------------------------------------

    def averaged_weights(self) -> AbstractContextManager:
        """Within the block the generator has the weights that restore and are exported: their average, if there is."""
        return self.average.in_place() if self.average is not None else nullcontext()

    def restore(
        self,
        batch: RestorationBatch,
        num_references: int | None = None,
        draw: Draw | None = None,
        probe: AttentionProbe | None = None,
    ) -> torch.Tensor:
        """Restore a batch as at inference, with at most ``num_references`` references; (B, 3, H, W) in [-1, 1]."""
        with self.averaged_weights():
            return self.generator(
                batch["lq"],
                batch["references"][:, :num_references],
                batch["reference_mask"][:, :num_references],
                draw=draw or fixed_noise(device=self.device),
                probe=probe,
            )

    def validation_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    def test_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    def predict_step(self, batch: RestorationBatch, batch_idx: int) -> torch.Tensor:
        return self.restore(batch)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Only what is trained: ``unet.*``, ``vae.*`` (diffusers/peft names), ``discriminator.*``, ``average.*``."""
        state = {name: parameter.detach() for name, parameter in self._trained.items()}
        for part in ("discriminator", "average"):
            module = getattr(self, part)
            if module is not None:
                state |= {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
        return state

    def load_state_dict(self, state_dict: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:
        """Load what `state_dict` gave.

        A discriminator or an average that the checkpoint does not have begins here, one that the configuration does
        not have is left out: so a training can begin without and go on with the game.
        """
        parts = {part: _part(state_dict, part) for part in ("unet", "vae", "discriminator", "average")}
        for part, adaptation in self.generator.adaptations.items():
            adaptation.load_state_dict(parts[part], where=f"checkpoint, {part}")
        if self.discriminator is not None and parts["discriminator"]:
            self.discriminator.load_state_dict(parts["discriminator"])
        if self.average is not None and parts["average"]:
            self.average.load_state_dict(parts["average"])
        elif self.average is not None:
            self.average.restart()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CHECKPOINT_KEY] = {
            "iteration": self.iteration,
            "generator": asdict(self.generator.config),
            "base_fingerprint": self.generator.base_fingerprint,
            "discriminator_backbone": self._backbone_fingerprint,
        }

    @property
    def _backbone_fingerprint(self) -> str | None:
        """Which frozen network the discriminator's heads look through; None where nothing depends on it."""
        if self.discriminator is None or self.adversarial_config.train_backbone:
            return None
        return self.discriminator.backbone_fingerprint

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
        theirs, mine = saved.get("discriminator_backbone"), self._backbone_fingerprint
        if theirs and mine and theirs != mine:
            raise UserError(
                "the checkpoint's discriminator looks through another network",
                expected=theirs,
                found=f"{mine}, {self.adversarial_config.backbone}",
                fix="Set model.losses.adversarial.backbone to the network it was trained with.",
            )
        self.iteration = saved["iteration"]


@contextmanager
def _fixed(network: Discriminator, leak: bool) -> Iterator[None]:
    """Within the block the network is a fixed function: no buffer changes and, unless leaked, no gradient."""
    trained = [] if leak else network.trained_parameters()
    network.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        network.train()
        for parameter in trained:
            parameter.requires_grad_(True)


@torch.no_grad()
def _settle(network: nn.Module) -> None:
    """Let spectral normalisation find the singular values it divides by.

    Its vectors start at random and are only improved in the discriminator's turn, which comes second.
    """
    for layer in network.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                for _ in range(POWER_ITERATIONS):
                    hook.compute_weight(layer, do_power_iteration=True)


def _belief(logits: list[torch.Tensor]) -> torch.Tensor:
    """The mean probability, over levels, of being real."""
    return torch.stack([level.detach().sigmoid().mean() for level in logits]).mean()


def _part(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
