from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import pictures

from lit_restore.faces.alignment import ffhq_template, transform_points
from lit_restore.metrics.measurement import NO_TRUTH
from lit_restore.metrics.regions import REGIONS, RegionError, region_masks

POINTS5 = ffhq_template(256)


def test_every_pixel_is_in_one_region() -> None:
    masks = region_masks(POINTS5, 256, 300)
    assert list(masks) == list(REGIONS)
    assert (np.sum(list(masks.values()), axis=0) == 1).all()


def test_areas_are_those_of_the_ellipses() -> None:
    masks = region_masks(POINTS5, 256, 256)
    distance = np.linalg.norm(POINTS5[1] - POINTS5[0])
    width = np.linalg.norm(POINTS5[4] - POINTS5[3])
    assert masks["eyes"].sum() == pytest.approx(2 * math.pi * 0.32 * 0.20 * distance**2, rel=0.02)
    assert masks["mouth"].sum() == pytest.approx(math.pi * (width / 2 + 0.10 * distance) * 0.26 * distance, rel=0.02)
    assert 0.05 < 1 - masks["rest"].mean() < 0.09


def test_regions_turn_with_the_face() -> None:
    quarter = np.array([[0.0, -1, 255], [1, 0, 0]])  # x, y -> 255 - y, x
    turned = region_masks(transform_points(POINTS5, quarter), 256, 256)
    for name, mask in region_masks(POINTS5, 256, 256).items():
        assert (np.rot90(mask, -1) != turned[name]).mean() < 1e-3


def test_an_error_is_seen_where_it_is(make_batch) -> None:
    hq = pictures(0, 3, 3, 256, 256) * 0.5
    restored = hq.clone()
    masks = {name: torch.from_numpy(mask) for name, mask in region_masks(POINTS5, 256, 256).items()}
    restored[0][:, masks["mouth"]] += 2 * 10 / 255
    restored[1][:, masks["eyes"]] -= 2 * 20 / 255
    restored[1, :, masks["rest"]] += 2 * 3 / 255
    values = RegionError("template")(restored, make_batch(hq))
    expected = {"eyes": [0, 20, 0], "mouth": [10, 0, 0], "rest": [0, 3, 0]}
    for name in REGIONS:
        assert values[f"error_{name}"].numbers.tolist() == pytest.approx(expected[name], abs=1e-4)
        assert not values[f"error_{name}"].failures


def test_regions_add_up_to_the_picture(make_batch) -> None:
    hq, restored = pictures(0, 1, 3, 256, 256), pictures(1, 1, 3, 256, 256)
    values = RegionError("template")(restored, make_batch(hq))
    masks = region_masks(POINTS5, 256, 256)
    mean = sum(values[f"error_{name}"].numbers.item() * masks[name].mean() for name in REGIONS)
    assert mean == pytest.approx((restored - hq).abs().mean().item() * 127.5, rel=1e-5)


def test_pictures_without_truth_or_landmarks_fail(make_batch) -> None:
    metric = RegionError("target")
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54] = POINTS5
    known = torch.tensor([True, False, True])
    batch = make_batch(
        pictures(0, 3, 3, 256, 256),
        landmarks=torch.from_numpy(points).float().repeat(3, 1, 1),
        landmark_mask=known[:, None].expand(-1, 68),
        has_hq=torch.tensor([True, True, False]),
    )
    values = metric(pictures(1, 3, 3, 256, 256), batch)
    for name in REGIONS:
        assert values[f"error_{name}"].failures == {1: "no landmarks of the truth", 2: NO_TRUTH}
    template = RegionError("template")(pictures(1, 3, 3, 256, 256), batch)
    assert values["error_eyes"].numbers[0].item() == pytest.approx(template["error_eyes"].numbers[0].item(), abs=1e-3)


def test_a_mouth_outside_of_the_picture_fails_alone(make_batch) -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54] = POINTS5
    shown = int(POINTS5[2, 1])  # down to the nose
    batch = make_batch(
        pictures(0, 1, 3, shown, 256),
        landmarks=torch.from_numpy(points).float()[None],
        landmark_mask=torch.ones(1, 68, dtype=torch.bool),
    )
    values = RegionError("target")(pictures(1, 1, 3, shown, 256), batch)
    assert values["error_mouth"].failures == {0: "outside of the picture"}
    assert not values["error_eyes"].failures
