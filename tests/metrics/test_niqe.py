"""NIQE step by step against other computations; with the authors' parameters in test_real_weights.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import gennorm, multivariate_normal

from lit_restore.errors import UserError
from lit_restore.metrics.niqe import Niqe, block_features, fit_aggd, grey_levels, halve, mscn, niqe_metric


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    """A natural picture, 300 x 451 grey levels."""
    data = pytest.importorskip("skimage.data")
    return grey_levels(data.cat().transpose(2, 0, 1) / 255)


def parameters(path: Path, mean: np.ndarray, covariance: np.ndarray) -> Path:
    np.savez(path, mu_pris_param=mean[None], cov_pris_param=covariance)
    return path


def test_mscn_equals_the_definition_pixel_by_pixel(levels: np.ndarray) -> None:
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    padded = np.pad(levels, 3, mode="edge")
    coefficients = mscn(levels)
    for row, column in [(0, 0), (5, 450), (150, 200), (299, 3)]:
        patch = padded[row : row + 7, column : column + 7]
        mean = (window * patch).sum()
        sigma = np.sqrt((window * (patch - mean) ** 2).sum())
        assert coefficients[row, column] == pytest.approx((levels[row, column] - mean) / (sigma + 1), abs=1e-9)


def test_flat_places_are_exactly_zero() -> None:
    assert not mscn(np.full((96, 96), 133.0)).any()


def test_half_size_equals_pillow_s_antialiased_bicubic_filter(levels: np.ndarray) -> None:
    even = levels[:, :450]
    expected = Image.fromarray(even.astype(np.float32)).resize((225, 150), Image.Resampling.BICUBIC)
    inside = slice(3, -3)  # at the border Pillow cuts the filter off, MATLAB and we mirror the picture
    np.testing.assert_allclose(halve(even)[inside, inside], np.asarray(expected)[inside, inside], atol=1e-3)
    mirrored = halve(np.pad(even, 4, mode="symmetric"))[2:-2, 2:-2]
    np.testing.assert_allclose(halve(even), mirrored, atol=1e-9)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_generalised_gaussians_are_recovered(shape: float) -> None:
    samples = gennorm.rvs(shape, scale=0.7, size=(1, 400_000), random_state=np.random.default_rng(0))
    found, left, right = fit_aggd(samples)
    assert found[0] == pytest.approx(shape, rel=0.02)
    assert left[0] == pytest.approx(0.7, rel=0.02)
    assert right[0] == pytest.approx(0.7, rel=0.02)


def test_an_asymmetric_gaussian_is_recovered() -> None:
    """Left half with standard deviation 1, right half 3; each side as likely as its width."""
    random = np.random.default_rng(0)
    size = np.abs(random.standard_normal(400_000))
    is_left = random.random(400_000) < 1 / 4
    found, left, right = fit_aggd(np.where(is_left, -size, 3 * size)[None])
    assert found[0] == pytest.approx(2, rel=0.02)
    assert left[0] == pytest.approx(np.sqrt(2), rel=0.02)  # scale = sqrt(2) sigma for shape 2
    assert right[0] == pytest.approx(3 * np.sqrt(2), rel=0.02)


def test_every_block_counts_once(levels: np.ndarray) -> None:
    features = block_features(levels)
    assert features.shape == (3 * 4, 36)
    np.testing.assert_array_equal(features, block_features(levels[:288, :384]))


def test_distance_is_that_of_mahalanobis(levels: np.ndarray, tmp_path: Path) -> None:
    """sqrt(d^T C^-1 d) = sqrt(-2 log(density / density at the mean)) of a Gaussian."""
    features = block_features(levels)
    random = np.random.default_rng(0)
    mean = features.mean(0) + random.standard_normal(36)
    root = random.standard_normal((36, 36))
    covariance = root @ root.T + np.eye(36)
    pooled = (np.cov(features, rowvar=False) + covariance) / 2
    gaussian = multivariate_normal(mean, pooled)
    expected = np.sqrt(2 * (gaussian.logpdf(mean) - gaussian.logpdf(features.mean(0))))
    assert Niqe(parameters(tmp_path / "p.npz", mean, covariance)).score(levels) == pytest.approx(expected, rel=1e-6)


def test_two_kinds_of_grey() -> None:
    colours = np.array([[0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 0]], float)[:, None]
    assert grey_levels(colours, "grey").tolist() == [[0, 255, 76, 150]]
    assert grey_levels(colours, "video").tolist() == [[16, 235, 81, 145]]


def test_pictures_without_two_blocks_or_structure_fail(tmp_path: Path, make_batch) -> None:
    metric = niqe_metric(parameters(tmp_path / "p.npz", np.zeros(36), np.eye(36)))
    random = torch.rand(2, 3, 96, 200, generator=torch.Generator().manual_seed(0)) * 2 - 1
    random[1] = 0.3
    values = metric(random, make_batch(random))["niqe"]
    assert values.numbers[0] > 0
    assert list(values.failures) == [1]
    assert "two blocks of 96 px" in metric(random[..., :100], make_batch(random))["niqe"].failures[0]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"text"])
def test_damaged_parameters_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "niqe.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not the parameters of NIQE.*mu_pris_param") as error:
        Niqe(path)
    assert "\n" not in str(error.value)


def test_parameters_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the parameters of NIQE"):
        Niqe(parameters(tmp_path / "p.npz", np.zeros(18), np.eye(18)))
