"""What becomes of pictures that cannot be measured."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.metrics.image import PSNR, psnr, psnr_metric, ssim_metric
from lit_restore.metrics.measurement import NO_TRUTH, Comparison, Judgement, MetricInfo


def test_a_picture_without_truth_fails_alone(make_batch) -> None:
    hq, restored = pictures(0, 3, 3, 16, 16), pictures(1, 3, 3, 16, 16)
    batch = make_batch(hq, has_hq=torch.tensor([True, False, True]))
    values = psnr_metric()(restored, batch)["psnr"]
    expected = psnr((restored + 1) / 2, (hq + 1) / 2)
    assert values.failures == {1: NO_TRUTH}
    assert math.isnan(values.numbers[1])
    torch.testing.assert_close(values.numbers[[0, 2]], expected[[0, 2]].double())
    assert values.numbers.dtype == torch.float64


def test_a_batch_without_any_truth(make_batch) -> None:
    batch = make_batch(pictures(0, 2, 3, 16, 16), has_hq=torch.tensor([False, False]))
    values = ssim_metric()(pictures(1, 2, 3, 16, 16), batch)["ssim"]
    assert values.failures == {0: NO_TRUTH, 1: NO_TRUTH}


def test_what_is_not_defined_fails_with_its_reason(make_batch) -> None:
    def first_only(restored: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.5, torch.nan])

    batch = make_batch(pictures(0, 2, 3, 16, 16))
    for metric in (Comparison("x", PSNR, first_only, {}, "too flat"), Judgement("x", PSNR, first_only, {}, "too flat")):
        values = metric(pictures(1, 2, 3, 16, 16), batch)["x"]
        assert values.numbers[0] == 0.5
        assert values.failures == {1: "too flat"}


def test_pixels_are_clipped_as_in_a_picture_file(make_batch) -> None:
    hq = torch.ones(1, 3, 16, 16)
    assert psnr_metric()(5 * hq, make_batch(hq))["psnr"].numbers.item() == math.inf
    seen = []
    Judgement("x", MetricInfo("X", True, "{}"), lambda x: seen.append(x) or x.mean((1, 2, 3)), {})(-3 * hq, {})
    assert torch.equal(seen[0], torch.zeros(1, 3, 16, 16))


def test_other_sizes_are_refused(make_batch) -> None:
    with pytest.raises(UserError, match=r"differ from the truth in size; expected 24x16; found 16x16"):
        psnr_metric()(pictures(0, 1, 3, 16, 16), make_batch(pictures(0, 1, 3, 16, 24)))
    with pytest.raises(UserError, match="too small for SSIM; expected at least 11 px; found 8 px"):
        ssim_metric()(pictures(0, 1, 3, 8, 16), make_batch(pictures(0, 1, 3, 8, 16)))
