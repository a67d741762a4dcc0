"""Optimiser and learning-rate schedule, both counted in iterations (= generator updates)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lit_restore.errors import UserError, check_at_least


@dataclass
class OptimizerConfig:
    """AdamW with the paper's numbers (InstantRestore, supplement A: lr 5e-4 constant)."""

    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    """Global L2 norm the gradient is clipped to; 0 = not clipped."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_iterations: int = 0

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in ("learning_rate", "eps", "weight_decay", "clip_norm")}
        check_at_least(0, "optimizer", **numbers, warmup_iterations=self.warmup_iterations)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError("bad moments", where="optimizer.betas", expected="0 to below 1", found=list(self.betas))


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over exactly these parameters."""
    return torch.optim.AdamW(
        list(parameters),
        lr=config.learning_rate,
        betas=tuple(config.betas),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: OptimizerConfig, iteration: int, max_iterations: int) -> float:
    """Learning rate of the update number ``iteration`` (from 0); a pure function, so that it needs no state to resume.

    Linear warm-up, then constant, or half a cosine down to zero at ``max_iterations``.
    """
    if iteration < config.warmup_iterations:
        return config.learning_rate * (iteration + 1) / config.warmup_iterations
    if config.schedule == "constant":
        return config.learning_rate
    progress = (iteration - config.warmup_iterations) / max(1, max_iterations - config.warmup_iterations)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def gradient_norm(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """Global L2 norm of the gradients there are, a scalar."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


def clip_gradients(parameters: Sequence[nn.Parameter], config: OptimizerConfig, norm: torch.Tensor) -> None:
    """Scale the gradients down so that the global ``norm`` becomes ``config.clip_norm`` at most.

    Only their ratio counts: gradients that still carry the loss scale of fp16 are clipped right with the norm they will
    have without it.
    """
    if config.clip_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, config.clip_norm, norm)
