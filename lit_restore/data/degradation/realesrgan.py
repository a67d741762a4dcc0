"""The second-order degradation of Real-ESRGAN and DiffBIR v2.1 for one sample (degradations.md section 2).

The public code draws most parameters once per batch and hides that behind a pool of 256 pairs. Here every sample draws
its own and there is no pool, so a sample depends on nothing but its record: a list of steps, executed in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from lit_restore.data.degradation import operations
from lit_restore.data.degradation.color import luma
from lit_restore.data.degradation.diffjpeg import diffjpeg
from lit_restore.data.degradation.draws import pick, pick_family, shape_exponent, uniform
from lit_restore.data.degradation.kernels import blur_kernel
from lit_restore.data.degradation.profile_types import SecondOrderProfile
from lit_restore.data.degradation.seeds import noise_seed, parameter_uniforms

MODES = ("area", "bilinear", "bicubic")
Step = dict[str, Any]

_KERNEL_SLOTS = ("size", "sinc?", "omega", "family", "sigma_x", "sigma_y", "theta", "beta_side", "beta")
_PASS_SLOTS = ("blur?", "direction", "factor", "mode", "noise_kind", "noise_level", "gray", "jpeg_quality")
# Always all drawn, in this order, from the sample's parameter generator (section 6.2).
SLOTS = (
    *(f"{slot}_{when}" for when in ("first", "second") for slot in (*_KERNEL_SLOTS, *_PASS_SLOTS)),
    *("final_sinc?", "final_size", "final_omega", "final_mode", "final_order"),
)


def draw(profile: SecondOrderProfile, words: Sequence[tuple[int, ...]], size_hw: tuple[int, int]) -> dict[str, Any]:
    """The fields ``steps`` and ``out_hw`` of a record.

    Args:
        words: seed words (`derive_words`) of stage 0 (parameters and first noise) and 1 (second noise).
    """
    u = dict(zip(SLOTS, parameter_uniforms(words[0], len(SLOTS)), strict=True))
    small_hw = [max(1, side // profile.final_scale) for side in size_hw]
    steps: list[Step] = [{"op": "usm"}] if profile.usm else []
    steps += [
        _draw_blur(profile, u, "first"),
        _draw_resize(profile, u, "first", size_hw, size_hw),
        _draw_noise(profile, u, "first", words[0]),
        _jpeg_step(profile, u["jpeg_quality_first"]),
    ]
    if u["blur?_second"] < profile.second_blur_probability:
        steps.append(_draw_blur(profile, u, "second"))
    steps.append(_draw_resize(profile, u, "second", small_hw, size_hw))
    steps.append(_draw_noise(profile, u, "second", words[1]))
    steps += _draw_final(profile, u, small_hw)
    steps += [{"op": "resize", "mode": "bicubic", "size_hw": list(size_hw)}, {"op": "round"}]
    return {"steps": steps, "out_hw": list(size_hw)}


def _draw_blur(profile: SecondOrderProfile, u: Mapping[str, float], when: str) -> Step:
    size = pick(profile.kernel_sizes, u[f"size_{when}"])
    if u[f"sinc?_{when}"] < profile.sinc_probability:
        # Small kernels cannot hold the slow oscillation of a low cut-off.
        lowest = math.pi / 3 if size < 13 else math.pi / 5
        return {"op": "blur", "family": "sinc", "size": size, "omega": uniform((lowest, math.pi), u[f"omega_{when}"])}
    family = pick_family(profile.families, u[f"family_{when}"])
    sigma_px = getattr(profile, f"sigma_px_{when}")
    step: Step = {"op": "blur", "family": family, "size": size, "sigma_x": uniform(sigma_px, u[f"sigma_x_{when}"])}
    if family.endswith("aniso"):
        step["sigma_y"] = uniform(sigma_px, u[f"sigma_y_{when}"])
        step["theta"] = uniform((-math.pi, math.pi), u[f"theta_{when}"])
    beta = shape_exponent(profile, family, u[f"beta_side_{when}"], u[f"beta_{when}"])
    return step if beta is None else step | {"beta": beta}


def _draw_resize(
    profile: SecondOrderProfile, u: Mapping[str, float], when: str, base_hw: Sequence[int], full_hw: Sequence[int]
) -> Step:
    """First pass: by a factor, as the public code; second: to a share of ``base_hw`` (steps 3 and 7)."""
    enlarge = getattr(profile, f"enlarge_probability_{when}")
    shrink = getattr(profile, f"shrink_probability_{when}")
    factor = 1.0
    if u[f"direction_{when}"] < enlarge:
        factor = uniform(getattr(profile, f"enlarge_{when}"), u[f"factor_{when}"])
    elif u[f"direction_{when}"] < enlarge + shrink:
        factor = uniform(getattr(profile, f"shrink_{when}"), u[f"factor_{when}"])
    # No result is smaller than a pixel, which only matters for thumbnails.
    factor = max(factor, 1 / min(base_hw))
    step: Step = {"op": "resize", "mode": pick(MODES, u[f"mode_{when}"])}
    if when == "first":
        return step | {"factor": factor}
    return step | {"size_hw": [max(1, int(side / profile.final_scale * factor)) for side in full_hw]}


def _draw_noise(profile: SecondOrderProfile, u: Mapping[str, float], when: str, words: tuple[int, ...]) -> Step:
    step: Step = {"gray": u[f"gray_{when}"] < profile.gray_noise_probability, "seed": noise_seed(words)}
    level = u[f"noise_level_{when}"]
    if u[f"noise_kind_{when}"] < profile.gaussian_noise_probability:
        return {"op": "gaussian_noise", "sigma": uniform(getattr(profile, f"noise_sigma_{when}"), level)} | step
    return {"op": "poisson_noise", "scale": uniform(getattr(profile, f"poisson_scale_{when}"), level)} | step


def _jpeg_step(profile: SecondOrderProfile, u: float) -> Step:
    return {"op": "diffjpeg", "quality": uniform(profile.jpeg_quality, u)}


def _draw_final(profile: SecondOrderProfile, u: Mapping[str, float], small_hw: list[int]) -> list[Step]:
    """Step 9: resize and sinc filter before or after the last JPEG."""
    sharpen: list[Step] = [{"op": "resize", "mode": pick(MODES, u["final_mode"]), "size_hw": small_hw}]
    if u["final_sinc?"] < profile.final_sinc_probability:
        size = pick(profile.kernel_sizes, u["final_size"])
        omega = uniform((math.pi / 3, math.pi), u["final_omega"])
        sharpen.append({"op": "blur", "family": "sinc", "size": size, "omega": omega})
    compress = [_jpeg_step(profile, u["jpeg_quality_second"])]
    return [*sharpen, *compress] if u["final_order"] < 0.5 else [*compress, *sharpen]


def run(image: np.ndarray, steps: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Execute the steps of a record on float32 RGB ``(H, W, 3)`` in ``[0, 1]``."""
    for step in steps:
        options = {key: value for key, value in step.items() if key != "op"}
        image = _OPERATIONS[step["op"]](image, **options)
    return image


def usm_sharpen(image: np.ndarray, *, radius_px: int = 50, weight: float = 0.5, threshold: float = 10.0) -> np.ndarray:
    """Unsharp masking (section 2.2, step 1); DiffBIR also trains towards the sharpened image.

    Args:
        image: float32 RGB ``(H, W, 3)`` in ``[0, 1]``.
        radius_px: side of the Gaussian window, made odd; its sigma follows OpenCV's rule, 8 px for 50.
        weight: share of the residual that is added.
        threshold: residuals up to this, on the 0..255 scale, are left alone.
    """
    taps = cv2.getGaussianKernel(radius_px + 1 - radius_px % 2, 0)
    residual = image - _gaussian(image, taps)
    mask = (np.abs(residual) * np.float32(255) > np.float32(threshold)).astype(np.float32)
    soft_mask = _gaussian(mask, taps)
    sharp = np.clip(image + np.float32(weight) * residual, 0, 1)
    return soft_mask * sharp + (1 - soft_mask) * image


def _gaussian(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    return cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)


def poisson_levels(quantised: np.ndarray) -> float:
    """``2^ceil(log2(number of distinct values))``, all channels together."""
    return 2.0 ** math.ceil(math.log2(np.unique(quantised).size))


def _blur(image: np.ndarray, **kernel: Any) -> np.ndarray:
    return operations.blur(image, blur_kernel(**kernel))


def _gaussian_noise(image: np.ndarray, sigma: float, gray: bool, seed: Sequence[int]) -> np.ndarray:
    return operations.add_noise(image, operations.normal_field(seed, image.shape[:2], gray=gray), sigma)


def _poisson_noise(image: np.ndarray, scale: float, gray: bool, seed: Sequence[int]) -> np.ndarray:
    """Shot noise of the 8-bit image, or of its gray version for all channels alike."""
    exact = luma(operations.to_float(operations.to_uint8(image)))[..., None] if gray else image
    quantised = operations.to_float(operations.to_uint8(exact)).astype(np.float64)
    levels = poisson_levels(quantised)
    counts = np.random.RandomState(np.array(seed, np.uint32)).poisson(quantised * levels)
    noise = (counts / levels - quantised).astype(np.float32)
    return np.clip(image + noise * np.float32(scale), 0, 1)


def _resize(image: np.ndarray, mode: str, **size: Any) -> np.ndarray:
    return operations.interpolate(image, mode, **size)


def _diffjpeg(image: np.ndarray, quality: float) -> np.ndarray:
    return diffjpeg(np.clip(image, 0, 1), quality)


def _round(image: np.ndarray) -> np.ndarray:
    return operations.to_float(operations.to_uint8(image))


_OPERATIONS = {
    "usm": usm_sharpen,
    "blur": _blur,
    "resize": _resize,
    "gaussian_noise": _gaussian_noise,
    "poisson_noise": _poisson_noise,
    "diffjpeg": _diffjpeg,
    "round": _round,
}
