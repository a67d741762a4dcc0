"""LPIPS as a metric; see `lit_restore.losses.perceptual` for what it is."""

from __future__ import annotations

from pathlib import Path

import torch

from lit_restore.losses.perceptual import Backbone, Lpips
from lit_restore.metrics.measurement import Comparison, MetricInfo, library
from lit_restore.models.base import fingerprint

TITLES: dict[Backbone, str] = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet"}
INFO = {backbone: MetricInfo(f"LPIPS ({title})", False, "{:.3f}") for backbone, title in TITLES.items()}


def lpips_metric(backbone: Backbone, weights: str | Path | None = None) -> Comparison:
    """LPIPS per image. Its authors evaluate with AlexNet; papers rarely say which backbone they took.

    Args:
        weights: torchvision file of the backbone; None = see `lit_restore.faces.weights.obtain`.

    Raises:
        UserError: the file is missing or damaged.
    """
    network = Lpips(backbone, weights)

    def compare(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        return network.to(restored.device)(2 * restored - 1, 2 * hq - 1)

    protocol = {
        "backbone": TITLES[backbone],
        "heads": "v0.1",
        "weights": fingerprint(network),
        "colour": "RGB",
        "size": "as given",
        "library": library("lpips"),
    }
    return Comparison(f"lpips_{backbone}", INFO[backbone], compare, protocol)
