"""Image + record -> image: reproducibility, bad input, and the severity of the profiles (degradations.md 6.6)."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
import torch

from lit_restore.data.degradation import Degradation, degrade, profile_names
from lit_restore.errors import UserError


def photo(seed: int, size_px: int = 128) -> np.ndarray:
    """Uint8 RGB with the 1/f amplitudes of photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    frequency[0, 0] = np.inf
    planes = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3, size_px, size_px))) / frequency, s=(size_px, size_px))
    return np.clip(128 + 45 * planes / planes.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


@pytest.mark.parametrize("name", profile_names())
def test_a_record_gives_the_same_bits_directly_and_through_json(name: str) -> None:
    image = photo(0)
    untouched = image.copy()
    degradation = Degradation(name)
    for key in ("a.png", "b.png", "c.png"):
        record = degradation.record(key, 0, image.shape[:2])
        before = copy.deepcopy(record)
        lq = degrade(image, record, exact=True)
        assert lq.dtype == np.float32
        assert lq.shape == image.shape
        assert lq.min() >= 0
        assert lq.max() <= 1
        assert degrade(image, json.loads(json.dumps(record))).tobytes() == lq.tobytes()
        assert record == before
    np.testing.assert_array_equal(image, untouched)


@pytest.mark.parametrize("name", ["gfpgan", "instantrestore_eval", "realesrgan", "codeformer_stage2"])
def test_rounded_profiles_end_on_the_8_bit_grid(name: str) -> None:
    image = photo(1)
    lq = degrade(image, Degradation(name).record("a.png", 0, image.shape[:2]))
    np.testing.assert_allclose(255 * lq, np.rint(255 * lq), atol=2e-5)


def test_stages_follow_one_another() -> None:
    image = photo(2)
    record = Degradation("osdface").record("a.png", 0, image.shape[:2])
    single = {key: value for key, value in record.items() if key != "stages"} | record["stages"][0]
    first = degrade(image, single | {"round": True})
    second = single | record["stages"][1]
    through_8_bits = degrade((255 * first).round().astype(np.uint8), second)
    assert np.abs(degrade(image, record) - through_8_bits).mean() < 2 / 255


def test_missing_steps_are_identities() -> None:
    image = photo(3)
    record = Degradation(overrides={"scale": 1.0}).record("a.png", 0, image.shape[:2])
    nothing = record | {"kernel": None, "noise": None, "jpeg": None}
    np.testing.assert_array_equal(degrade(image, nothing), image.astype(np.float32) / np.float32(255))


def test_global_generators_are_left_alone() -> None:
    image = photo(4)

    def states() -> list[object]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002

    before = states()
    for name in ("gfpgan", "realesrgan", "osdface"):
        degrade(image, Degradation(name).record("a.png", 5, image.shape[:2]))
    assert states() == before


def test_severity_is_ordered_as_measured_on_faces() -> None:
    """Mean PSNR of LQ: moderate > gfpgan > diffbir_face > x16 > severe (section 6.6, check 8)."""
    images = [photo(seed, 512) for seed in range(4)]
    means = []
    for name in ("ffhqref_moderate", "gfpgan", "diffbir_face", "sr_x16", "ffhqref_severe"):
        overrides = {f"color_{kind}_probability": 0.0 for kind in ("shift", "jitter")} if name == "gfpgan" else None
        degradation = Degradation(name, overrides=overrides)
        errors = [
            np.mean((degrade(image, degradation.record(f"{index}-{draw}")) - image / 255) ** 2)
            for index, image in enumerate(images)
            for draw in range(10)
        ]
        means.append(float(np.mean(-10 * np.log10(errors))))
    assert means == sorted(means, reverse=True), means


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((16, 16, 3), np.float32),
        np.zeros((16, 16), np.uint8),
        np.zeros((16, 16, 4), np.uint8),
        np.zeros((3, 16, 16), np.uint8),
        [[0]],
    ],
)
def test_wrong_images_are_refused(image: object) -> None:
    with pytest.raises(UserError, match=r"expected uint8 RGB of shape \(H, W, 3\); found"):
        degrade(image, Degradation().record("a.png", 0, (16, 16)))


def test_image_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"expected 16x16 pixels.*found 16x20"):
        degrade(np.zeros((16, 20, 3), np.uint8), Degradation().record("a.png", 0, (16, 16)))


def test_broken_records_are_refused() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    record = Degradation().record("a.png", 0, (16, 16))
    with pytest.raises(UserError, match=r"later version.*found 2"):
        degrade(image, record | {"version": 2})
    with pytest.raises(UserError, match="not a degradation record"):
        degrade(image, {"kernel": None})
    with pytest.raises(UserError, match=r"incomplete.*'noise'"):
        degrade(image, {key: value for key, value in record.items() if key != "noise"})
    with pytest.raises(UserError, match=r"unknown step.*Did you mean 'blur'"):
        degrade(image, record | {"order": ["blurr"]})


def test_exact_refuses_other_libraries_and_names_them() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    record = Degradation().record("a.png", 0, (16, 16))
    record["libraries"]["opencv"] = "4.8.1"
    degrade(image, record)
    with pytest.raises(UserError, match=r"expected opencv 4\.8\.1; found opencv"):
        degrade(image, record, exact=True)
    # A changed record must not have touched what later records say.
    degrade(image, Degradation().record("a.png", 0, (16, 16)), exact=True)


def test_scale_to_resolution_is_for_the_first_order() -> None:
    with pytest.raises(UserError, match="not defined for a second-order"):
        Degradation("realesrgan", scale_to_resolution=True)
