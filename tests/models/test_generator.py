from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import NOISE, normal, pictures, tiny_config, tiny_generator

from lit_restore.errors import UserError
from lit_restore.models.base import load_base
from lit_restore.models.generator import FreeU, OneStepGenerator, fixed_noise, seeded_noise


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base)


@pytest.fixture(scope="module")
def start(tiny_base: Path) -> OneStepGenerator:
    """Before any training: what it computes is what the base computes."""
    return tiny_generator(tiny_base, trained=False)


def zero_noise(_: str, shape: torch.Size) -> torch.Tensor:
    return torch.zeros(shape)


@torch.no_grad()
def test_one_step_written_out_with_the_base_s_own_networks(tiny_base: Path, start: OneStepGenerator) -> None:
    base, lq, step = load_base(str(tiny_base)), pictures(0, 2, 3, 64, 64), torch.tensor([499, 499])
    noise = NOISE("noise", torch.Size((2, 4, 8, 8)))
    signal, sigma = base.schedule.alpha_bar[499].sqrt(), (1 - base.schedule.alpha_bar[499]).sqrt()
    scale = base.vae.config.scaling_factor
    noisy = signal * base.vae.encode(lq).latent_dist.mode() * scale + sigma * noise
    predicted = base.unet(noisy, step, base.prompt_embedding.expand(2, -1, -1)).sample
    expected = base.vae.decode((noisy - sigma * predicted) / signal / scale).sample.clamp(-1, 1)
    torch.testing.assert_close(start(lq, timestep=499, draw=NOISE), expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_the_posterior_is_sampled_only_when_asked(start: OneStepGenerator) -> None:
    lq = pictures(0, 1, 3, 64, 64)
    distribution = start.vae.encode(lq).latent_dist
    scale = start.vae.config.scaling_factor
    torch.testing.assert_close(start.encode(lq, NOISE, "posterior", False), distribution.mean * scale)
    sampled = distribution.mean + distribution.std * NOISE("posterior", distribution.mean.shape)
    torch.testing.assert_close(start.encode(lq, NOISE, "posterior", True), sampled * scale)


@torch.no_grad()
def test_the_noise_on_the_latent_can_be_left_out(tiny_base: Path) -> None:
    quiet = tiny_generator(tiny_base, add_noise=False)
    loud = tiny_generator(tiny_base)
    lq = pictures(0, 1, 3, 64, 64)
    assert torch.equal(quiet(lq, draw=NOISE), quiet(lq, draw=zero_noise))
    assert not torch.equal(loud(lq, draw=NOISE), loud(lq, draw=zero_noise))


@torch.no_grad()
def test_reference_noise_and_freeu_are_switches_that_do_something(tiny_base: Path, generator: OneStepGenerator) -> None:
    lq, references = pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 64, 64)
    plain = generator(lq, references, draw=NOISE)
    for change in ({"reference_noise": True}, {"reference_timestep": 200}, {"freeu": FreeU()}, {"keep_own_keys": True}):
        assert (tiny_generator(tiny_base, **change)(lq, references, draw=NOISE) - plain).abs().max() > 1e-4, change


@torch.no_grad()
def test_output_stays_in_range(generator: OneStepGenerator) -> None:
    output = generator(3 * pictures(0, 1, 3, 64, 64), timestep=749, draw=NOISE)
    assert output.abs().max() <= 1


@torch.no_grad()
def test_features_can_be_computed_once_and_used_again(generator: OneStepGenerator) -> None:
    references = pictures(1, 1, 2, 3, 64, 64)
    features = generator.reference_features(references, draw=NOISE)
    for seed in (0, 1):
        lq = pictures(seed, 1, 3, 64, 64)
        assert torch.equal(generator(lq, features, draw=NOISE), generator(lq, references, draw=NOISE))


@torch.no_grad()
def test_references_may_have_another_size_than_the_input(generator: OneStepGenerator) -> None:
    output = generator(pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 128, 128), draw=NOISE)
    assert output.shape == (1, 3, 64, 64)


@torch.no_grad()
def test_references_are_seen_by_the_frozen_networks(tiny_base: Path, generator: OneStepGenerator, start) -> None:
    """Training does not change what is stored of a reference."""
    references = pictures(1, 1, 2, 3, 64, 64)
    trained, untrained = (g.reference_features(references, draw=NOISE) for g in (generator, start))
    for one, other in zip(trained.keys + trained.values, untrained.keys + untrained.values, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_evaluation_noise_does_not_depend_on_the_batch(generator: OneStepGenerator) -> None:
    lq, references = pictures(0, 3, 3, 64, 64), pictures(1, 3, 2, 3, 64, 64)
    together = generator(lq, references, draw=NOISE)
    for index in range(3):
        alone = generator(lq[index : index + 1], references[index : index + 1], draw=NOISE)
        torch.testing.assert_close(together[index : index + 1], alone, atol=2e-5, rtol=0)


@torch.no_grad()
def test_any_multiple_of_the_network_s_side_is_restored_and_no_other(generator: OneStepGenerator) -> None:
    assert (generator.vae_factor, generator.side_multiple) == (8, 64)
    assert generator(pictures(0, 1, 3, 64, 128), draw=NOISE).shape == (1, 3, 64, 128)
    with pytest.raises(UserError, match="multiples of 64; found 72x64"):
        generator(pictures(0, 1, 3, 72, 64), draw=NOISE)
    with pytest.raises(UserError, match="multiples of 64; found 64x100"):
        generator(pictures(0, 1, 3, 64, 64), pictures(0, 1, 1, 3, 64, 100), draw=NOISE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inference_timestep": 1000}, "inference_timestep"),
        ({"train_timesteps": [249, -1]}, "train_timesteps"),
        ({"train_timesteps": []}, "train_timesteps"),
        ({"reference_timestep": 5000}, "reference_timestep"),
        ({"size_px": 100}, "size_px"),
    ],
)
def test_options_that_the_base_cannot_do_are_refused_at_once(tiny_base: Path, change: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        OneStepGenerator(tiny_config(tiny_base, **change))


def test_training_starts_from_the_seed_and_not_from_the_global_random_state(tiny_base: Path) -> None:
    states = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        states.append(OneStepGenerator(tiny_config(tiny_base), seed=seed).unet_adaptation.state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    name = next(name for name in states[0] if "lora_A" in name)
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_noise_is_a_function_of_seed_context_name_and_shape() -> None:
    shape = torch.Size((2, 4, 8, 8))
    field = seeded_noise(1, "train", 7)("noise", shape)
    torch.manual_seed(99)
    assert torch.equal(seeded_noise(1, "train", 7)("noise", shape), field)
    others = [seeded_noise(2, "train", 7), seeded_noise(1, "train", 8), seeded_noise(1, "val", 7)]
    for other in [draw("noise", shape) for draw in others] + [seeded_noise(1, "train", 7)("posterior", shape)]:
        assert (other - field).abs().max() > 0.5
    large = seeded_noise(3)("noise", torch.Size((1, 4, 64, 64)))
    assert abs(large.mean().item()) < 0.03
    assert large.std().item() == pytest.approx(1, abs=0.03)


def test_fixed_noise_is_the_same_field_for_every_sample() -> None:
    field = fixed_noise(0)("noise", torch.Size((3, 4, 8, 8)))
    assert field.shape == (3, 4, 8, 8)
    assert torch.equal(field[0], field[2])
    assert torch.equal(field[:1], fixed_noise(0)("noise", torch.Size((1, 4, 8, 8))))
    assert not torch.equal(field, fixed_noise(1)("noise", torch.Size((3, 4, 8, 8))))


def test_autocast_keeps_the_step_s_arithmetic_in_float32(generator: OneStepGenerator) -> None:
    lq, references = pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 64, 64)
    with torch.no_grad():
        exact = generator(lq, references, draw=NOISE)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = generator(lq, references, draw=NOISE)
            latent = generator.denoise(normal(0, 1, 4, 8, 8), None, timestep=249, draw=NOISE)
    assert latent.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05
