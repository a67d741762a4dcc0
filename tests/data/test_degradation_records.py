"""What is drawn: distributions, independence, keys, JSON (degradations.md 6.2, 6.3, 6.6)."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from lit_restore.data.degradation import PROFILES, Degradation, Profile, profile_names
from lit_restore.data.degradation.seeds import derive_words

FIRST_ORDER = [name for name, profile in PROFILES.items() if isinstance(profile, Profile)]
NUM_DRAWS = {"diffbir_face": 10_000}  # the others share its code


def draw(name: str, count: int, **options: Any) -> list[dict[str, Any]]:
    degradation = Degradation(name, seed=3, **options)
    records = [degradation.record(f"{index}.png") for index in range(count)]
    return [stage for record in records for stage in record.get("stages", [record])]


def assert_uniform(values: list[float], low: float, high: float) -> None:
    assert low <= min(values)
    assert max(values) <= high
    if low < high:
        assert kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_draws_are_uniform_in_the_ranges(name: str) -> None:
    profile = PROFILES[name]
    stages = draw(name, NUM_DRAWS.get(name, 1000))
    kernels = [stage["kernel"] for stage in stages if stage["kernel"]]
    assert_uniform([kernel["sigma_x"] for kernel in kernels], *profile.sigma_px)
    turned = [kernel for kernel in kernels if kernel["family"] == "aniso"]
    if turned:
        assert_uniform([kernel["sigma_y"] for kernel in turned], *profile.sigma_px)
        assert_uniform([kernel["theta"] for kernel in turned], -math.pi, math.pi)
    share = profile.families.get("aniso", 0.0)
    assert len(turned) / len(kernels) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / len(kernels)))
    assert_uniform([stage["noise"]["sigma"] for stage in stages if stage["noise"]], *profile.noise_sigma)
    low, high = profile.jpeg_quality
    qualities = {stage["jpeg"]["quality"] for stage in stages if stage["jpeg"]}
    assert qualities == set(range(int(low), int(high)))
    if profile.integer_scale:
        assert {stage["scale"] for stage in stages} == set(range(int(profile.scale[0]), int(profile.scale[1])))
    else:
        assert_uniform([stage["scale"] for stage in stages], *profile.scale)
    assert all(stage["down_hw"] == [int(512 // stage["scale"])] * 2 for stage in stages)


def test_random_combination_leaves_steps_out_as_often_as_dfdnet() -> None:
    stages = draw("sr_x8_random_combination", 2000)
    for step, share in (("kernel", 0.9), ("noise", 0.9), ("jpeg", 0.6)):
        assert np.mean([stage[step] is not None for stage in stages]) == pytest.approx(share, abs=0.04)
    assert {tuple(stage["down_hw"]) for stage in stages} == {(64, 64)}


def test_gfpgan_changes_colours_as_often_as_published() -> None:
    colors = [stage["color"] or {} for stage in draw("gfpgan", 3000)]
    for change, share in (("shift", 0.3), ("jitter", 0.3), ("gray", 0.01)):
        assert np.mean([change in color for color in colors]) == pytest.approx(share, abs=0.03)
    jitters = [dict(color["jitter"]) for color in colors if "jitter" in color]
    for name, low, high in (
        ("brightness", 0.5, 1.5),
        ("contrast", 0.5, 1.5),
        ("saturation", 0, 1.5),
        ("hue", -0.1, 0.1),
    ):
        assert_uniform([jitter[name] for jitter in jitters], low, high)
    assert len({tuple(jitter) for jitter in jitters}) == 24
    assert_uniform([value for color in colors for value in color.get("shift", ())], -20 / 255, 20 / 255)
    assert not any(stage["color"] for stage in draw("vqfr", 200))


def test_shape_exponents_have_two_sides() -> None:
    families = {"generalized_iso": 0.5, "plateau_iso": 0.5}
    kernels = [stage["kernel"] for stage in draw("diffbir_face", 2000, overrides={"families": families})]
    generalized = [kernel["beta"] for kernel in kernels if kernel["family"] == "generalized_iso"]
    plateau = [kernel["beta"] for kernel in kernels if kernel["family"] == "plateau_iso"]
    assert np.mean([beta < 1 for beta in generalized]) == pytest.approx(0.5, abs=0.06)
    assert_uniform([beta for beta in generalized if beta > 1], 1, 4)
    assert np.mean([beta == 1 for beta in plateau]) == pytest.approx(0.5, abs=0.06)


def test_seed_key_and_epoch_all_matter_and_only_they() -> None:
    base = Degradation(seed=1).record("a.png", 0)
    assert Degradation(seed=1).record("a.png", 0) == base
    for other in (
        Degradation(seed=2).record("a.png", 0),
        Degradation(seed=1).record("b.png", 0),
        Degradation(seed=1).record("a.png", 1),
    ):
        assert other["scale"] != base["scale"]
        assert other["noise"]["seed"] != base["noise"]["seed"]


def test_keys_are_compared_in_composed_unicode() -> None:
    name = "Zoë/é.png"
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert Degradation().record(composed) == Degradation().record(decomposed)


def test_changing_one_range_leaves_the_other_parameters() -> None:
    base = Degradation().record("a.png")
    changed = Degradation(overrides={"jpeg_quality": (90, 95), "noise_probability": 0.0}).record("a.png")
    assert changed["jpeg"]["quality"] >= 90
    assert changed["noise"] is None
    for field in ("kernel", "scale", "down_hw"):
        assert changed[field] == base[field]


def test_first_of_several_stages_is_the_single_stage() -> None:
    one, two = Degradation("osdface", overrides={"num_stages": 1}), Degradation("osdface")
    stages = two.record("a.png")["stages"]
    assert stages[0].items() <= one.record("a.png").items()
    assert stages[1]["noise"]["seed"] != stages[0]["noise"]["seed"]
    assert len({derive_words(0, "a.png", 0, stage) for stage in range(3)}) == 3


@pytest.mark.parametrize("name", profile_names())
def test_record_is_small_json(name: str) -> None:
    degradation = Degradation(name)
    for index in range(50):
        record = degradation.record(f"some/person/{index:05d}.png", 123456)
        text = json.dumps(record, allow_nan=False)
        assert json.loads(text) == record
        assert len(text) < (1000 if "order" in record else 2000)


def test_scale_to_resolution_shrinks_the_blur_and_the_excess_of_the_scale() -> None:
    full = Degradation().record("a.png", 0, (512, 512))
    quarter = Degradation(scale_to_resolution=True).record("a.png", 0, (128, 128))
    assert quarter["kernel"]["sigma_x"] == pytest.approx(full["kernel"]["sigma_x"] / 4)
    assert quarter["kernel"]["size"] == 11
    assert quarter["scale"] == pytest.approx(1 + (full["scale"] - 1) / 4)
    assert quarter["noise"] == full["noise"]
    assert quarter["jpeg"] == full["jpeg"]
    assert Degradation(scale_to_resolution=True).record("a.png") == full


def test_tiny_and_oblong_images() -> None:
    record = Degradation("ffhqref_severe").record("a.png", 0, (3, 1024))
    assert record["down_hw"][0] == 1
    assert record["down_hw"][1] == int(1024 // record["scale"])
    assert record["out_hw"] == [3, 1024]
