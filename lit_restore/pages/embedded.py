"""Pictures as ``data:`` addresses, which a page holds within itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

LOSSLESS_UP_TO_PX = 256  # above this a page of PNGs would be too large to send around
WEBP_QUALITY = 95


def address(image: np.ndarray, *, lossless: bool = False) -> str:
    """uint8 RGB (H, W, 3) as an address; large ones as WebP unless ``lossless``."""
    is_png = lossless or max(image.shape[:2]) <= LOSSLESS_UP_TO_PX
    stream = io.BytesIO()
    if is_png:
        Image.fromarray(image).save(stream, format="PNG")
    else:
        Image.fromarray(image).save(stream, format="WEBP", quality=WEBP_QUALITY)
    return f"data:image/{'png' if is_png else 'webp'};base64,{base64.b64encode(stream.getvalue()).decode()}"
