"""Generator and discriminator take turns: who changes what, and with which gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.plugins import MixedPrecision
from small_training import Updates, all_losses, fit, learner, people

from lit_restore.callbacks.checkpoints import last_checkpoint
from lit_restore.errors import UserError
from lit_restore.losses.adversarial import discriminator_loss, generator_loss
from lit_restore.losses.composite import LossConfig
from lit_restore.losses.identity import IdentityConfig
from lit_restore.losses.landmark_attention import LandmarkAttentionConfig
from lit_restore.models.discriminator import AdversarialConfig
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.restoration import RestorationModule

State = dict[str, torch.Tensor]


def state(module: RestorationModule) -> State:
    """Weights, buffers and gradients of everything that is trained."""
    values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for prefix, network in (("", module.generator), ("discriminator.", module.discriminator)):
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                values[f"{prefix}{name} gradient"] = parameter.grad.clone()
    return values


def changed(before: State, after: State) -> set[str]:
    names = before.keys() | after.keys()
    return {n for n in names if n not in before or n not in after or not torch.equal(before[n], after[n])}


class Turns(Callback):
    """What each turn and each step changed in the first two iterations, and the first batch."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, set[str]]] = []
        self.batches: list[Any] = []

    def on_train_start(self, trainer, pl_module: RestorationModule) -> None:
        for name in ("_generator_turn", "_discriminator_turn"):
            setattr(pl_module, name, self._watched(pl_module, name, getattr(pl_module, name)))
        for name, optimizer in zip(("generator", "discriminator"), trainer.optimizers, strict=True):
            optimizer.register_step_pre_hook(lambda *_: self._remember(pl_module))
            optimizer.register_step_post_hook(lambda *_, name=name: self._compare(f"{name} step", pl_module))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        self.batches.append(batch)

    def _watched(self, module: RestorationModule, name: str, turn):
        def watched(*arguments):
            self._remember(module)
            result = turn(*arguments)
            self._compare(name, module)
            return result

        return watched

    def _remember(self, module: RestorationModule) -> None:
        self.before = state(module)

    def _compare(self, name: str, module: RestorationModule) -> None:
        self.changes.append((name, changed(self.before, state(module))))


@pytest.fixture(scope="module")
def turns(tiny_base: Path, people_cache: Path, face_network: Path, tmp_path_factory) -> list[tuple[str, set[str]]]:
    watch, losses = Turns(), all_losses(face_network)
    fit(
        tmp_path_factory.mktemp("turns"),
        learner(tiny_base, losses=losses, max_iterations=2),
        people(people_cache),
        watch,
    )
    return watch.changes


def test_both_turns_come_before_both_steps(turns) -> None:
    order = ["_generator_turn", "_discriminator_turn", "generator step", "discriminator step"]
    assert [name for name, _ in turns] == 2 * order


def test_the_generator_s_turn_leaves_the_discriminator_bit_for_bit(turns) -> None:
    for name, names in turns:
        if name == "_generator_turn":
            assert names
            assert all(n.startswith(("unet.", "vae.")) and n.endswith(" gradient") for n in names)
        if name == "generator step":
            assert names
            assert all(n.startswith(("unet.", "vae.")) and not n.endswith(" gradient") for n in names)


def test_the_discriminator_s_turn_leaves_the_generator_bit_for_bit(turns) -> None:
    for name, names in turns:
        if name == "_discriminator_turn":
            assert any(n.endswith(" gradient") for n in names)
            rest = {n for n in names if not n.endswith(" gradient")}
            assert rest
            assert all(n.endswith(("weight_u", "weight_v")) for n in rest)  # the power iteration
        if name == "discriminator step":
            assert not {n for n in names if n.endswith((" gradient", "weight_u", "weight_v"))}
        if "discriminator" in name:
            assert all(n.startswith("discriminator.") for n in names)


class Gradients(Callback):
    """The discriminator's gradient of the first update, as it is before clipping, and what it was computed from."""

    def on_train_batch_start(self, trainer, pl_module: RestorationModule, batch, batch_idx: int) -> None:
        self.weights = {name: tensor.clone() for name, tensor in pl_module.discriminator.state_dict().items()}
        self.batch = batch

    def on_train_start(self, trainer, pl_module: RestorationModule) -> None:
        turn = pl_module._discriminator_turn

        def watched(batch, restored):
            result = turn(batch, restored)
            self.restored = restored
            self.gradient = [p.grad.clone() for p in pl_module.discriminator.trained_parameters()]
            return result

        pl_module._discriminator_turn = watched


def discriminator_gradient(
    tiny_base, people_cache, face_network, folder, **options
) -> tuple[Gradients, RestorationModule]:
    watch = Gradients()
    losses = all_losses(face_network, form="multilevel_sigmoid")
    module = learner(tiny_base, losses=losses, max_iterations=1, **options)
    fit(folder, module, people(people_cache), watch)
    module.discriminator.load_state_dict(watch.weights)
    module.discriminator.zero_grad()
    module.iteration = module._micro_batch = 0
    return watch, module


def gradient_of(loss: torch.Tensor, module: RestorationModule) -> list[torch.Tensor]:
    return torch.autograd.grad(loss, module.discriminator.trained_parameters())


def test_the_discriminator_s_gradient_is_that_of_its_own_loss(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    watch, module = discriminator_gradient(tiny_base, people_cache, face_network, tmp_path)
    draws = module._torch_random("discriminator's augmentation")
    logits = [module.discriminator(images, draws) for images in (watch.batch["hq"], watch.restored)]
    expected = gradient_of(0.5 * discriminator_loss(*logits, "multilevel_sigmoid"), module)
    assert all(torch.equal(found, value) for found, value in zip(watch.gradient, expected, strict=True))


def test_the_official_leak_adds_exactly_the_generator_s_gradient(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    clean, _ = discriminator_gradient(tiny_base, people_cache, face_network, tmp_path / "clean")
    leaked, module = discriminator_gradient(
        tiny_base, people_cache, face_network, tmp_path / "leaked", compat_leaked_gradient=True
    )
    assert torch.equal(leaked.restored, clean.restored)
    logits = module.discriminator.eval()(leaked.restored, module._torch_random("augmentation"))
    generator = gradient_of(0.5 * generator_loss(logits, "multilevel_sigmoid"), module)
    assert any(gradient.any() for gradient in generator)
    for found, own, other in zip(leaked.gradient, clean.gradient, generator, strict=True):
        assert torch.equal(found, own + other)


def test_the_generator_s_loss_is_the_weighted_sum_of_its_terms(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    module = learner(tiny_base, losses=all_losses(face_network), max_iterations=1)
    fit(tmp_path, module, people(people_cache, zero_reference_probability=0.0))
    logged = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
    weights = {"l1": 1, "ms_ssim": 0.5, "identity": 1, "landmark_attention": 50, "adversarial": 0.5}
    terms = {name: logged[f"train/loss/{name}"] for name in weights}
    assert all(terms.values())
    assert logged["train/loss"] == pytest.approx(sum(weights[name] * terms[name] for name in weights), rel=1e-5)
    assert {name for name in logged if name.startswith("train/loss/")} == {f"train/loss/{name}" for name in weights}
    assert 0 < logged["train/discriminator/belief_restored"] < 1


def test_weight_zero_loads_nothing(tiny_base: Path) -> None:
    losses = LossConfig(
        lpips=0.0,
        lpips_weights="nowhere.pth",
        identity=IdentityConfig(network="nowhere"),
        landmark_attention=LandmarkAttentionConfig(),
        adversarial=AdversarialConfig(backbone="nowhere"),
    )
    module = learner(tiny_base, losses=losses)
    assert (module.discriminator, module.loss.identity, module.loss.lpips) == (None, None, None)
    assert module.identity_network_fingerprint is None
    assert len(module.configure_optimizers()) == 1


@pytest.mark.parametrize(
    "losses",
    [
        {"lpips": 5.0, "lpips_weights": "nowhere.pth"},
        {"identity": IdentityConfig(weight=1.0, network="/nowhere")},
        {"adversarial": AdversarialConfig(weight=0.5, backbone="/nowhere")},
    ],
    ids=lambda losses: next(iter(losses)),
)
def test_missing_networks_are_noticed_when_the_module_is_made(tiny_base: Path, losses: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="nowhere"):
        learner(tiny_base, losses=LossConfig(**({"lpips": 0.0} | losses)))


def test_evaluation_can_tell_which_network_trains(tiny_base: Path, face_network: Path) -> None:
    from lit_restore.models.recognition import load_recognizer

    module = learner(tiny_base, losses=all_losses(face_network))
    assert module.identity_network_fingerprint == load_recognizer(str(face_network)).fingerprint


CONSTANT = OptimizerConfig(learning_rate=1e-3)


@pytest.fixture(scope="module")
def updates(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path_factory
) -> tuple[Updates, Updates, RestorationModule]:
    """Three iterations of two batches, the discriminator with a schedule of its own."""
    mine, theirs = Updates(0), Updates(1)
    module = learner(
        tiny_base,
        losses=all_losses(face_network),
        accumulate=2,
        max_iterations=3,
        optimizer=replace(CONSTANT, clip_norm=1e-2),
        discriminator_optimizer=OptimizerConfig(learning_rate=4e-3, warmup_iterations=4, clip_norm=1e-3),
    )
    fit(tmp_path_factory.mktemp("updates"), module, people(people_cache), mine, theirs)
    return mine, theirs, module


def test_each_player_has_its_own_schedule_and_clipping(updates) -> None:
    mine, theirs, _ = updates
    assert mine.rates == [1e-3] * 3
    assert theirs.rates == [1e-3, 2e-3, 3e-3]
    assert mine.norms() == pytest.approx([1e-2] * 3, rel=1e-2)
    assert theirs.norms() == pytest.approx([1e-3] * 3, rel=1e-2)


def test_lightning_counts_iterations_too(updates) -> None:
    *_, module = updates
    assert (module.iteration, module.trainer.global_step) == (3, 3)


def test_by_default_the_discriminator_has_the_generator_s_optimiser(tiny_base: Path, face_network: Path) -> None:
    module = learner(tiny_base, losses=all_losses(face_network), optimizer=OptimizerConfig(learning_rate=3e-3))
    mine, theirs = module.configure_optimizers()
    assert {k: v for k, v in mine.defaults.items() if k != "params"} == theirs.defaults
    assert {id(p) for p in theirs.param_groups[0]["params"]} == {
        id(p) for p in module.discriminator.trained_parameters()
    }


def test_a_frozen_backbone_is_not_trained(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    module = learner(tiny_base, losses=all_losses(face_network, train_backbone=False), max_iterations=1)
    before = {name: tensor.clone() for name, tensor in module.discriminator.backbone.state_dict().items()}
    fit(tmp_path, module, people(people_cache))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.discriminator.backbone.state_dict().items())
    assert not [name for name in module.state_dict() if "backbone" in name]


def test_heads_are_not_put_on_another_backbone(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    """Of the same shape, so that nothing else would notice."""
    from lit_restore.models.recognition import SmallRecognizer

    SmallRecognizer(widths=(4, 8, 8), embedding=16, size_px=32).save(tmp_path / "other")
    module = learner(tiny_base, losses=all_losses(face_network, train_backbone=False), max_iterations=1)
    fit(tmp_path, module, people(people_cache))
    other = learner(tiny_base, losses=all_losses(face_network, train_backbone=False, backbone=str(tmp_path / "other")))
    with pytest.raises(UserError, match=r"another network; .*Set model\.losses\.adversarial\.backbone"):
        fit(tmp_path, other, people(people_cache), ckpt_path=last_checkpoint(tmp_path))


class Overflow(Callback):
    """Infinite gradients of one player, in every backward pass."""

    def __init__(self, player: int | None) -> None:
        self.player = player

    def on_train_start(self, trainer, pl_module) -> None:
        if self.player is not None:
            parameter = trainer.optimizers[self.player].param_groups[0]["params"][-1]
            parameter.register_hook(lambda gradient: torch.full_like(gradient, float("inf")))


def half_precision(scale: float) -> tuple[torch.amp.GradScaler, MixedPrecision]:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1)
    return scaler, MixedPrecision("16-mixed", "cpu", scaler=scaler)


@pytest.mark.parametrize("overflow", [None, 0, 1], ids=["", "generator overflows", "discriminator overflows"])
def test_half_precision_scales_both_players(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path, overflow: int | None
) -> None:
    """With a loss scale the updates are those without; a player whose gradients overflow waits, the other goes on."""
    mine, theirs, (scaler, plugin) = Updates(0), Updates(1), half_precision(2.0**10)
    losses, config = all_losses(face_network), replace(CONSTANT, clip_norm=1e-2)
    module = learner(tiny_base, losses=losses, accumulate=2, max_iterations=2, optimizer=config)
    fit(tmp_path, module, people(people_cache), mine, theirs, Overflow(overflow), plugins=[plugin])
    counts = [2, 2]
    if overflow is not None:
        counts[overflow] = 0
    assert [len(mine.norms()), len(theirs.norms())] == counts
    for norms in (mine.norms(), theirs.norms()):
        assert norms == pytest.approx([1e-2] * len(norms), rel=2e-2)
    assert scaler.get_scale() == 2.0**10 * (4 if overflow is None else 0.25)
    assert module.iteration == 2


def test_gradients_that_no_scale_makes_finite_stop_the_training(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    module = learner(tiny_base, losses=all_losses(face_network))
    with pytest.raises(UserError, match=r"the gradient is not finite: iteration 2, .* discriminator's gradient norm"):
        fit(tmp_path, module, people(people_cache), Overflow(1), plugins=[half_precision(2.0)[1]])


def test_activation_checkpointing_changes_memory_and_nothing_else(
    tiny_base: Path, people_cache: Path, face_network: Path, tmp_path: Path
) -> None:
    runs = []
    for option in (False, True):
        module = learner(tiny_base, losses=all_losses(face_network), max_iterations=2, gradient_checkpointing=option)
        networks = [module.generator.unet, module.generator.vae]
        assert all(network.is_gradient_checkpointing is option for network in networks)
        losses = fit(tmp_path / str(option), module, people(people_cache))
        runs.append((losses, module.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(tensor, runs[1][1][name]) for name, tensor in runs[0][1].items())
