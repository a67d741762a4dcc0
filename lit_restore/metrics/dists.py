"""DISTS, structure and texture similarity of deep features (Ding et al. 2020); lower is better.

    DISTS = 1 - sum_ij (alpha_ij l(x_ij, y_ij) + beta_ij s(x_ij, y_ij))

over channels j of the picture and of five VGG16 stages i with L2 pooling; l compares means, s covariances. The network
and the weights alpha, beta are those of torchmetrics, which fetches VGG16 anew for every call; here it is read once.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn
from torchmetrics.functional.image import dists
from torchvision.models.vgg import cfgs, make_layers

from lit_restore.errors import UserError
from lit_restore.faces.weights import decode, obtain
from lit_restore.losses.perceptual import VGG16
from lit_restore.metrics.measurement import Comparison, MetricInfo, library
from lit_restore.models.base import fingerprint

INFO = MetricInfo("DISTS", False, "{:.4f}")


def load_dists(weights: str | Path | None = None) -> nn.Module:
    """The frozen network: two batches (B, 3, H, W) in [0, 1] -> (B,), a scalar for B = 1.

    Args:
        weights: torchvision's VGG16; None = see `lit_restore.faces.weights.obtain`.

    Raises:
        UserError: the file is missing, damaged, or another network's.
    """
    path = obtain(VGG16, weights)
    features = make_layers(cfgs["D"], batch_norm=False)
    state = {name.removeprefix("features."): value for name, value in decode(path).items() if "features." in name}
    try:
        features.load_state_dict(state)
    except RuntimeError as error:
        raise UserError("not the weights of VGG16", where=path, found=" ".join(str(error).split())[:200]) from None
    downloading = dists.vgg16
    dists.vgg16 = lambda **_: SimpleNamespace(features=features)
    try:
        network = dists.DISTSNetwork()
    finally:
        dists.vgg16 = downloading
    return network.requires_grad_(False).eval()


def dists_metric(weights: str | Path | None = None) -> Comparison:
    """DISTS per image; arguments and errors as `load_dists`."""
    network = load_dists(weights)

    def compare(restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        return network.to(restored.device)(restored, hq).reshape(-1)

    protocol = {
        "backbone": "VGG16",
        "weights": fingerprint(network),
        "colour": "RGB",
        "size": "as given",
        "library": library("torchmetrics"),
    }
    return Comparison("dists", INFO, compare, protocol)
