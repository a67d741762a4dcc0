"""How fast is the default degradation? Ours beside the same steps with a plain ``cv2.filter2D``.

    python benchmarks/degradation.py            # about a minute
    python benchmarks/degradation.py --quick    # a few seconds

Both degrade the same images with the same records, alternately, in one process with one OpenCV thread; the time
is CPU time of the thread, so other processes disturb the figures little. Drawing the record is part of the
time, decoding files is not. Absolute figures depend on the machine, the ratio hardly.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import cv2
import numpy as np

from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.degradation.kernels import blur_kernel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 images in one round instead of 200 in three")
    parser.add_argument("--profile", default="diffbir_face", help="first-order profile with iso or aniso blur")
    parser.add_argument("--size", type=int, default=512, help="side of the square images in pixels")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    num_images, num_rounds = (40, 1) if options.quick else (200, 3)
    images = [picture(seed, options.size) for seed in range(8)]
    degradation = Degradation(options.profile)
    measure(degradation, images, 4, "warm-up")
    rounds = [measure(degradation, images, num_images, f"round{index}") for index in range(num_rounds)]

    print(f"{options.profile}, {options.size} px, {num_rounds} x {num_images} images, OpenCV {cv2.__version__}")
    print(f"{'variant':<24}{'CPU ms/image':>14}{'images/s per core':>20}{'range over rounds':>22}")
    for name, column in (("plain filter2D chain", 0), ("lit_restore", 1)):
        seconds = [row[column] / num_images for row in rounds]
        mean = statistics.fmean(seconds)
        spread = f"{1 / max(seconds):.0f}-{1 / min(seconds):.0f}"
        print(f"{name:<24}{mean * 1e3:>14.2f}{1 / mean:>20.0f}{spread:>22}")
    ratio = sum(row[1] for row in rounds) / sum(row[0] for row in rounds)
    print(f"time ratio lit_restore / plain: {ratio:.2f}")
    share = statistics.fmean(row[2] for row in rounds) / num_images
    largest = max(row[3] for row in rounds)
    print(f"8-bit results: {share:.4%} of the values differ, the largest difference is {largest} levels")


def measure(
    degradation: Degradation, images: list[np.ndarray], num_images: int, prefix: str
) -> tuple[float, float, float, int]:
    """CPU seconds of the plain chain and of ours; summed share and largest size of differences of the 8-bit results.

    A value on a rounding tie in front of the encoder can move one JPEG coefficient by a whole step.
    """
    seconds, differing, largest = [0.0, 0.0], 0.0, 0
    for index in range(num_images):
        image, key = images[index % len(images)], f"{prefix}/{index}"
        results = []
        # Taking turns at going first evens out what one leaves in the caches for the other.
        for variant in (0, 1) if index % 2 else (1, 0):
            start = time.thread_time()
            record = degradation.record(key, 0, image.shape[:2])
            results.append((plain_chain, degrade)[variant](image, record))
            seconds[variant] += time.thread_time() - start
        difference = np.abs(np.rint(255 * results[0]) - np.rint(255 * results[1]))
        differing += float((difference > 0).mean())
        largest = max(largest, int(difference.max()))
    return seconds[0], seconds[1], differing, largest


def plain_chain(image: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """degradations.md 1.2 step by step with OpenCV and NumPy calls only."""
    kernel = {key: value for key, value in record["kernel"].items() if value is not None}
    lq = image[..., ::-1].astype(np.float32) / np.float32(255)
    lq = cv2.filter2D(lq, -1, blur_kernel(**kernel), borderType=cv2.BORDER_REFLECT_101)
    height, width = record["down_hw"]
    lq = cv2.resize(lq, (width, height), interpolation=cv2.INTER_LINEAR)
    generator = np.random.RandomState(np.array(record["noise"]["seed"], np.uint32))
    # The field is drawn for RGB; the plain chain works in BGR like the public code.
    noise = generator.standard_normal((height, width, 3)).astype(np.float32)[..., ::-1]
    lq = np.clip(lq + noise * np.float32(record["noise"]["sigma"] / 255), 0, 1)
    options = [cv2.IMWRITE_JPEG_QUALITY, record["jpeg"]["quality"]]
    _, stream = cv2.imencode(".jpg", np.rint(lq * 255).astype(np.uint8), options)
    lq = cv2.imdecode(stream, cv2.IMREAD_COLOR).astype(np.float32) / np.float32(255)
    height, width = record["out_hw"]
    return cv2.resize(lq, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1]


def picture(seed: int, size_px: int) -> np.ndarray:
    """Uint8 RGB noise with the 1/f amplitudes of photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((3, size_px, size_px))) / frequency
    spectrum[:, 0, 0] = 0.0
    planes = np.fft.irfft2(spectrum, s=(size_px, size_px))
    planes = 128 + 45 * planes / planes.std()
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


if __name__ == "__main__":
    main()
