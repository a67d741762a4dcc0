"""Reads the weight files of face-api.js: a manifest of tensors beside one file of their 8-bit values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch

from lit_restore.errors import UserError
from lit_restore.faces.weights import LANDMARKS68_MANIFEST, check

_NAMES = {"filters": "weight", "depthwise_filter": "dw.weight", "pointwise_filter": "pw.weight", "weights": "weight"}


def read_face_api(path: Path) -> dict[str, torch.Tensor]:
    """Tensors under the names and in the axis order of `lit_restore.faces.landmarks68.Landmarks68Net`.

    A stored byte q stands for ``q * scale + min``; TensorFlow's axes (height, width, in, out) become PyTorch's
    (out, in, height, width).

    Args:
        path: `weights.LANDMARKS68`, with `weights.LANDMARKS68_MANIFEST` in the same folder.

    Raises:
        UserError: the manifest is missing or damaged, or does not describe the file.
    """
    manifest = path.with_name(LANDMARKS68_MANIFEST.name)
    if not manifest.is_file():
        fix = f"Fetch it too: {LANDMARKS68_MANIFEST.source}"
        raise UserError("manifest missing beside its weight file", where=manifest, fix=fix)
    check(manifest, LANDMARKS68_MANIFEST)
    return _decode(path.read_bytes(), json.loads(manifest.read_text())[0]["weights"])


def _decode(content: bytes, entries: list[dict]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    start = 0
    for entry in entries:
        shape, quantization = entry["shape"], entry["quantization"]
        size_bytes = math.prod(shape)
        stored = np.frombuffer(content, np.uint8, size_bytes, start).reshape(shape).astype(np.float64)
        start += size_bytes
        *parents, kind = entry["name"].split("/")
        values = stored * quantization["scale"] + quantization["min"]
        name = ".".join([*parents, _NAMES.get(kind, kind)])
        state[name] = torch.from_numpy(np.ascontiguousarray(_to_torch_axes(values, kind))).float()
    return state


def _to_torch_axes(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "depthwise_filter":  # (height, width, channels, 1)
        return values.transpose(2, 3, 0, 1)
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    return values.T
