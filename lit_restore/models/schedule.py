"""The diffusion noise schedule and the one-step estimate of the clean latent.

With ``abar_t`` the cumulative product of ``1 - beta`` (DDPM, Ho et al. 2020, eq. 4):

    z_t  = sqrt(abar_t) z + sqrt(1 - abar_t) noise
    z_0  = (z_t - sqrt(1 - abar_t) predicted_noise) / sqrt(abar_t)

The clean latent is computed by the second line and never through a scheduler's ``step``: that one looks the timestep
up in a list of sampling steps in which t = 249 does not occur.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lit_restore.errors import UserError


class NoiseSchedule:
    """Table of ``abar_t`` for t = 0..T-1.

    Args:
        alpha_bar: (T,) float32, decreasing from nearly 1 to nearly 0.
    """

    def __init__(self, alpha_bar: torch.Tensor) -> None:
        self.alpha_bar = alpha_bar

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Build from a diffusers ``scheduler_config.json`` (SD-Turbo: scaled_linear, 0.00085..0.012, T = 1000)."""
        kind = config.get("beta_schedule", "linear")
        start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
        steps = config.get("num_train_timesteps", 1000)
        prediction = config.get("prediction_type", "epsilon")
        if prediction != "epsilon":
            raise UserError(
                "the base predicts something else than noise",
                where="scheduler/scheduler_config.json: prediction_type",
                expected="epsilon",
                found=prediction,
                fix="Use a noise-predicting base such as stabilityai/sd-turbo.",
            )
        for option in ("trained_betas", "rescale_betas_zero_snr"):
            if config.get(option):
                raise UserError(
                    f"a noise schedule with {option} is not supported",
                    where="scheduler/scheduler_config.json",
                    found=config[option],
                )
        if kind == "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
        elif kind == "linear":
            betas = torch.linspace(start, end, steps, dtype=torch.float32)
        else:
            raise UserError(
                "unknown noise schedule",
                where="scheduler/scheduler_config.json: beta_schedule",
                expected="scaled_linear or linear",
                found=kind,
            )
        return cls(torch.cumprod(1.0 - betas, dim=0))

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def check(self, timesteps: Sequence[int], where: str) -> None:
        """Refuse noise levels that the schedule does not have, and an empty choice of them.

        Raises:
            UserError: naming ``where`` they were asked for.
        """
        last = len(self) - 1
        if not timesteps or min(timesteps) < 0 or max(timesteps) > last:
            raise UserError("no such noise level", where=where, expected=f"0 to {last}", found=timesteps)

    def add_noise(self, latent: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """z_t for latents (B, C, h, w), noise of the same shape and timesteps (B,)."""
        signal, sigma = self._coefficients(timestep, latent)
        return signal * latent + sigma * noise

    def predict_clean(self, noisy: torch.Tensor, predicted_noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """z_0 estimated from z_t (B, C, h, w) and the network's noise prediction; float32, not clipped."""
        noisy, predicted_noise = noisy.float(), predicted_noise.float()
        signal, sigma = self._coefficients(timestep, noisy)
        return (noisy - sigma * predicted_noise) / signal

    def _coefficients(self, timestep: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha_bar = self.alpha_bar.to(like.device)[timestep].view(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(like.dtype), (1.0 - alpha_bar).sqrt().to(like.dtype)
