"""From linear light to the 8-bit photo a camera would have stored."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import grey, scaled
from lit_restore.data.synthetic.nuisance import Camera
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.skin import linear


def metered(who: Person) -> float:
    """Cameras meter faces: part of the difference in skin tone is exposed away."""
    return float(np.clip((0.42 / linear(who.skin).mean()) ** 0.22, 0.9, 1.5))


def develop(image: np.ndarray, camera: Camera, metering: float) -> np.ndarray:
    """Linear light to an 8-bit photo: exposure, white balance, highlights rolled off, contrast, grain."""
    image = scaled(image, np.float32(camera.white_balance) * np.float32(camera.exposure * metering))
    image = np.sqrt(np.maximum(image, 0))
    image = np.where(image > 0.8, 0.8 + 0.2 * np.tanh((image - 0.8) * (5.0 * 0.8)), image)
    image += np.float32(camera.contrast * 0.5) * (image * image * (3 - 2 * image) - image)
    image += grey(camera.noise * _grain(image.shape[0], camera.noise_offset))
    return cv2.convertScaleAbs(np.maximum(image, 0), alpha=255)


@lru_cache(maxsize=8)
def _grain_tile(size_px: int) -> np.ndarray:
    tile = np.random.RandomState(1349).standard_normal((512, 512)).astype(np.float32)
    if size_px < 512:
        scaled = cv2.resize(tile, (size_px, size_px), interpolation=cv2.INTER_AREA)
        return scaled / scaled.std()
    return tile


def _grain(size_px: int, offset: tuple[float, float]) -> np.ndarray:
    """(S, S) film grain: one fixed tile, shifted per photo."""
    tile = _grain_tile(size_px)
    shift = (int(offset[0] * tile.shape[0]), int(offset[1] * tile.shape[1]))
    return np.roll(tile, shift, axis=(0, 1))[:size_px, :size_px]
