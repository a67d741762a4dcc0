"""One step and one run of the restoration training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import NOISE
from pytorch_lightning import Callback
from pytorch_lightning.plugins import MixedPrecision
from small_training import Updates, fit, learner, people, trainer

from lit_restore.data.collate import collate
from lit_restore.losses.composite import LossConfig
from lit_restore.losses.pixel import l1
from lit_restore.models.base import load_base
from lit_restore.training import restoration
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.restoration import RestorationModule
from lit_restore.types import RestorationBatch


@pytest.fixture(scope="module")
def batch(people_cache: Path) -> RestorationBatch:
    """Two people, one with two references and one with one."""
    data = people(people_cache, zero_reference_probability=0.0)
    data.prepare_data()
    data.setup()
    samples = [data.datasets["test"][index] for index in (0, 1)]
    for name in ("references", "reference_landmarks", "reference_landmark_mask"):
        samples[1][name] = samples[1][name][:1]
    return collate(samples)


def state(module: RestorationModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_seed_decides_and_nothing_else(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    runs = []
    for number, (global_seed, seed) in enumerate([(0, 3), (1, 3), (0, 4)]):
        torch.manual_seed(global_seed)
        module = learner(tiny_base, max_iterations=2, seed=seed)
        runs.append((fit(tmp_path / str(number), module, people(people_cache)), state(module)))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(tensor, runs[1][1][name]) for name, tensor in runs[0][1].items())
    assert not set(runs[0][0]) & set(runs[2][0])


def test_training_lowers_the_loss_of_its_photos(tiny_base: Path, batch: RestorationBatch) -> None:
    module = learner(tiny_base, losses=LossConfig(l1=1.0, ms_ssim=0.0, lpips=0.0))
    (optimizer,) = module.configure_optimizers()
    losses = []
    for _ in range(12):
        total, _ = module.loss(module.restore(batch), batch["hq"])
        losses.append(total.item())
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.9 * losses[0]


def test_exactly_the_adapted_parameters_get_gradients(tiny_base: Path, batch: RestorationBatch) -> None:
    module = learner(tiny_base, generator={"full_unet_layers": ["conv_in"]})
    owned = {f"{part}.{name}" for part, adaptation in module.generator.adaptations.items() for name in adaptation.names}
    parameters = dict(module.generator.named_parameters())
    assert {id(p) for p in module.trained_parameters()} == {id(parameters[name]) for name in owned}
    total, _ = module.loss(module.restore_for_training(batch), batch["hq"])
    total.backward()
    with_gradient = {name for name, p in parameters.items() if p.grad is not None}
    keys_of_shared = {
        name for name in owned if any(name.startswith(f"unet.{s}.to_k.") for s in module.generator.shared_layers)
    }
    assert with_gradient == owned - keys_of_shared  # replaced by the references' keys


def test_a_run_changes_what_is_trained_and_leaves_the_base_alone(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    module = learner(tiny_base, max_iterations=3)
    before = state(module)
    fit(tmp_path, module, people(people_cache, zero_reference_probability=0.0))
    base = load_base(str(tiny_base))
    own = dict(module.generator.named_parameters())
    for part in ("unet", "vae"):
        for name, tensor in getattr(base, part).named_parameters():
            layer, _, kind = name.rpartition(".")
            found = own.get(f"{part}.{name}", own.get(f"{part}.{layer}.base_layer.{kind}"))
            if f"{part}.{name}" not in before:
                assert torch.equal(found, tensor), name
    # In the middle 64 px are a single token, whose attention to itself is always 1: nothing to learn for its query.
    unchanged = {name for name, tensor in module.state_dict().items() if torch.equal(tensor, before[name])}
    unchanged = {name for name in unchanged if not name.startswith("unet.mid_block.attentions.0")}
    assert unchanged == {
        n for n in before if any(n.startswith(f"unet.{s}.to_k.") for s in module.generator.shared_layers)
    }


def drawn(module: RestorationModule, batch: RestorationBatch, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The noise levels of 150 batches."""
    levels: list[list[int]] = []
    monkeypatch.setattr(module.generator, "forward", lambda *_, timestep, **__: levels.append(timestep.tolist()))
    for module.iteration in range(150):
        module.restore_for_training(batch)
    return levels


def test_noise_levels_are_drawn_from_the_list_for_every_photo(tiny_base: Path, batch, monkeypatch) -> None:
    module = learner(tiny_base, generator={"train_timesteps": [249, 499, 749]})
    levels = drawn(module, batch, monkeypatch)
    counts = Counter(level for row in levels for level in row)
    assert set(counts) == {249, 499, 749}
    assert min(counts.values()) > 70
    assert any(first != second for first, second in levels)
    assert drawn(module, batch, monkeypatch) == levels


@torch.no_grad()
def test_every_photo_is_trained_at_its_own_level(tiny_base: Path, batch: RestorationBatch) -> None:
    generator = learner(tiny_base).generator
    together = generator(batch["lq"], draw=NOISE, timestep=torch.tensor([249, 499]))
    for index, level in enumerate((249, 499)):
        alone = generator(batch["lq"][index : index + 1], draw=NOISE, timestep=level)
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)


@torch.no_grad()
def test_training_samples_the_latents_and_evaluation_takes_their_mean(tiny_base: Path, batch, monkeypatch) -> None:
    module, drawn = learner(tiny_base), set()

    def recording(name: str, shape: torch.Size) -> torch.Tensor:
        drawn.add(name)
        return NOISE(name, shape)

    monkeypatch.setattr(restoration, "seeded_noise", lambda *_, **__: recording)
    module.restore_for_training(batch)
    assert drawn == {"noise", "posterior", "reference_posterior"}
    drawn.clear()
    module.restore(batch, draw=recording)
    assert drawn == {"noise"}


@torch.no_grad()
def test_noise_depends_on_the_place_in_the_update_and_not_on_the_batch(tiny_base: Path, batch) -> None:
    """Two photos in one batch, or one after the other: the same restorations."""
    together = learner(tiny_base).restore_for_training(batch)
    module = learner(tiny_base, accumulate=2)
    for index in range(2):
        count = int(batch["reference_mask"][index].sum())
        single = {name: values[index : index + 1] for name, values in batch.items()}
        single |= {name: single[name][:, :count] for name in ("references", "reference_mask")}
        module._micro_batch = index
        alone = module.restore_for_training(single)
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)
        module._micro_batch = 1 - index
        assert not torch.allclose(together[index : index + 1], module.restore_for_training(single), atol=1e-2)


def test_learning_rate_follows_iterations_not_batches(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    updates = Updates()
    module = learner(
        tiny_base, max_iterations=3, accumulate=2, optimizer=OptimizerConfig(learning_rate=1e-3, warmup_iterations=2)
    )
    assert len(fit(tmp_path, module, people(people_cache), updates)) == 3
    assert updates.rates == [5e-4, 1e-3, 1e-3]
    assert module.iteration == 3


def test_gradients_are_clipped_to_the_norm_or_not_at_all(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    norms = {}
    for clip in (0.0, 1e-3, 1e3):
        updates = Updates()
        module = learner(tiny_base, max_iterations=1, optimizer=OptimizerConfig(clip_norm=clip))
        fit(tmp_path / str(clip), module, people(people_cache), updates)
        norms[clip] = updates.norms()[0]
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert norms[0.0] == norms[1e3] > 2e-3


def test_scaled_gradients_of_half_precision_are_clipped_after_unscaling(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    updates, plugin = (
        Updates(),
        MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10)),
    )
    module = learner(tiny_base, max_iterations=1, optimizer=OptimizerConfig(clip_norm=1e-3))
    fit(tmp_path, module, people(people_cache), updates, plugins=[plugin])
    assert updates.norms() == [pytest.approx(1e-3, rel=1e-2)]


def test_accumulation_averages_the_gradients_of_its_batches(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    data, updates = people(people_cache), Updates()
    config = OptimizerConfig(learning_rate=1e-3, clip_norm=0.0)
    fit(tmp_path, learner(tiny_base, max_iterations=1, accumulate=2, optimizer=config), data, updates)
    module = learner(tiny_base, max_iterations=1, accumulate=2, optimizer=config)
    data.trainer.strategy._lightning_module = module
    for module._micro_batch, batch in enumerate(data.train_dataloader()):
        total, _ = module.loss(module.restore_for_training(batch), batch["hq"])
        (total / 2).backward()
    expected = [p.grad for p in module.trained_parameters() if p.grad is not None]
    for found, gradient in zip(updates.gradients[0], expected, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-7, rtol=1e-4)


def test_two_batches_of_one_photo_give_the_gradient_of_one_batch_of_two(
    tiny_base: Path, people_cache: Path, tmp_path: Path
) -> None:
    runs = []
    for accumulate in (1, 2):
        updates, data = Updates(), people(people_cache, batch_size=2 // accumulate, zero_reference_probability=0.5)
        losses = fit(tmp_path / str(accumulate), learner(tiny_base, accumulate=accumulate), data, updates)
        runs.append((losses, updates))
    (losses, one), (same_losses, two) = runs
    assert losses == pytest.approx(same_losses, rel=1e-4)
    for found, expected in zip(one.gradients[0], two.gradients[0], strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-3)
    assert one.rates == two.rates


@torch.no_grad()
def test_restore_uses_as_many_references_as_asked(tiny_base: Path, batch: RestorationBatch) -> None:
    module = learner(tiny_base)
    generator, lq = module.generator, batch["lq"]
    references, mask = batch["references"], batch["reference_mask"]
    assert torch.equal(module.restore(batch, 0, NOISE), generator(lq, draw=NOISE))
    assert torch.equal(module.restore(batch, 1, NOISE), generator(lq, references[:, :1], draw=NOISE))
    everything = module.restore(batch, draw=NOISE)
    assert torch.equal(everything, module.restore(batch, 4, NOISE))
    torch.testing.assert_close(everything[:1], generator(lq[:1], references[:1], draw=NOISE), atol=2e-5, rtol=0)
    torch.testing.assert_close(everything[1:], generator(lq[1:], references[1:, :1], draw=NOISE), atol=2e-5, rtol=0)
    assert mask.tolist() == [[True, True], [True, False]]
    for step in (module.validation_step, module.test_step, module.predict_step):
        assert torch.equal(step(batch, 0), module.restore(batch))


def test_validation_and_test_reach_every_photo_once(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Keys(Callback):
        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, *_) -> None:
            seen.extend(batch["key"])

        on_test_batch_end = on_validation_batch_end

    runner, data = trainer(tmp_path, Keys(), limit_val_batches=1.0), people(people_cache)
    for run, split in ((runner.validate, "val"), (runner.test, "test")):
        seen.clear()
        run(learner(tiny_base), data, verbose=False)
        assert sorted(seen) == sorted(photo.key for photo in data.datasets[split].targets)


def test_logged_loss_is_the_loss_of_the_batch(tiny_base: Path, people_cache: Path, tmp_path: Path) -> None:
    data = people(people_cache)
    losses = fit(tmp_path, learner(tiny_base, max_iterations=1), data)
    module = learner(tiny_base, max_iterations=1)
    data.trainer.strategy._lightning_module = module
    batch = next(iter(data.train_dataloader()))
    with torch.no_grad():
        restored = module.restore_for_training(batch)
        total, terms = module.loss(restored, batch["hq"])
    assert losses == [total.item()]
    assert terms["l1"].item() == l1(restored, batch["hq"]).item()
