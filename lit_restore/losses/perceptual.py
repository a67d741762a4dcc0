"""LPIPS (Zhang et al. 2018): distance of deep features, weighted by what people see.

    LPIPS(x, y) = sum_l mean_hw sum_c w_lc (f_l(x) - f_l(y))_c^2,   f normalised to unit length along c

The ``lpips`` package brings the weights ``w`` (v0.1) but not the ImageNet backbones: these are files of torchvision,
which are looked for, and downloaded, as `lit_restore.faces.weights.obtain` says.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.weights import WeightFile, decode, obtain

Backbone = Literal["vgg", "alex", "squeeze"]

_TORCHVISION = "https://download.pytorch.org/models"
VGG16 = WeightFile(
    name="vgg16-397923af.pth",
    what="VGG16 of torchvision",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/vgg16-397923af.pth",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    size_bytes=553_433_881,
)
ALEXNET = WeightFile(
    name="alexnet-owt-7be5be79.pth",
    what="AlexNet of torchvision",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    size_bytes=244_408_911,
)
SQUEEZENET = WeightFile(
    name="squeezenet1_1-b8a52dc0.pth",
    what="SqueezeNet 1.1 of torchvision",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
    sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    size_bytes=4_958_839,
)
SQUEEZENET_FP16 = WeightFile(
    name="squeezenet1_1_fp16.safetensors",
    what="the same network in half precision",
    licence="BSD-3-Clause as the package",
    source="converted from squeezenet1_1 of torchvision",
    sha256="96a4b662bedd50905054b1e43e048305ea292e69541106a7dcd14a2c129d4e08",
    size_bytes=2_483_664,
)
_FILES: dict[Backbone, tuple[WeightFile, WeightFile | None]] = {  # and what does as well
    "vgg": (VGG16, None),
    "alex": (ALEXNET, None),
    "squeeze": (SQUEEZENET, SQUEEZENET_FP16),
}


class Lpips(nn.Module):
    """Frozen LPIPS network.

    Args:
        backbone: ``vgg`` for training (the papers), ``alex`` for evaluation, ``squeeze`` small.
        weights: torchvision weights file of the backbone (.pth or .safetensors); None = one of the known places or a
            download.

    Raises:
        UserError: the backbone's weights are neither local nor downloadable, damaged, or another network's.
    """

    def __init__(self, backbone: Backbone = "vgg", weights: str | Path | None = None) -> None:
        super().__init__()
        import lpips

        file, instead = _FILES[backbone]
        path = obtain(file, weights, instead=instead)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the package calls torchvision in an outdated way
            # pnet_rand builds the backbone without asking the network for weights; they are filled in below.
            self.network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        _fill(self.network.net, decode(path), path)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Lpips:
        """Stays in eval mode: the heads contain dropout."""
        return super().train(False)

    def forward(self, restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> distance per image (B,)."""
        scale = self.network.scaling_layer
        first, second = self.network.net(scale(restored.float())), self.network.net(scale(hq.float()))
        total = 0.0
        for head, one, two in zip(self.network.lins, first, second, strict=True):
            difference = (_unit(one) - _unit(two)) ** 2
            total = total + head(difference).mean((1, 2, 3))
        return total


def _unit(features: torch.Tensor) -> torch.Tensor:
    # The small constant inside the root keeps the gradient finite where all features are zero.
    return features / (features.pow(2).sum(1, keepdim=True).add(1e-10).sqrt() + 1e-10)


def _fill(slices: nn.Module, state: dict[str, torch.Tensor], where: Path) -> None:
    """Copy torchvision's ``features.I.*`` into the package's ``sliceK.I.*``; every slice parameter must be found."""
    own = slices.state_dict()
    try:
        filled = {key: state["features." + key.split(".", 1)[1]].float() for key in own}
        slices.load_state_dict(filled)
    except (KeyError, RuntimeError) as error:
        found = " ".join(str(error).split())[:200]
        raise UserError("not the weights of this LPIPS backbone", where=where, found=found) from None
