"""The second-order chain: drawn steps, noise statistics, sharpening. Reference values: test_degradation_fixtures.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lit_restore.data.degradation import Degradation, realesrgan, usm_sharpen


def draw(count: int, size_hw: tuple[int, int] = (512, 512), **overrides: Any) -> list[list[dict[str, Any]]]:
    degradation = Degradation("realesrgan", overrides=overrides)
    return [degradation.record(f"{index}.png", 0, size_hw)["steps"] for index in range(count)]


def share(steps: list[list[dict[str, Any]]], condition: Any) -> float:
    return float(np.mean([bool(condition(sample)) for sample in steps]))


def ops_of(sample: list[dict[str, Any]]) -> list[str]:
    return [step["op"] for step in sample]


def test_steps_come_as_often_as_published() -> None:
    samples = draw(3000)
    assert all(ops_of(sample)[:3] == ["usm", "blur", "resize"] for sample in samples)
    assert all(ops_of(sample)[-2:] == ["resize", "round"] for sample in samples)
    assert all(ops_of(sample).count("diffjpeg") == 2 for sample in samples)
    assert share(samples, lambda s: s[1]["family"] == "sinc") == pytest.approx(0.1, abs=0.03)
    assert share(samples, lambda s: s[1]["family"] == "iso") == pytest.approx(0.9 * 0.45, abs=0.04)
    assert share(samples, lambda s: s[2]["factor"] > 1) == pytest.approx(0.2, abs=0.03)
    assert share(samples, lambda s: s[2]["factor"] < 1) == pytest.approx(0.7, abs=0.03)
    assert share(samples, lambda s: s[3]["op"] == "gaussian_noise") == pytest.approx(0.5, abs=0.04)
    assert share(samples, lambda s: s[3]["gray"]) == pytest.approx(0.4, abs=0.04)
    assert share(samples, lambda s: s[5]["op"] == "blur") == pytest.approx(0.8, abs=0.03)
    assert share(samples, lambda s: ops_of(s)[-3] == "diffjpeg") == pytest.approx(0.5, abs=0.04)
    sinc_after_noise = share(samples, lambda s: s[-3 - (s[-3]["op"] == "diffjpeg")]["op"] == "blur")
    assert sinc_after_noise == pytest.approx(0.8, abs=0.03)
    modes = [sample[2]["mode"] for sample in samples]
    assert all(modes.count(mode) / 3000 == pytest.approx(1 / 3, abs=0.03) for mode in ("area", "bilinear", "bicubic"))


def test_values_stay_in_the_published_ranges() -> None:
    for sample in draw(1000):
        for step in sample:
            if step["op"] == "blur":
                assert step["size"] in range(7, 22, 2)
                assert 0.2 <= step.get("sigma_x", 1.0) <= 3.0
                assert math.pi / 5 <= step.get("omega", math.pi) <= math.pi
                assert step["size"] >= 13 or step.get("omega", math.pi) >= math.pi / 3
            elif step["op"] == "diffjpeg":
                assert 30 <= step["quality"] < 95
        noises = [step for step in sample if "noise" in step["op"]]
        assert noises[0].get("sigma", 1) <= 30
        assert noises[1].get("scale", 1) <= 2.5
        assert noises[0]["seed"] != noises[1]["seed"]
        # 512 / 4 is 128: second resize to 0.3 .. 1.2 of it, the final one to exactly that.
        sizes = [step["size_hw"][0] for step in sample if "size_hw" in step]
        assert 38 <= sizes[0] <= 153
        assert sizes[1:] == [128, 512]


def test_small_images_keep_a_pixel() -> None:
    assert all(min(step["size_hw"]) >= 1 for sample in draw(50, (8, 8)) for step in sample if "size_hw" in step)


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_has_the_variance_of_shot_noise(gray: bool) -> None:
    """Variance scale^2 x / levels; an image of one value has one level, a ramp of 256 values 256."""
    ramp = np.repeat(np.arange(256, dtype=np.float32)[None, :, None] / 255, 400, axis=0).repeat(3, axis=2)
    step = {"op": "poisson_noise", "scale": 0.5, "gray": gray, "seed": [1, 2, 3, 4]}
    noise = realesrgan.run(ramp, [step]) - ramp
    middle = slice(100, 150)  # away from clipping
    expected = 0.25 * ramp[0, middle, 0] / 256
    np.testing.assert_allclose(noise[:, middle].var(axis=(0, 2)).mean(), expected.mean(), rtol=0.05)
    assert abs(noise[:, middle].mean()) < 2e-3
    assert np.allclose(noise[..., 0], noise[..., 1], atol=1e-6) == gray


def test_levels_are_the_next_power_of_two() -> None:
    for distinct, levels in ((1, 1), (2, 2), (3, 4), (132, 256), (256, 256)):
        assert realesrgan.poisson_levels(np.arange(distinct) / 255) == levels


def test_sharpening_leaves_flat_areas_and_raises_edges() -> None:
    step = np.full((128, 128, 3), 0.3, np.float32)
    step[:, 64:] = 0.7
    sharp = usm_sharpen(step)
    assert sharp[64, 66, 0] > 0.75
    assert sharp[64, 61, 0] < 0.25
    np.testing.assert_allclose(sharp[:, :8], 0.3, atol=1e-4)
    faint = 0.5 + (step - 0.5) * 0.05  # contrast of 5/255, below the threshold
    np.testing.assert_allclose(usm_sharpen(faint), faint, atol=1e-6)


def test_sharpening_can_be_switched_off() -> None:
    assert draw(1, usm=False)[0] == draw(1)[0][1:]
