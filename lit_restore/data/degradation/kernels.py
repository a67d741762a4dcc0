"""Blur kernels of blind face restoration (degradations.md section 1.3).

On the grid of integer offsets ``x`` (columns) and ``y`` (rows) from ``-(size-1)/2`` to ``(size-1)/2``, with
``R = [[cos t, -sin t], [sin t, cos t]]``, ``S = R diag(sigma_x^2, sigma_y^2) R^T`` and ``Q = [x y] S^-1 [x y]^T``:

=================  ==========================================================
iso, aniso         ``exp(-Q / 2)``
generalized_*      ``exp(-Q^beta / 2)``
plateau_*          ``1 / (1 + Q^beta)``
sinc               ``w J1(w d) / (2 pi d)``, at the centre ``w^2 / (4 pi)``
=================  ==========================================================

each divided by its sum. All kernels are point-symmetric, so convolution and correlation are the same.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import j1

from lit_restore.errors import UserError, nearest

SHAPED_FAMILIES = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
)
FAMILIES = (*SHAPED_FAMILIES, "sinc")

MIN_SIGMA_PX = 1e-3  # below this a Gaussian is a delta on the pixel grid, and S is no longer safely invertible


def blur_kernel(
    family: str,
    size: int,
    *,
    sigma_x: float = 0.0,
    sigma_y: float | None = None,
    theta: float = 0.0,
    beta: float = 1.0,
    omega: float = math.pi,
    pad_to: int | None = None,
) -> np.ndarray:
    """One kernel, float64 ``(size, size)`` with sum 1.

    Args:
        family: one of `FAMILIES`.
        size: odd side length in pixels.
        sigma_x: standard deviation in pixels along the first axis; values below `MIN_SIGMA_PX` mean no blur.
        sigma_y: along the second axis; the isotropic families ignore it.
        theta: rotation in radians; the isotropic families ignore it.
        beta: shape exponent of the generalized and plateau families.
        omega: cut-off frequency of ``sinc`` in radians per pixel.
        pad_to: side length of the zero-padded result, odd; none by default.

    Raises:
        UserError: unknown family or even size.
    """
    if family not in FAMILIES:
        raise UserError("unknown blur kernel family", found=family, fix=nearest(family, FAMILIES))
    if size < 1 or size % 2 == 0:
        raise UserError("blur kernel without a centre", expected="an odd size", found=size)
    if family == "sinc":
        kernel = _sinc(size, omega)
    else:
        isotropic = family.endswith("iso") and not family.endswith("aniso")
        distance2 = _mahalanobis2(size, sigma_x, sigma_x if isotropic or sigma_y is None else sigma_y, theta)
        kernel = _profile(family, distance2, beta)
    kernel /= kernel.sum()
    return kernel if pad_to is None else np.pad(kernel, (pad_to - size) // 2)


def _mahalanobis2(size: int, sigma_x: float, sigma_y: float, theta: float) -> np.ndarray:
    """``Q`` of the module docstring, written out for the 2x2 case."""
    offsets = np.arange(size) - (size - 1) / 2
    x, y = offsets[None, :], offsets[:, None]
    precision_x, precision_y = max(sigma_x, MIN_SIGMA_PX) ** -2, max(sigma_y, MIN_SIGMA_PX) ** -2
    cos, sin = math.cos(theta), math.sin(theta)
    xx = cos * cos * precision_x + sin * sin * precision_y
    yy = sin * sin * precision_x + cos * cos * precision_y
    xy = cos * sin * (precision_x - precision_y)
    # Rounding may leave -1e-10 on the long axis of a very thin kernel; a negative base has no real power.
    return np.maximum(xx * x * x + 2 * xy * x * y + yy * y * y, 0.0)


def _profile(family: str, distance2: np.ndarray, beta: float) -> np.ndarray:
    if family.startswith("plateau"):
        return 1.0 / (1.0 + distance2**beta)
    if family.startswith("generalized"):
        distance2 = distance2**beta
    return np.exp(-0.5 * distance2)


def _sinc(size: int, omega: float) -> np.ndarray:
    offsets = np.arange(size) - (size - 1) / 2
    distance = np.hypot(offsets[None, :], offsets[:, None])
    centre = size // 2
    distance[centre, centre] = 1.0  # any value but 0; overwritten below
    kernel = omega * j1(omega * distance) / (2 * math.pi * distance)
    kernel[centre, centre] = omega**2 / (4 * math.pi)
    return kernel
