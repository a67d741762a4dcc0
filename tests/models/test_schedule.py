from __future__ import annotations

import math

import pytest
import torch
from helpers import normal

from lit_restore.errors import UserError
from lit_restore.models.random_base import SCHEDULER
from lit_restore.models.schedule import NoiseSchedule

SD_TURBO = NoiseSchedule.from_config(SCHEDULER)


@pytest.mark.parametrize(
    ("timestep", "alpha_bar"),
    [  # from the InstantRestore parity fixture
        (1, 0.9982960224151611),
        (249, 0.6754320859909058),
        (499, 0.27766942977905273),
        (749, 0.05662344768643379),
        (999, 0.00466009508818388),
    ],
)
def test_alpha_bar_of_sd_turbo(timestep: int, alpha_bar: float) -> None:
    assert SD_TURBO.alpha_bar[timestep].item() == pytest.approx(alpha_bar, rel=1e-6)
    assert len(SD_TURBO) == 1000


def test_linear_schedule_equals_its_closed_form() -> None:
    schedule = NoiseSchedule.from_config(
        {"beta_schedule": "linear", "beta_start": 0.1, "beta_end": 0.3, "num_train_timesteps": 3}
    )
    torch.testing.assert_close(schedule.alpha_bar, torch.tensor([0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7]))


def test_add_noise_mixes_by_the_square_roots_per_sample() -> None:
    noisy = SD_TURBO.add_noise(torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0), torch.tensor([249, 999]))
    for value, timestep in zip(noisy.flatten().tolist(), (249, 999), strict=True):
        alpha_bar = SD_TURBO.alpha_bar[timestep].item()
        assert value == pytest.approx(math.sqrt(alpha_bar) + 2 * math.sqrt(1 - alpha_bar), rel=1e-5)


def test_predict_clean_inverts_add_noise() -> None:
    latent, noise, steps = normal(0, 3, 4, 8, 8), normal(1, 3, 4, 8, 8), torch.tensor([0, 249, 749])
    clean = SD_TURBO.predict_clean(SD_TURBO.add_noise(latent, noise, steps), noise, steps)
    torch.testing.assert_close(clean, latent, atol=5e-6, rtol=0)


def test_predict_clean_is_computed_in_float32_whatever_comes_in() -> None:
    noisy, noise, step = normal(0, 1, 4, 4, 4).bfloat16(), normal(1, 1, 4, 4, 4).bfloat16(), torch.tensor([749])
    clean = SD_TURBO.predict_clean(noisy, noise, step)
    assert clean.dtype == torch.float32
    assert torch.equal(clean, SD_TURBO.predict_clean(noisy.float(), noise.float(), step))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prediction_type": "v_prediction"}, "v_prediction"),
        ({"prediction_type": "sample"}, "sample"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "squaredcos_cap_v2"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
)
def test_a_schedule_we_cannot_follow_is_refused(changes: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        NoiseSchedule.from_config(SCHEDULER | changes)
