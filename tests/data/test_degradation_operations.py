"""Single steps against OpenCV, Pillow-style area sums and closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import correlate

from lit_restore.data.degradation import operations as ops
from lit_restore.data.degradation.diffjpeg import diffjpeg
from lit_restore.data.degradation.kernels import blur_kernel


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


# Above 256 x 256 pixels the transform is float32; 5e-7 is what section 7 of the specification allows.
@pytest.mark.parametrize(("size_hw", "tolerance"), [((300, 270), 5e-7), ((256, 256), 7e-8), ((61, 33), 7e-8)])
@pytest.mark.parametrize("size", [3, 21, 41])
def test_blur_is_the_sum_over_the_window(size_hw: tuple[int, int], tolerance: float, size: int) -> None:
    image = picture(*size_hw)
    kernel = blur_kernel("aniso", size, sigma_x=5.0, sigma_y=0.7, theta=0.5)
    expected = correlate(image.astype(np.float64), kernel[..., None], mode="mirror")
    assert np.abs(ops.blur(image, kernel) - expected).max() <= tolerance


def test_blur_is_filter2d_at_full_size() -> None:
    image, kernel = picture(512, 512), blur_kernel("aniso", 41, sigma_x=9.0, sigma_y=2.0, theta=-1.1)
    expected = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    assert np.abs(ops.blur(image, kernel) - expected).max() <= 5e-7


def test_blur_with_a_lopsided_kernel_correlates() -> None:
    image, kernel = picture(40, 50), np.random.default_rng(1).random((7, 7))
    expected = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(ops.blur(image, kernel), expected, rtol=1e-6)


def test_blur_of_an_image_smaller_than_the_kernel() -> None:
    image, kernel = picture(6, 9), blur_kernel("iso", 41, sigma_x=4.0)
    padded = np.pad(image.astype(np.float64), ((20, 20), (20, 20), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (41, 41), axis=(0, 1))
    expected = np.einsum("hwcyx,yx->hwc", windows, kernel)
    np.testing.assert_allclose(ops.blur(image, kernel), expected, atol=1e-7)


def test_blur_leaves_no_trace_of_the_previous_image() -> None:
    kernel, image = blur_kernel("iso", 21, sigma_x=3.0), picture(80, 70)
    first = ops.blur(image, kernel)
    ops.blur(picture(80, 70, seed=5), blur_kernel("iso", 41, sigma_x=9.0))
    np.testing.assert_array_equal(ops.blur(image, kernel), first)


def test_rounding_is_half_to_even_and_saturates() -> None:
    values = np.array([0.5, 1.5, 2.5, 254.5, -3.0, 300.0], np.float32) / np.float32(255)
    assert ops.to_uint8(values).tolist() == [0, 2, 2, 254, 0, 255]
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(ops.to_uint8(ops.to_float(every)), every)


def test_antialiasing_averages_and_plain_shrinking_skips() -> None:
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::8] = 1.0
    smooth = ops.resize(stripes, (8, 8), antialias=True)
    np.testing.assert_allclose(smooth[:, 1:-1], 1 / 8, atol=1e-6)
    assert ops.resize(stripes, (8, 8)).max() == 0  # samples lie between columns 8k+3 and 8k+4


def test_interpolation_by_factor_maps_with_the_factor() -> None:
    """At factor 0.37, 64 pixels become 23; a ramp shows the coordinates (i + 0.5) / 0.37 - 0.5."""
    ramp = np.repeat(np.arange(64, dtype=np.float32)[None, :, None], 64, axis=0).repeat(3, axis=2)
    by_factor = ops.interpolate(ramp, "bilinear", factor=0.37)
    np.testing.assert_allclose(by_factor[0, :, 0], (np.arange(23) + 0.5) / 0.37 - 0.5, atol=1e-4)
    by_size = ops.interpolate(ramp, "bilinear", size_hw=(23, 23))
    np.testing.assert_allclose(by_size[0, :, 0], (np.arange(23) + 0.5) * 64 / 23 - 0.5, atol=1e-4)


def test_noise_has_the_requested_strength_and_clips() -> None:
    gray = np.full((200, 200, 3), 0.5, np.float32)
    field = ops.normal_field([1, 2, 3, 4], (200, 200), gray=False)
    assert field.dtype == np.float32
    noisy = ops.add_noise(gray, field, 12.0)
    assert noisy.dtype == np.float32
    assert 255 * (noisy - gray).std() == pytest.approx(12.0, rel=0.01)
    assert ops.add_noise(gray, field, 2550.0).min() == 0
    assert ops.add_noise(gray, field, 2550.0).max() == 1


def test_gray_noise_is_the_same_in_all_channels() -> None:
    field = ops.normal_field([1, 2, 3, 4], (20, 20), gray=True)
    noise = ops.add_noise(np.full((20, 20, 3), 0.5, np.float32), field, 20.0)
    np.testing.assert_array_equal(noise[..., 0], noise[..., 2])


def test_jpeg_knows_red_from_blue() -> None:
    """Handing over RGB for BGR equals exchanging red and blue before and after a correct codec."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = np.random.default_rng(0).integers(0, 256, (64, 64))
    swapped = ops.jpeg(image, 60, channel_order="bgr")
    np.testing.assert_array_equal(swapped, ops.jpeg(np.ascontiguousarray(image[..., ::-1]), 60)[..., ::-1])
    assert np.abs(swapped.astype(int) - ops.jpeg(image, 60)).mean() > 5


def test_jpeg_subsamples_chroma() -> None:
    """Fine red and blue columns of equal luma lose their colour contrast at any quality."""
    image = np.full((32, 32, 3), 100, np.uint8)
    image[:, ::2] = (190, 76, 63)
    decoded = ops.jpeg(image, 100).astype(int)
    assert np.abs(decoded[:, ::2] - decoded[:, 1::2])[..., 0].mean() < 15


def test_diffjpeg_of_a_flat_image_is_exact_and_pads_with_black() -> None:
    gray = np.full((32, 48, 3), 128 / 255, np.float32)
    np.testing.assert_allclose(diffjpeg(gray, 30.0), gray, atol=1e-6)
    odd = diffjpeg(gray[:24, :40], 30.0)
    assert odd.shape == (24, 40, 3)
    # The lower blocks end inside the picture, but chroma blocks are 16 pixels wide and reach into the black padding.
    np.testing.assert_allclose(odd[:16, :32], gray[:16, :32], atol=1e-6)


def test_diffjpeg_quality_orders_the_error() -> None:
    image = cv2.GaussianBlur(picture(64, 64), (0, 0), 1.5)
    errors = [np.abs(diffjpeg(image, quality) - image).mean() for quality in (20.0, 45.5, 70.0, 95.0)]
    assert errors == sorted(errors, reverse=True)
