"""The degradation inside an albumentations pipeline."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
albumentations = pytest.importorskip("albumentations")

from lit_restore.data.degradation import Degradation, degrade  # noqa: E402
from lit_restore.data.degradation.albumentations_adapter import DegradationTransform  # noqa: E402


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


def test_pipeline_gives_the_image_of_the_record() -> None:
    degradation = Degradation(seed=4)
    pipeline = albumentations.Compose([DegradationTransform(degradation)])
    lq = pipeline(image=image(), key="a.png", epoch=2)["image"]
    expected = degrade(image(), degradation.record("a.png", 2, (64, 48)))
    np.testing.assert_array_equal(lq, expected)
    np.testing.assert_array_equal(pipeline(image=image(), key="a.png", epoch=2)["image"], expected)
    assert np.abs(pipeline(image=image(), key="b.png")["image"] - expected).max() > 0


def test_record_fits_the_image_after_earlier_transforms() -> None:
    pipeline = albumentations.Compose(
        [albumentations.CenterCrop(32, 40), DegradationTransform(Degradation())], save_applied_params=True
    )
    result = pipeline(image=image(), key="a.png")
    assert result["image"].shape == (32, 40, 3)
    name, params = result["applied_transforms"][-1]
    assert name == "DegradationTransform"
    assert params["record"] == Degradation().record("a.png", 0, (32, 40))


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="key"):
        albumentations.Compose([DegradationTransform(Degradation())])(image=image())
