"""NIQE, the natural image quality evaluator (Mittal, Soundararajan & Bovik 2013): no reference, lower is better.

How far do a picture's local statistics lie from those of undistorted photos? Per block of 96 px and at two scales:

    MSCN    c = (I - mu) / (sigma + 1),       mu, sigma in a 7x7 Gaussian window (7/6 px)              eqs. 1-3
    AGGD    c and its products with four neighbours fitted by asymmetric generalised Gaussians         eqs. 4-8
    NIQE  = sqrt((m - m0)^T ((S + S0) / 2)^-1 (m - m0))                                               eq. 10

with mean m and covariance S of the 2 x 18 features over the blocks, and m0, S0 those of the authors' photos, which come
as a file. As in the authors' program every block of the tested picture counts, whatever its sharpness, the AGGD's shape
is looked up in steps of 0.001, the half-size picture is made with an antialiased bicubic filter, and neighbours wrap
around within a block. Where a picture is flat the coefficients are exactly 0 here; in other programs they are rounding
errors, whose signs move NIQE of pictures with flat places by up to 0.1.

The authors test the grey picture. BasicSR (Real-ESRGAN, GFPGAN and other restoration work) takes the luma of video
instead, which spans 16 to 235, and comes to other numbers.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.special import gammaln

from lit_restore.errors import UserError
from lit_restore.faces.weights import obtain
from lit_restore.metrics.measurement import Judgement, MetricInfo
from lit_restore.metrics.weights import NIQE

INFO = MetricInfo("NIQE", False, "{:.3f}")

Luma = Literal["grey", "video"]
LUMA_WEIGHTS: dict[str, tuple[np.ndarray, float]] = {
    "grey": (np.array([0.299, 0.587, 0.114]) * 255, 0.0),
    "video": (np.array([65.481, 128.553, 24.966]), 16.0),
}
"""ITU-R BT.601: what to multiply R, G, B in [0, 1] with, and what to add, for a value on the scale of 0 to 255."""

BLOCK_PX = 96
WINDOW_SIGMA, WINDOW_RADIUS = 7 / 6, 3
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # right, below, and both diagonals (rows, columns)
NUM_FEATURES = 2 * (2 + 4 * len(NEIGHBOURS))

_SHAPES = np.arange(200, 10_001) / 1000


def _log_gamma_ratio(shapes: np.ndarray, numerator: int, denominator: int) -> np.ndarray:
    return gammaln(numerator / shapes) - gammaln(denominator / shapes)


_MOMENT_RATIOS = np.exp(_log_gamma_ratio(_SHAPES, 2, 1) + _log_gamma_ratio(_SHAPES, 2, 3))
"""(E|x|)^2 / E x^2 of a generalised Gaussian, for every shape; it grows with the shape."""

_BICUBIC_HALVING = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
_BICUBIC_HALVING = np.concatenate([_BICUBIC_HALVING, _BICUBIC_HALVING[::-1]])
"""Keys' cubic kernel (a = -1/2), stretched to twice its width, at the eight nearest pixels of a half-size one."""


class Niqe:
    """NIQE against the statistics in a file.

    Args:
        path: .npz with ``mu_pris_param`` (36,) and ``cov_pris_param`` (36, 36), as in BasicSR.
        luma: ``grey`` as the authors, ``video`` as BasicSR.

    Raises:
        UserError: the file is not one of NIQE's.
    """

    def __init__(self, path: str | Path, luma: Luma = "grey") -> None:
        self.luma = luma
        try:
            with np.load(path, allow_pickle=False) as file:
                self.mean = np.asarray(file["mu_pris_param"], np.float64).reshape(NUM_FEATURES)
                self.covariance = np.asarray(file["cov_pris_param"], np.float64).reshape(NUM_FEATURES, NUM_FEATURES)
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                "not the parameters of NIQE",
                where=path,
                expected="mu_pris_param (36) and cov_pris_param (36, 36)",
                found=str(error).splitlines()[0],
            ) from None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) in [0, 1] -> (B,) float64; NaN below two blocks (96 x 192 px) and where all is flat."""
        pixels = images.double().cpu().numpy()
        return torch.tensor([self.score(grey_levels(image, self.luma)) for image in pixels], dtype=torch.float64)

    def score(self, levels: np.ndarray) -> float:
        """One picture (H, W) on the scale of 0 to 255 -> its NIQE."""
        features = block_features(levels)
        features = features[np.isfinite(features).all(1)]
        if len(features) < 2:  # no covariance
            return float("nan")
        difference = features.mean(0) - self.mean
        covariance = (np.cov(features, rowvar=False) + self.covariance) / 2
        return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


def grey_levels(image: np.ndarray, luma: Luma = "grey") -> np.ndarray:
    """RGB (3, H, W) in [0, 1] -> whole grey levels (H, W) on the scale of 0 to 255."""
    weights, offset = LUMA_WEIGHTS[luma]
    return np.round(np.tensordot(weights, image, axes=1) + offset)


def block_features(levels: np.ndarray) -> np.ndarray:
    """Features (blocks, 36) of a picture (H, W): 18 of whole size, 18 of half size."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in levels.shape)
    if min(height, width) == 0:
        return np.empty((0, NUM_FEATURES))
    whole = levels[:height, :width]
    return np.hstack([_features(mscn(whole), BLOCK_PX), _features(mscn(halve(whole)), BLOCK_PX // 2)])


def mscn(levels: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised coefficients (eqs. 1-3); borders are repeated."""
    window = {"sigma": WINDOW_SIGMA, "radius": WINDOW_RADIUS, "mode": "nearest"}
    mean = gaussian_filter(levels, **window)
    variance = gaussian_filter(levels**2, **window) - mean**2
    coefficients = (levels - mean) / (np.sqrt(np.abs(variance)) + 1)
    # Rounding errors of flat places would count as one side of the distribution or the other.
    return np.where(np.abs(coefficients) < 1e-9, 0.0, coefficients)


def halve(levels: np.ndarray) -> np.ndarray:
    """Half the size by the antialiased bicubic filter, mirrored at the borders."""
    for axis in (0, 1):
        levels = correlate1d(levels, _BICUBIC_HALVING, axis, mode="reflect")
    return levels[1::2, 1::2]  # the filter's eight taps reach from 4 before the pixel to 3 behind it


def fit_aggd(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric generalised Gaussians by moment matching (Lasmar et al. 2009).

    Args:
        samples: (N, S), S samples of each of N distributions.

    Returns:
        shape, left scale and right scale, (N,) each; NaN where a side is empty.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (
            np.sqrt((samples**2 * side).sum(1) / side.sum(1)) for side in (samples < 0, samples > 0)
        )  # root mean squares of either side
        asymmetry = left / right
        ratio = np.abs(samples).mean(1) ** 2 / (samples**2).mean(1)
        ratio = ratio * (asymmetry**3 + 1) * (asymmetry + 1) / (asymmetry**2 + 1) ** 2
    after = np.searchsorted(_MOMENT_RATIOS, ratio).clip(1, len(_SHAPES) - 1)
    nearer_before = ratio - _MOMENT_RATIOS[after - 1] < _MOMENT_RATIOS[after] - ratio
    shape = _SHAPES[after - nearer_before]
    to_scale = np.exp(_log_gamma_ratio(shape, 1, 3) / 2)
    return np.where(np.isfinite(ratio), shape, np.nan), left * to_scale, right * to_scale


def _features(coefficients: np.ndarray, block_px: int) -> np.ndarray:
    """(blocks, 18) from the MSCN coefficients of a picture."""
    rows, columns = (side // block_px for side in coefficients.shape)
    blocks = coefficients.reshape(rows, block_px, columns, block_px).swapaxes(1, 2).reshape(-1, block_px, block_px)
    shape, left, right = fit_aggd(blocks.reshape(len(blocks), -1))
    features = [shape, (left + right) / 2]
    for neighbour in NEIGHBOURS:
        products = blocks * np.roll(blocks, neighbour, axis=(1, 2))
        shape, left, right = fit_aggd(products.reshape(len(blocks), -1))
        mean = (right - left) * np.exp(_log_gamma_ratio(shape, 2, 1))  # eq. 8
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


def niqe_metric(weights: str | Path | None = None, luma: Luma = "grey") -> Judgement:
    """NIQE per image.

    Args:
        weights: parameter file; None = see `lit_restore.faces.weights.obtain`.
        luma: see `Niqe`.

    Raises:
        UserError: the file is missing or damaged.
    """
    niqe = Niqe(obtain(NIQE, weights), luma)
    statistics = np.concatenate([niqe.mean, niqe.covariance.ravel()])
    protocol = {
        "colour": f"{luma}, BT.601, rounded to whole levels",
        "blocks": f"{BLOCK_PX} px",
        "weights": hashlib.sha256(statistics.tobytes()).hexdigest()[:16],
        "library": "lit_restore",
    }
    small = f"smaller than two blocks of {BLOCK_PX} px, or without any structure"
    return Judgement("niqe", INFO, niqe, protocol, small)
