"""PSNR and SSIM against scikit-image, per image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from face_networks import write_reid
from helpers import pictures
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from lit_restore.data.canonical_face import POINTS_68, densify
from lit_restore.faces.alignment import ffhq_template, points_5_from_68, similarity, transform_points
from lit_restore.faces.crop import REID_CROP, crop_faces
from lit_restore.metrics.image import psnr, ssim
from lit_restore.metrics.suite import METRICS, MetricSuite
from lit_restore.models.recognition import Recognizer, load_recognizer


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of different quality, (4, 3, 40, 56) in [0, 1]."""
    hq = (pictures(0, 4, 3, 40, 56) + 1) / 2
    strength = torch.tensor([0.01, 0.05, 0.2, 0.6]).view(-1, 1, 1, 1)
    return (hq + strength * pictures(1, 4, 3, 40, 56)).clamp(0, 1), hq


def test_psnr_equals_scikit_image_per_image(pair) -> None:
    restored, hq = pair
    expected = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1.0) for a, b in zip(restored, hq, strict=True)
    ]
    assert psnr(restored, hq).tolist() == pytest.approx(expected, abs=1e-3)


def test_psnr_closed_form() -> None:
    images = torch.zeros(2, 3, 8, 8)
    assert psnr(images + 0.1, images).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)


def test_ssim_equals_scikit_image_per_image(pair) -> None:
    restored, hq = pair
    expected = [
        structural_similarity(
            b.permute(1, 2, 0).numpy(), a.permute(1, 2, 0).numpy(), data_range=1.0, channel_axis=2,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for a, b in zip(restored, hq, strict=True)
    ]  # fmt: skip
    assert ssim(restored, hq).tolist() == pytest.approx(expected, abs=1e-4)


def test_values_do_not_depend_on_the_batch(pair) -> None:
    restored, hq = pair
    for metric in (psnr, ssim):
        together = metric(restored, hq)
        assert together.shape == (4,)
        for index in range(4):
            alone = metric(restored[index : index + 1], hq[index : index + 1])
            assert alone.shape == (1,)
            torch.testing.assert_close(alone[0], together[index], atol=1e-4, rtol=1e-5)


class Direction(nn.Module):
    """Stands for a recognition network: the mean colour."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean((2, 3))


class Distance(nn.Module):
    """Stands for LPIPS."""

    def forward(self, restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        return (restored - hq).abs().mean((1, 2, 3))


def test_suite_takes_network_range_and_gives_every_metric_per_image(pair) -> None:
    restored, hq = (2 * images - 1 for images in pair)
    assert set(MetricSuite()(restored, hq)) == {"psnr", "ssim"}
    values = MetricSuite(lpips=Distance(), recognition=Recognizer(Direction(), "mean colour"))(restored, hq)
    assert list(values) == list(METRICS)
    torch.testing.assert_close(values["psnr"], psnr(*pair), atol=1e-3, rtol=0)
    torch.testing.assert_close(values["ssim"], ssim(*pair), atol=1e-4, rtol=0)
    torch.testing.assert_close(values["lpips"], (restored - hq).abs().mean((1, 2, 3)))
    cosine = torch.cosine_similarity(restored.mean((2, 3)), hq.mean((2, 3)))
    torch.testing.assert_close(values["identity"], cosine)


def test_identity_is_the_cosine_of_the_two_faces() -> None:
    colours = torch.tensor([[1.0, 0, 0], [1, 1, 0], [-1, 0, 0]])
    faces = colours[:, :, None, None].expand(-1, -1, 16, 16)
    red = faces[:1].expand(3, -1, -1, -1)
    identity = MetricSuite(recognition=Recognizer(Direction(), "mean colour"))(faces, red)["identity"]
    assert identity.tolist() == pytest.approx([1, math.sqrt(0.5), -1], abs=1e-6)


def test_out_of_range_pixels_are_clipped_as_a_picture_file_would() -> None:
    hq = torch.ones(1, 3, 16, 16)
    assert MetricSuite()(3 * hq, hq)["ssim"].item() == pytest.approx(1)


@pytest.mark.parametrize("points", ["target", "template"])
def test_faces_are_cut_out_where_the_network_needs_it(tmp_path: Path, points: str) -> None:
    network = load_recognizer(write_reid(tmp_path / "reid.safetensors"))
    suite = MetricSuite(recognition=network, points=points)
    restored, hq = pictures(0, 3, 3, 128, 128), pictures(1, 3, 3, 128, 128)
    face = transform_points(densify(POINTS_68), similarity(points_5_from_68(POINTS_68), ffhq_template(128)))
    landmarks = torch.from_numpy(np.stack([face] * 3)).float()
    mask = torch.ones(3, 1349, dtype=torch.bool)
    mask[1] = False
    identity = suite(restored, hq, landmarks, mask)["identity"]
    five = points_5_from_68(face[:68]) if points == "target" else ffhq_template(128)
    crops = (crop_faces(images, np.stack([five] * 3), REID_CROP) for images in (restored, hq))
    first, second = (network(crop) for crop in crops)
    expected = (first * second).sum(1)
    expected[1] = torch.nan if points == "target" else expected[1]
    torch.testing.assert_close(identity, expected, atol=1e-5, rtol=0, equal_nan=True)
    assert suite.protocol() == {
        "identity": {
            "network": "face-reidentification-retail-0095",
            "weights": network.fingerprint,
            "crop": f"face-reidentification-retail-0095 five points, 128 px, points: {points}",
        }
    }
    assert MetricSuite().protocol() == {}
