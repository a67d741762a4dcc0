"""Features of Inception v3 as FID is published with: the converted TensorFlow network of torch-fidelity.

torch-fidelity is an optional package (extra ``fid``); its weights are one file of 91 MiB. Without both, take the
features of a recognition network (``fid_synthetic`` and its like): another measure, hence another name.
"""

from __future__ import annotations

from pathlib import Path

import torch

from lit_restore.errors import UserError
from lit_restore.faces.weights import decode, obtain
from lit_restore.metrics.distribution import Features
from lit_restore.metrics.measurement import library
from lit_restore.metrics.weights import INCEPTION
from lit_restore.models.base import fingerprint
from lit_restore.types import RestorationBatch

LAYER = "2048"


def inception_features(weights: str | Path | None = None) -> tuple[Features, dict[str, str]]:
    """The 2048 pooled features, and their protocol.

    Args:
        weights: the file; None = see `lit_restore.faces.weights.obtain`.

    Raises:
        UserError: package or file is missing, or the file is another network's.
    """
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        raise UserError(
            "FID and KID need the package torch-fidelity, which has their Inception network",
            fix="Install it with pip install 'lit_restore[fid]', or take fid_synthetic (another measure).",
        ) from None
    from torchmetrics.image.fid import NoTrainInceptionV3

    path = obtain(INCEPTION, weights)
    decode(path)  # refuses files with code in them, which torch-fidelity would run
    try:
        network = NoTrainInceptionV3("inception-v3-compat", [LAYER], str(path), antialias=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            "not the Inception network of FID", where=path, found=" ".join(str(error).split())[:200]
        ) from None
    network.requires_grad_(False)

    def features(images: torch.Tensor, batch: RestorationBatch) -> torch.Tensor:
        levels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return network.to(images.device)(levels).double().cpu()

    return features, {
        "features": f"Inception v3 (2015-12-05), {LAYER}",
        "weights": fingerprint(network),
        "size": "299 px, bilinear as in TensorFlow 1, no antialiasing",
        "colour": "RGB, 8 bits",
        "extractor": library("torch-fidelity"),
    }
