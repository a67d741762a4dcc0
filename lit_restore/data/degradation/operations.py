"""Single steps of a degradation as pure functions: blur, resize, noise, JPEG (degradations.md 1.2, 6.5, 7).

Images are float32 RGB ``(H, W, 3)`` in ``[0, 1]`` unless a function says uint8. No function keeps state or draws
random numbers from a global generator.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import cv2
import numpy as np

# Written into records. To be raised with every change that alters a single bit of a blurred image.
BLUR_ALGORITHM = "dft/1"

# Up to this size the more exact float64 transform costs hardly more, because it stays within the processor's caches.
FLOAT64_MAX_PIXELS = 256 * 256
MID_GRAY = 0.5


class _Scratch(threading.local):
    """Memory for spectra, kept because the system takes longer to hand out fresh pages than to fill them.

    Its content never outlives a call; each thread has its own.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def get(self, name: str, shape: tuple[int, int], dtype: type[np.floating]) -> np.ndarray:
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype)
        return array


_scratch = _Scratch()


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in ``[0, 1]``."""
    return image.astype(np.float32) / np.float32(255)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float in ``[0, 1]`` -> uint8: saturating, rounding half to even, as OpenCV does before its JPEG encoder."""
    return np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate each channel of ``(H, W, 3)`` float32 with one odd-sized kernel; border reflect-101.

    One DFT of the whole image in less than half the time of ``cv2.filter2D``, which works in float64 tiles. Agrees
    with it to 6e-8 up to `FLOAT64_MAX_PIXELS` and to 3e-7 in the float32 transform beyond.
    """
    height, width = image.shape[:2]
    radius = kernel.shape[0] // 2
    dtype = np.float64 if height * width <= FLOAT64_MAX_PIXELS else np.float32
    rows = cv2.getOptimalDFTSize(height + 2 * radius)
    columns = cv2.getOptimalDFTSize(width + 2 * radius)
    borders = radius, rows - height - radius, radius, columns - width - radius
    transfer = _kernel_spectrum(kernel, (rows, columns), dtype)
    spectrum = _scratch.get("spectrum", (rows, columns), dtype)
    result = np.empty_like(image)
    for index in range(image.shape[2]):
        # The mean only costs digits in the transform: around 0 the rounding error is less than half.
        plane = np.subtract(cv2.extractChannel(image, index), MID_GRAY, dtype=dtype)
        cv2.copyMakeBorder(plane, *borders, cv2.BORDER_REFLECT_101, spectrum)
        cv2.dft(spectrum, spectrum)
        cv2.mulSpectrums(spectrum, transfer, 0, spectrum)
        cv2.dft(spectrum, spectrum, flags=cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT | cv2.DFT_SCALE)
        # The kernel sits in the corner, so the part without wrap-around begins two radii down and right.
        valid = spectrum[2 * radius : 2 * radius + height, 2 * radius : 2 * radius + width]
        cv2.insertChannel((valid + dtype(MID_GRAY * kernel.sum())).astype(np.float32, copy=False), result, index)
    return result


def _kernel_spectrum(kernel: np.ndarray, shape: tuple[int, int], dtype: type[np.floating]) -> np.ndarray:
    """Spectrum of the kernel in the top left corner; flipped, because a product of spectra convolves."""
    size = kernel.shape[0]
    transfer = _scratch.get("transfer", shape, dtype)
    transfer[:] = 0
    transfer[:size, :size] = kernel[::-1, ::-1]
    return cv2.dft(transfer, transfer, nonzeroRows=size)


def resize(image: np.ndarray, size_hw: Sequence[int], *, antialias: bool = False) -> np.ndarray:
    """Bilinear, half-pixel centres, edges clamped. Without ``antialias`` shrinking skips pixels, as in the papers."""
    height, width = size_hw
    if image.shape[:2] == (height, width):
        return image
    if antialias:
        return interpolate(image, "bilinear", size_hw=size_hw, antialias=True)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def interpolate(
    image: np.ndarray,
    mode: str,
    *,
    size_hw: Sequence[int] | None = None,
    factor: float | None = None,
    antialias: bool = False,
) -> np.ndarray:
    """PyTorch's interpolation (``area``, ``bilinear`` or ``bicubic``) for the chains that are defined by it.

    Give the size, or the ``factor``: then the size is ``floor(side * factor)`` and coordinates are mapped with the
    factor itself, not with the ratio of the rounded sizes (section 2.2, step 3).
    """
    import torch  # only the second-order chain and anti-aliased resizing need it
    from torch.nn.functional import interpolate as torch_interpolate

    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    size = None if size_hw is None else tuple(size_hw)
    align = None if mode == "area" else False
    with torch.no_grad():
        result = torch_interpolate(
            tensor, size=size, scale_factor=factor, mode=mode, align_corners=align, antialias=antialias
        )
    return np.ascontiguousarray(result[0].numpy().transpose(1, 2, 0))


def normal_field(seed: Sequence[int], size_hw: Sequence[int], *, gray: bool) -> np.ndarray:
    """Standard-normal float32 noise ``(H, W, 3)``, or ``(H, W)`` when one field serves all channels."""
    shape = tuple(size_hw) if gray else (*size_hw, 3)
    return np.random.RandomState(np.array(seed, np.uint32)).standard_normal(shape).astype(np.float32)


def add_noise(image: np.ndarray, field: np.ndarray, sigma: float) -> np.ndarray:
    """``clip(image + field * sigma / 255)``; ``sigma`` on the 0..255 scale, ``field`` ``(H, W, 3)`` or ``(H, W)``."""
    if field.ndim == 2:
        field = field[..., None]
    # float32 on purpose: a NumPy float64 scalar would silently promote the whole image.
    return np.clip(image + field * np.float32(sigma / 255), 0, 1)


def jpeg(image: np.ndarray, quality: int, *, channel_order: str = "rgb") -> np.ndarray:
    """Encode and decode uint8 RGB ``(H, W, 3)`` with 4:2:0 chroma subsampling.

    Args:
        quality: 1..100.
        channel_order: ``"rgb"``, or ``"bgr"`` for the public defect of handing RGB planes to an encoder that takes
            them for BGR: red and blue change places in the conversion to luma and chroma.
    """
    to_bgr = channel_order == "rgb"
    planes = np.ascontiguousarray(image[..., ::-1]) if to_bgr else image
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        int(quality),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, stream = cv2.imencode(".jpg", planes, options)
    decoded = cv2.imdecode(stream, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[..., ::-1]) if to_bgr else decoded
