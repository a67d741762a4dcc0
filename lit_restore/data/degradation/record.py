"""Draws of one sample as a small dict, from which its LQ image can be made again (degradations.md 6.2, 6.3).

A record is JSON: ``json.loads(json.dumps(record))`` degrades to the same bits. Records of a degradation with one stage
carry the fields of section 6.3 at the top level; with several, a list ``stages`` of such fields; the second-order
chain (`lit_restore.data.degradation.realesrgan`) a list ``steps``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lit_restore.data.degradation import color, realesrgan
from lit_restore.data.degradation.draws import pick, pick_family, shape_exponent, uniform
from lit_restore.data.degradation.profile_types import AnyProfile, Profile, override
from lit_restore.data.degradation.profiles import find_profile
from lit_restore.data.degradation.seeds import derive_words, noise_seed, parameter_uniforms
from lit_restore.data.degradation.versions import record_header
from lit_restore.errors import UserError

REFERENCE_SIDE_PX = 512  # the face size the ranges of all profiles are stated for

# The first ten are fixed by section 6.2. All slots are always drawn, so that changing a range, a family list or a
# probability leaves every other parameter as it was; new slots may only be appended.
SLOTS = (
    *("family", "sigma_x", "sigma_y", "theta", "beta_side", "beta", "scale", "noise_sigma", "gray", "jpeg_quality"),
    *("kernel_size", "blur?", "noise?", "jpeg?"),
    *color.SLOTS,
)


class Degradation:
    """Records of one profile and one dataset seed.

    Args:
        profile: name of a published profile (`profile_names`) or a profile of your own.
        seed: dataset seed, any integer.
        overrides: ranges and settings to replace, e.g. ``{"scale": 4, "jpeg_quality": (60, 100)}``.
        scale_to_resolution: treat a face of side ``s`` like a shrunken 512 px face. With ``f = s / 512`` blur sigmas
            are multiplied by ``f``, kernel sizes become ``2 round(f (size - 1) / 2) + 1`` (at least 3), and the
            scale ``r`` becomes ``1 + (r - 1) f``. Noise and JPEG act at the low resolution and stay. Off, the
            ranges are taken literally at every size.

    Raises:
        UserError: unknown profile, or an override that does not exist or makes no sense.
    """

    def __init__(
        self,
        profile: str | AnyProfile = "diffbir_face",
        *,
        seed: int = 0,
        overrides: Mapping[str, Any] | None = None,
        scale_to_resolution: bool = False,
    ) -> None:
        self.profile = override(find_profile(profile) if isinstance(profile, str) else profile, overrides)
        self.seed = seed
        self.scale_to_resolution = scale_to_resolution
        if scale_to_resolution and not isinstance(self.profile, Profile):
            raise UserError(
                "scale_to_resolution is not defined for a second-order degradation",
                where=self.profile.name,
                fix="Leave it off or choose a first-order profile.",
            )

    def record(self, key: str, epoch: int = 0, size_hw: Sequence[int] = (512, 512)) -> dict[str, Any]:
        """Parameters for one sample.

        Args:
            key: stable name of the photo: path relative to the data root with ``/``; brought to Unicode NFC here.
            epoch: the running epoch in training, always 0 in validation and test.
            size_hw: height and width of the image that will be degraded.
        """
        key = unicodedata.normalize("NFC", key)
        size_hw = (int(size_hw[0]), int(size_hw[1]))
        profile = self.profile
        if not isinstance(profile, Profile):
            words = [derive_words(self.seed, key, epoch, stage) for stage in range(2)]
            return record_header(profile.name, "torch", "scipy") | realesrgan.draw(profile, words, size_hw)
        if self.scale_to_resolution:
            profile = _scaled(profile, min(size_hw) / REFERENCE_SIDE_PX)
        stages = [
            draw_stage(profile, derive_words(self.seed, key, epoch, stage), size_hw)
            for stage in range(profile.num_stages)
        ]
        needed = ["torch"] * profile.antialias + ["scipy"] * (profile.jpeg_codec == "diffjpeg")
        header = record_header(profile.name, *needed)
        return header | (stages[0] if len(stages) == 1 else {"stages": stages, "out_hw": list(size_hw)})


def draw_stage(profile: Profile, words: tuple[int, ...], size_hw: tuple[int, int]) -> dict[str, Any]:
    """The fields of section 6.3 for one first-order stage; ``words`` as `derive_words` gives them."""
    u = dict(zip(SLOTS, parameter_uniforms(words, len(SLOTS)), strict=True))
    scale = uniform(profile.scale, u["scale"])
    scale = int(scale) if profile.integer_scale else scale
    blurred, noisy = u["blur?"] < profile.blur_probability, u["noise?"] < profile.noise_probability
    noise = {
        "sigma": uniform(profile.noise_sigma, u["noise_sigma"]),
        "gray": u["gray"] < profile.gray_noise_probability,
        "seed": noise_seed(words),
    }
    return {
        "order": list(profile.order),
        "kernel": _draw_kernel(profile, u) if blurred else None,
        "scale": scale,
        # Floor division as in the public code: 96 // 0.8 is 119, because 0.8 is a little more than 8/10 in binary.
        "down_hw": [max(1, int(side // scale)) for side in size_hw],
        "interpolation": {"down": "bilinear", "up": "bilinear", "antialias": profile.antialias},
        "noise": noise if noisy else None,
        "jpeg": _draw_jpeg(profile, u["jpeg_quality"]) if u["jpeg?"] < profile.jpeg_probability else None,
        "color": color.draw_color(profile, u),
        "out_hw": list(size_hw),
        "round": profile.round,
    }


def _draw_kernel(profile: Profile, u: Mapping[str, float]) -> dict[str, Any]:
    family = pick_family(profile.families, u["family"])
    turned = family.endswith("aniso")
    return {
        "family": family,
        "size": pick(profile.kernel_sizes, u["kernel_size"]),
        "sigma_x": uniform(profile.sigma_px, u["sigma_x"]),
        "sigma_y": uniform(profile.sigma_px, u["sigma_y"]) if turned else None,
        "theta": uniform((-np.pi, np.pi), u["theta"]) if turned else None,
        "beta": shape_exponent(profile, family, u["beta_side"], u["beta"]),
    }


def _draw_jpeg(profile: Profile, u: float) -> dict[str, Any]:
    return {
        "quality": int(uniform(profile.jpeg_quality, u)),
        "codec": profile.jpeg_codec,
        "subsampling": "4:2:0",
        "channel_order": profile.jpeg_channel_order,
    }


def _scaled(profile: Profile, factor: float) -> Profile:
    """Ranges for another face size; the rule stands in `Degradation`."""
    return replace(
        profile,
        sigma_px=tuple(factor * sigma for sigma in profile.sigma_px),
        kernel_sizes=tuple(max(3, 2 * round(factor * (size - 1) / 2) + 1) for size in profile.kernel_sizes),
        scale=tuple(1 + factor * (scale - 1) for scale in profile.scale),
    )
