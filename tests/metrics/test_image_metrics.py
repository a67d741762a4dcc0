"""PSNR, SSIM and MS-SSIM as metrics; the functions themselves are tested in test_metric_suite.py."""

from __future__ import annotations

import math

import torch
from helpers import pictures
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lit_restore.metrics.image import ms_ssim_metric, psnr_metric, ssim_metric
from lit_restore.metrics.suite import MetricSuite


def test_ms_ssim_equals_torchmetrics(make_batch) -> None:
    hq = torch.nn.functional.interpolate(pictures(0, 3, 3, 24, 24), (192, 208), mode="bicubic").clamp(-1, 1)
    restored = (hq + torch.tensor([0.05, 0.2, 0.5]).view(-1, 1, 1, 1) * pictures(1, 3, 3, 192, 208)).clamp(-1, 1)
    values = ms_ssim_metric()(restored, make_batch(hq))["ms_ssim"].numbers
    expected = multiscale_structural_similarity_index_measure(
        (restored + 1) / 2, (hq + 1) / 2, data_range=1.0, reduction="none"
    )
    # torchmetrics reflects the borders, which are left out here; and it takes channels together.
    torch.testing.assert_close(values, expected.double(), atol=2e-4, rtol=0)
    assert values.tolist() == sorted(values.tolist(), reverse=True)


def test_equal_pictures_are_perfect(make_batch) -> None:
    hq = pictures(0, 2, 3, 64, 64)
    batch = make_batch(hq)
    assert psnr_metric()(hq, batch)["psnr"].numbers.tolist() == [math.inf, math.inf]
    for name, metric in (("ssim", ssim_metric()), ("ms_ssim", ms_ssim_metric())):
        torch.testing.assert_close(metric(hq, batch)[name].numbers, torch.ones(2).double(), atol=1e-6, rtol=0)


def test_the_same_numbers_as_during_training(make_batch) -> None:
    hq, restored = pictures(0, 2, 3, 32, 32), pictures(1, 2, 3, 32, 32)
    training = MetricSuite()(restored, hq)
    for name, metric in (("psnr", psnr_metric()), ("ssim", ssim_metric())):
        torch.testing.assert_close(metric(restored, make_batch(hq))[name].numbers, training[name].double())
