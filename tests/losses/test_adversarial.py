from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import for_each_math_file, normal
from safetensors.torch import load_file

from lit_restore.losses.adversarial import Form, cross_entropy, discriminator_loss, generator_loss

FORMS: list[Form] = ["plain", "multilevel_sigmoid"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for_each_math_file(metafunc, "adversarial.safetensors")


def levels(seed: int, batch: int = 3) -> list[torch.Tensor]:
    return [3 * normal(seed + n, batch, *shape) for n, shape in enumerate([(4, 4), (2, 5), (1,)])]


def test_parity_of_the_multilevel_loss(math_file: Path) -> None:
    stored = load_file(math_file)
    logits = [stored[f"gan.logits{level}"] for level in range(3)]
    for name, target in (("generator", 0.8), ("real", 0.8), ("fake", 0.0)):
        expected = stored[f"gan.loss_{name}"][:, 0]
        torch.testing.assert_close(cross_entropy(logits, target), expected, atol=1e-6, rtol=0)
    mean = {name: stored[f"gan.loss_{name}"].mean() for name in ("generator", "real", "fake")}
    torch.testing.assert_close(generator_loss(logits, "multilevel_sigmoid"), mean["generator"], atol=1e-6, rtol=0)
    both = discriminator_loss(logits, logits, "multilevel_sigmoid")
    torch.testing.assert_close(both, 0.5 * (mean["real"] + mean["fake"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_losses_are_their_equations(form: Form) -> None:
    """Computed again in float64 from the probabilities."""
    real, fake = levels(0), levels(10)
    target = {"plain": 1.0, "multilevel_sigmoid": 0.8}[form]

    def bce(logits: list[torch.Tensor], t: float) -> float:
        total = 0.0
        for level in logits:
            d = 1 / (1 + torch.exp(-level.double()))
            total += float((-t * torch.log(d) - (1 - t) * torch.log(1 - d)).mean())
        return total

    assert generator_loss(fake, form).item() == pytest.approx(bce(fake, target), rel=1e-5)
    expected = 0.5 * (bce(real, target) + bce(fake, 0.0))
    assert discriminator_loss(real, fake, form).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_undecided_discriminator_costs_log_2_per_level(form: Form) -> None:
    undecided = [torch.zeros(2, 4, 4), torch.zeros(2, 7), torch.zeros(2, 1)]
    assert generator_loss(undecided, form).item() == pytest.approx(3 * math.log(2))
    assert discriminator_loss(undecided, undecided, form).item() == pytest.approx(3 * math.log(2))


def test_a_smoothed_target_has_its_optimum_at_a_finite_logit() -> None:
    """BCE(D, 0.8) is least at D = 0.8, logit log 4; the plain loss wants D = 1 and goes on falling."""
    at_optimum = torch.full((1, 1), math.log(4.0), requires_grad=True)
    generator_loss([at_optimum], "multilevel_sigmoid").backward()
    assert abs(at_optimum.grad.item()) < 1e-7
    assert generator_loss([at_optimum.detach() + 1], "plain") < generator_loss([at_optimum.detach()], "plain")
    for step in (-0.1, 0.1):
        moved = generator_loss([at_optimum.detach() + step], "multilevel_sigmoid")
        assert moved > generator_loss([at_optimum.detach()], "multilevel_sigmoid")


@pytest.mark.parametrize("form", FORMS)
def test_the_generator_still_learns_when_the_discriminator_is_sure(form: Form) -> None:
    logits = torch.full((1, 1), -20.0, requires_grad=True)
    generator_loss([logits], form).backward()
    assert logits.grad.item() == pytest.approx({"plain": -1.0, "multilevel_sigmoid": -0.8}[form], rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite_and_losses_are_float32(form: Form, dtype: torch.dtype) -> None:
    logits = [torch.tensor([[500.0], [-500.0]], dtype=dtype, requires_grad=True)]
    for loss in (generator_loss(logits, form), discriminator_loss(logits, logits, form)):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_level_counts_once_however_large_its_map(form: Form) -> None:
    small = normal(0, 2, 3, 3)
    large = small.repeat(1, 4, 4)
    one, many = generator_loss([small], form), generator_loss([large], form)
    torch.testing.assert_close(one, many)
    torch.testing.assert_close(generator_loss([small, large], form), one + many)
