"""The table of ranges against the specification, and overriding them."""

from __future__ import annotations

from typing import Any

import pytest

from lit_restore.data.degradation import PROFILES, Degradation, profile_names
from lit_restore.data.degradation.profile_types import override
from lit_restore.errors import UserError

# degradations.md 1.4, 3.1, 5.3: sigma, r, delta, q
RANGES = {
    "diffbir_face": ((0.1, 12), (1, 12), (0, 15), (30, 100)),
    "codeformer_stage2": ((1, 15), (4, 30), (0, 20), (30, 80)),
    "codeformer_stage3_small": ((0.1, 10), (1, 12), (0, 15), (60, 100)),
    "codeformer_stage3_large": ((1, 15), (4, 30), (0, 20), (30, 80)),
    "gfpgan": ((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
    "vqfr": ((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
    "restoreformer": ((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
    "reflm_train": ((0, 16), (1, 32), (0, 20), (30, 100)),
    "ffhqref_moderate": ((0, 8), (1, 8), (0, 15), (60, 100)),
    "ffhqref_severe": ((8, 16), (8, 32), (0, 20), (30, 100)),
    "faceme": ((0.2, 10), (1, 16), (0, 15), (30, 100)),
    "osdface": ((0.1, 10), (0.8, 16), (0, 15), (40, 95)),
    "instantrestore_code": ((0.1, 12), (1, 13), (10, 20), (10, 20)),
    "sr_x4": ((0.1, 12), (4, 4), (0, 15), (30, 100)),
    "sr_x8": ((0.1, 12), (8, 8), (0, 15), (30, 100)),
    "sr_x16": ((0.1, 12), (16, 16), (0, 15), (30, 100)),
    "sr_x16_random_combination": ((0.1, 12), (16, 16), (0, 15), (30, 100)),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges_are_those_of_the_specification(name: str) -> None:
    profile = PROFILES[name]
    assert (profile.sigma_px, profile.scale, profile.noise_sigma, profile.jpeg_quality) == RANGES[name]


def test_every_profile_is_checked_or_has_no_simple_ranges() -> None:
    others = {"instantrestore_eval", "realesrgan", "sr_x4_random_combination", "sr_x8_random_combination"}
    assert set(profile_names()) == RANGES.keys() | others
    assert all(PROFILES[name].name == name and PROFILES[name].source for name in profile_names())


def test_particulars() -> None:
    code, released = PROFILES["instantrestore_code"], PROFILES["instantrestore_eval"]
    assert code.families == {"aniso": 1.0}
    assert code.integer_scale
    assert not code.antialias
    assert code.jpeg_channel_order == "bgr"
    assert released.order == ("blur", "noise", "down", "up", "jpeg")
    assert released.families == {"iso": 1.0}
    assert released.jpeg_quality == (30, 60)
    assert PROFILES["osdface"].num_stages == 2
    assert PROFILES["restoreformer"].kernel_sizes == (39, 41)
    assert [name for name in RANGES if PROFILES[name].gray_probability > 0] == ["gfpgan"]
    # GFPGAN, VQFR, CodeFormer and ReF-LDM round the result, DiffBIR and FaceMe do not (section 1.2).
    rounding = {name for name in RANGES if PROFILES[name].round}
    assert rounding >= {"gfpgan", "vqfr", "codeformer_stage2", "reflm_train", "ffhqref_severe"}
    assert not rounding & {"diffbir_face", "faceme"}


def test_override_takes_values_as_yaml_gives_them() -> None:
    changes = {"scale": 4, "jpeg_quality": [60, 80], "families": {"iso": 1}, "kernel_sizes": [21], "round": True}
    profile = override(PROFILES["diffbir_face"], changes)
    assert profile.scale == (4.0, 4.0)
    assert profile.jpeg_quality == (60.0, 80.0)
    assert profile.families == {"iso": 1.0}
    assert profile.kernel_sizes == (21,)
    assert profile.round
    assert profile.sigma_px == PROFILES["diffbir_face"].sigma_px
    assert profile.name == "diffbir_face+families,jpeg_quality,kernel_sizes,round,scale"


def test_every_range_of_every_profile_can_be_overridden() -> None:
    for profile in PROFILES.values():
        for name in vars(profile):
            if isinstance(getattr(profile, name), tuple) and name not in ("order", "kernel_sizes"):
                assert getattr(override(profile, {name: 1.0 if "quality" not in name else 50}), name)


def test_unknown_names_are_corrected() -> None:
    with pytest.raises(UserError, match="Did you mean 'diffbir_face'"):
        Degradation("difbir_face")
    with pytest.raises(UserError, match=r"diffbir_face\.jpg_quality.*Did you mean 'jpeg_quality'"):
        Degradation(overrides={"jpg_quality": (1, 2)})
    with pytest.raises(UserError, match="Did you mean 'aniso'"):
        Degradation(overrides={"families": {"anso": 1.0}})


@pytest.mark.parametrize(
    "overrides",
    [
        {"sigma_px": (5, 1)},
        {"sigma_px": (-1, 1)},
        {"sigma_px": "wide"},
        {"sigma_px": (1, 2, 3)},
        {"sigma_px": float("nan")},
        {"scale": 0},
        {"jpeg_quality": (0, 50)},
        {"jpeg_quality": (50, 120)},
        {"jpeg_quality": 101},
        {"jpeg_quality": True},
        {"families": {"iso": 0.5}},
        {"families": {"iso": 2.0, "aniso": -1.0}},
        {"kernel_sizes": (40,)},
        {"kernel_sizes": ()},
        {"noise_probability": 1.5},
        {"noise_probability": "often"},
        {"beta_plateau": (2, 3)},
        {"order": ("blur", "down")},
        {"jpeg_codec": "webp"},
        {"jpeg_codec": "diffjpeg", "jpeg_quality": 100},
        {"jpeg_channel_order": "grb"},
        {"num_stages": 0},
        {"num_stages": 1.5},
        {"round": 1},
    ],
)
def test_senseless_values_are_refused_by_name(overrides: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"diffbir_face\S*\.({'|'.join(overrides)}); expected .*found"):
        Degradation(overrides=overrides)


@pytest.mark.parametrize(
    "overrides",
    [{"shrink_first": 0}, {"shrink_probability_second": 0.9}, {"final_scale": 0}, {"jpeg_quality": (30, 101)}],
)
def test_senseless_values_of_the_second_order_are_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"realesrgan\S*\.\w+; expected"):
        Degradation("realesrgan", overrides=overrides)
