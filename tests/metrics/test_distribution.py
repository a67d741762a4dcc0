"""FID and KID on features whose distance is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import normal, pictures
from scipy.linalg import sqrtm

from lit_restore.errors import UserError
from lit_restore.metrics.distribution import (
    DistanceToStatistics,
    DistributionDistance,
    distribution_columns,
    frechet_distance,
    kernel_distance,
    moments,
)


def colour_features(images: torch.Tensor, batch: object = None) -> torch.Tensor:
    """Stands for a network: six numbers of a picture (B, 3, H, W)."""
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], dim=1).double()


def test_frechet_distance_equals_the_definition() -> None:
    one, other = normal(0, 50, 6).double(), (normal(1, 70, 6) @ normal(2, 6, 6) + 0.5).double()
    a, b = one.numpy(), other.numpy()
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(one, moments(other)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_a_shift_is_its_square() -> None:
    features = normal(0, 40, 5).double()
    shift = torch.tensor([1.0, 0, 2, 0, -2]).double()
    assert frechet_distance(features + shift, moments(features)) == pytest.approx(9, rel=1e-6)
    assert frechet_distance(features, moments(features)) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_scale() -> None:
    """Covariances S and k^2 S around zero: (k - 1)^2 tr S."""
    features = normal(0, 40, 5).double()
    features = features - features.mean(0)
    trace = torch.cov(features.T).trace().item()
    assert frechet_distance(3 * features, moments(features)) == pytest.approx(4 * trace, rel=1e-6)


def test_kernel_distance_equals_the_unbiased_estimate() -> None:
    """With as many pictures as a subset has, every subset is the whole set."""
    one, other = normal(0, 30, 6).double().numpy(), normal(1, 30, 6).double().numpy() + 0.3

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 6 + 1) ** 3

    num = 30
    apart = ~np.eye(num, dtype=bool)
    expected = kernel(one, one)[apart].mean() + kernel(other, other)[apart].mean() - 2 * kernel(one, other).mean()
    assert kernel_distance(torch.from_numpy(one), torch.from_numpy(other)) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other = normal(0, 30, 6), normal(1, 40, 6)
    first = kernel_distance(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert kernel_distance(one, other) == first


def test_batches_add_up_and_pictures_without_truth_or_features_are_left_out(make_batch) -> None:
    hq, restored = pictures(0, 12, 3, 8, 8), pictures(1, 12, 3, 8, 8) * 0.7
    columns = distribution_columns("_colour", "colour")
    whole = DistributionDistance(colour_features, columns, {})
    whole.update(restored[:10], make_batch(hq[:10]))

    def sometimes(images: torch.Tensor, batch: object) -> torch.Tensor:
        features = colour_features(images)
        features[(images == 7).any(3).any(2).any(1)] = torch.nan
        return features

    parts = DistributionDistance(sometimes, columns, {})
    blind = restored.clone()
    blind[11] = 7
    parts.update(blind[:5], make_batch(hq[:5]))
    parts.update(blind[5:], make_batch(hq[5:], has_hq=torch.arange(5, 12) != 10))
    assert parts.compute() == pytest.approx(whole.compute())
    assert list(whole.compute()) == ["fid_colour", "kid_colour"]
    assert whole.compute()["fid_colour"] == pytest.approx(
        frechet_distance(colour_features(restored[:10]), moments(colour_features(hq[:10])))
    )


def test_too_few_pictures_say_so(make_batch) -> None:
    metric = DistributionDistance(colour_features, distribution_columns(), {})
    metric.update(pictures(0, 1, 3, 8, 8), make_batch(pictures(1, 1, 3, 8, 8)))
    assert metric.compute() == dict.fromkeys(("fid", "kid"), "needs two pictures with truth, there is 1")


def test_titles_say_when_features_are_not_inception_s() -> None:
    assert distribution_columns()["fid"].title == "FID"
    assert "not Inception" in distribution_columns("_x", "X")["fid_x"].title


def test_statistics_stand_for_a_set(make_batch, tmp_path: Path) -> None:
    truth, restored = colour_features(pictures(0, 20, 3, 8, 8)), pictures(1, 20, 3, 8, 8)
    mean, covariance = moments(truth)
    np.savez(tmp_path / "s.npz", mu=mean.numpy(), sigma=covariance.numpy())
    columns = {"fid_ffhq": distribution_columns()["fid"]}
    metric = DistanceToStatistics(colour_features, columns, {}, tmp_path / "s.npz")
    metric.update(restored, make_batch(restored, has_hq=torch.zeros(20, dtype=torch.bool)))
    expected = frechet_distance(colour_features(restored), (mean, covariance))
    assert metric.compute() == {"fid_ffhq": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no such file of FID statistics"),
        ({"mu": np.zeros(4)}, "not a file of FID statistics.*mu .* and sigma"),
        ({"mu": np.zeros(4), "sigma": np.eye(5)}, r"not FID statistics.*\(4,\) and \(5, 5\)"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "s.npz"
    if arrays:
        np.savez(path, **arrays)
    with pytest.raises(UserError, match=message):
        DistanceToStatistics(colour_features, distribution_columns(), {}, path)
