"""FID and KID: how far apart two sets of pictures are, by the features of a network; lower is better.

    FID = |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))          (Heusel et al. 2017)
    KID = unbiased MMD^2 with kernel (<x, y> / D + 1)^3     (Binkowski et al. 2018), mean over random subsets

with means m and covariances S of the D features. Both are one number for a set, and both depend on the network:
published values mean Inception v3. With other features the columns carry the features' name (``fid_synthetic``). FID is
biased upwards in small sets (it needs many more pictures than features), so compare sets of equal size only; KID is not
biased.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from lit_restore.errors import UserError
from lit_restore.metrics.identity import FaceVectors
from lit_restore.metrics.measurement import MetricInfo, library
from lit_restore.types import RestorationBatch

KID_SUBSETS, KID_SUBSET_SIZE, KID_SEED = 100, 1000, 0

Features = Callable[[torch.Tensor, RestorationBatch], torch.Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] and their batch -> (B, D); rows of NaN where there are none."""


def distribution_columns(suffix: str = "", features: str = "Inception") -> dict[str, MetricInfo]:
    """Columns ``fid`` and ``kid`` with ``suffix``; ``features`` is for people."""
    aside = "" if features == "Inception" else f" ({features} features, not Inception)"
    return {
        f"fid{suffix}": MetricInfo(f"FID{aside}", False, "{:.2f}"),
        f"kid{suffix}": MetricInfo(f"KID{aside}", False, "{:.4f}"),
    }


class DistributionDistance:
    """FID and KID between all restorations and all true pictures it is shown.

    Args:
        features: of pictures.
        columns: from `distribution_columns`.
        protocol: of the features.
    """

    def __init__(self, features: Features, columns: dict[str, MetricInfo], protocol: dict[str, str]) -> None:
        self.features, self.columns = features, columns
        subsets = f"{KID_SUBSETS} subsets of {KID_SUBSET_SIZE} or as many as there are, seed {KID_SEED}"
        self.protocol = protocol | {"kid": subsets, "library": library("torchmetrics")}
        self._restored: list[torch.Tensor] = []
        self._truth: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, restored: torch.Tensor, batch: RestorationBatch) -> None:
        """Add the pictures of a batch whose truth is known; those without features count in neither set."""
        one, truth = self.features(restored, batch), self.features(batch["hq"].to(restored.device), batch)
        there = batch["has_hq"].cpu() & ~one.isnan().any(1) & ~truth.isnan().any(1)
        self._restored.append(one[there])
        self._truth.append(truth[there])

    def compute(self) -> dict[str, float | str]:
        """Column -> value, or why there is none."""
        num = sum(map(len, self._restored))
        if num < 2:
            return dict.fromkeys(self.columns, f"needs two pictures with truth, there is {num}")
        restored, truth = torch.cat(self._restored), torch.cat(self._truth)
        fid, kid = self.columns
        return {fid: frechet_distance(restored, moments(truth)), kid: kernel_distance(restored, truth)}


class DistanceToStatistics:
    """FID between all restorations and a set known by its statistics (FFHQ: column ``fid_ffhq``).

    Args:
        statistics: .npz with ``mu`` (D,) and ``sigma`` (D, D) of the features of the other set, as pytorch-fid writes.

    Raises:
        UserError: the file is missing or holds something else.
    """

    def __init__(
        self,
        features: Features,
        columns: dict[str, MetricInfo],
        protocol: dict[str, str],
        statistics: str | Path,
    ) -> None:
        self.features, self.columns = features, columns
        self.mean, self.covariance = read_statistics(statistics)
        self.protocol = protocol | {"statistics": Path(statistics).name, "library": library("torchmetrics")}
        self._restored: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, restored: torch.Tensor, batch: RestorationBatch) -> None:
        """Add the pictures of a batch, with or without truth."""
        features = self.features(restored, batch)
        self._restored.append(features[~features.isnan().any(1)])

    def compute(self) -> dict[str, float | str]:
        """Column -> value, or why there is none."""
        [column] = self.columns
        num = sum(map(len, self._restored))
        if num < 2:
            return {column: f"needs two pictures, there is {num}"}
        return {column: frechet_distance(torch.cat(self._restored), (self.mean, self.covariance))}


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), float64."""
    return features.double().mean(0), torch.cov(features.double().T).reshape(features.shape[1], -1)


def frechet_distance(features: torch.Tensor, other: tuple[torch.Tensor, torch.Tensor]) -> float:
    """FID between features (N, D), N >= 2, and a set of mean (D,) and covariance (D, D)."""
    mean, covariance = other
    network = nn.Identity()
    network.num_features = features.shape[1]
    metric = FrechetInceptionDistance(feature=network)
    # Two made-up samples' worth of sums: mean and covariance are all that enters.
    metric.real_features_num_samples = torch.tensor(2)
    metric.real_features_sum = 2 * mean
    metric.real_features_cov_sum = covariance + 2 * torch.outer(mean, mean)
    metric.update(features.double(), real=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # compute before update, as torchmetrics sees it
        return float(metric.compute())


def kernel_distance(features: torch.Tensor, other: torch.Tensor) -> float:
    """KID between features (N, D) and (M, D)."""
    size = min(KID_SUBSET_SIZE, len(features), len(other))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features, which we do anyway
        metric = KernelInceptionDistance(feature=nn.Identity(), subsets=KID_SUBSETS, subset_size=size)
    metric.update(other.double(), real=True)
    metric.update(features.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(KID_SEED)
        return float(metric.compute()[0])


def read_statistics(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,) and covariance (D, D), float64.

    Raises:
        UserError: missing or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ("mu", "sigma"))
    except FileNotFoundError:
        raise UserError("no such file of FID statistics", where=path) from None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            "not a file of FID statistics",
            where=path,
            expected=".npz with mu (D) and sigma (D, D)",
            found=str(error).splitlines()[0],
        ) from None
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        shapes = f"{tuple(mean.shape)} and {tuple(covariance.shape)}"
        raise UserError("not FID statistics", where=path, expected="mu (D) and sigma (D, D)", found=shapes)
    return mean, covariance


def recognition_features(vectors: FaceVectors) -> Features:
    """Features of a recognition network: for sets of faces where Inception is not at hand."""

    def features(images: torch.Tensor, batch: RestorationBatch) -> torch.Tensor:
        return vectors(images, batch["landmarks"], batch["landmark_mask"])[0]

    return features
