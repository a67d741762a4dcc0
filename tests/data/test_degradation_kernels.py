"""Blur kernels against closed forms; reference values are in test_degradation_fixtures.py."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_restore.data.degradation.kernels import FAMILIES, blur_kernel
from lit_restore.errors import UserError


@pytest.mark.parametrize("family", FAMILIES)
def test_sum_is_one_and_kernel_is_point_symmetric(family: str) -> None:
    kernel = blur_kernel(family, 21, sigma_x=2.5, sigma_y=0.9, theta=0.6, beta=1.4, omega=1.7)
    assert kernel.sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)


def test_anisotropic_moments() -> None:
    """The covariance of the weights is R diag(sx^2, sy^2) R^T."""
    sigma_x, sigma_y, theta = 3.0, 1.5, 0.4
    kernel = blur_kernel("aniso", 61, sigma_x=sigma_x, sigma_y=sigma_y, theta=theta)
    y, x = np.mgrid[-30:31, -30:31]
    covariance = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    rotation = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    np.testing.assert_allclose(covariance, rotation @ np.diag([sigma_x**2, sigma_y**2]) @ rotation.T, atol=1e-6)


def test_beta_one_is_the_gaussian() -> None:
    parameters = {"sigma_x": 2.0, "sigma_y": 1.0, "theta": 0.3}
    expected = blur_kernel("aniso", 21, **parameters)
    np.testing.assert_array_equal(blur_kernel("generalized_aniso", 21, beta=1.0, **parameters), expected)


def test_isotropic_families_ignore_the_second_axis() -> None:
    for family in ("iso", "generalized_iso", "plateau_iso"):
        kernel = blur_kernel(family, 15, sigma_x=2.0, sigma_y=9.0, theta=1.0, beta=1.2)
        np.testing.assert_array_equal(kernel, blur_kernel(family, 15, sigma_x=2.0, beta=1.2))


def test_sinc_passes_below_and_stops_above_the_cut_off() -> None:
    kernel = blur_kernel("sinc", 41, omega=1.5)
    response = np.abs(np.fft.fft2(kernel, (256, 256)))[0]  # along x; index k is 2 pi k / 256 radians per pixel
    assert response[: int(1.2 * 128 / math.pi)].min() > 0.9
    assert response[int(1.8 * 128 / math.pi) : 128].max() < 0.1


@pytest.mark.parametrize("sigma", [0.0, 1e-9, 9e-4])
@pytest.mark.parametrize("family", ["iso", "aniso", "plateau_iso"])
def test_sigma_of_nothing_is_no_blur(family: str, sigma: float) -> None:
    kernel = blur_kernel(family, 5, sigma_x=sigma, sigma_y=sigma, theta=0.7, beta=2.0)
    delta = np.zeros((5, 5))
    delta[2, 2] = 1
    np.testing.assert_allclose(kernel, delta, atol=1e-11)


def test_one_vanishing_axis_is_a_line() -> None:
    kernel = blur_kernel("aniso", 9, sigma_x=0.0, sigma_y=3.0, theta=0.0)
    assert kernel[:, 4].sum() == pytest.approx(1)


def test_padding_keeps_the_centre() -> None:
    kernel, padded = blur_kernel("sinc", 9, omega=2.0), blur_kernel("sinc", 9, omega=2.0, pad_to=21)
    np.testing.assert_array_equal(padded[6:15, 6:15], kernel)
    assert padded.shape == (21, 21)


def test_unknown_family_and_even_size_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'plateau_iso'"):
        blur_kernel("plateau-iso", 9, sigma_x=1.0)
    with pytest.raises(UserError, match="odd size; found 8"):
        blur_kernel("iso", 8, sigma_x=1.0)
