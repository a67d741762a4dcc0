from __future__ import annotations

import math

import pytest
import torch

from lit_restore.training.optim import OptimizerConfig, build_optimizer, learning_rate, set_learning_rate


def rates(config: OptimizerConfig, length: int) -> list[float]:
    return [learning_rate(config, iteration, length) for iteration in range(length)]


def test_constant() -> None:
    assert rates(OptimizerConfig(learning_rate=0.5), 4) == [0.5] * 4


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    assert rates(OptimizerConfig(learning_rate=1.0, warmup_iterations=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_half_a_cosine_down_to_zero() -> None:
    config = OptimizerConfig(learning_rate=2.0, schedule="cosine")
    assert rates(config, 4) == pytest.approx([2.0, 1 + math.cos(math.pi / 4), 1.0, 1 + math.cos(3 * math.pi / 4)])
    assert learning_rate(config, 4, 4) == pytest.approx(0, abs=1e-12)
    assert learning_rate(config, 100, 4) == pytest.approx(0, abs=1e-12)  # continued beyond its end


def test_cosine_starts_where_the_warm_up_ends() -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_iterations=2)
    assert rates(config, 6) == pytest.approx(
        [0.5, 1.0, 1.0, 0.5 + 0.5 * math.cos(math.pi / 4), 0.5, 0.5 - 0.5 * math.cos(math.pi / 4)]
    )


def test_warm_up_as_long_as_the_training() -> None:
    config = OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_iterations=4)
    assert rates(config, 4) == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(config, 4, 4) == 1.0


def test_optimiser_has_the_paper_s_numbers_and_only_the_given_parameters() -> None:
    one, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    optimizer = build_optimizer([one], OptimizerConfig())
    (group,) = optimizer.param_groups
    assert group["params"] == [one]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (5e-4, (0.9, 0.999), 1e-8, 1e-2)
    set_learning_rate(optimizer, 0.25)
    one.grad, other.grad = torch.ones(2), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(one.detach(), torch.full((2,), -0.25))  # Adam's first step is the learning rate
    assert not other.any()
