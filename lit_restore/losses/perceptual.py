"""LPIPS (Zhang et al. 2018): distance of deep features, weighted by what people see.

    LPIPS(x, y) = sum_l mean_hw sum_c w_lc (f_l(x) - f_l(y))_c^2,   f normalised to unit length along c

The ``lpips`` package brings the weights ``w`` (v0.1) but not the ImageNet backbones; these are taken from a local
file, from torch's download cache, or downloaded.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lit_restore.errors import UserError

Backbone = Literal["vgg", "alex", "squeeze"]
_FILES: dict[str, str] = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


class Lpips(nn.Module):
    """Frozen LPIPS network.

    Args:
        backbone: ``vgg`` for training (the papers), ``alex`` for evaluation, ``squeeze`` small.
        weights: torchvision weights file of the backbone (.pth or .safetensors); None = torch's cache or a download.

    Raises:
        UserError: the backbone's weights are neither local nor downloadable.
    """

    def __init__(self, backbone: Backbone = "vgg", weights: str | None = None) -> None:
        super().__init__()
        import lpips

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the package calls torchvision in an outdated way
            # pnet_rand builds the backbone without asking the network for weights; they are filled in below.
            self.network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
        _fill(self.network.net, _backbone_weights(backbone, weights), weights or _FILES[backbone])
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


def _backbone_weights(backbone: str, weights: str | None) -> dict[str, torch.Tensor]:
    name = _FILES[backbone]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if weights is not None and not Path(weights).is_file():
        raise UserError("no such LPIPS backbone file", where=weights, expected=name)
    path = Path(weights) if weights is not None else cached
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.is_file():
            return torch.load(path, map_location="cpu", weights_only=True)
        return torch.hub.load_state_dict_from_url(
            f"https://download.pytorch.org/models/{name}", map_location="cpu", check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(
            "LPIPS needs the weights of its backbone",
            where=path,
            expected=name,
            found="no such file and no network" if isinstance(error, URLError) else "a file that cannot be read",
            fix=f"Put {name} of torchvision there, or set the LPIPS weight to 0.",
        ) from None


def _fill(slices: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Copy torchvision's ``features.I.*`` into the package's ``sliceK.I.*``; every slice parameter must be found."""
    own = slices.state_dict()
    try:
        filled = {key: state["features." + key.split(".", 1)[1]].float() for key in own}
        slices.load_state_dict(filled)
    except (KeyError, RuntimeError) as error:
        found = " ".join(str(error).split())[:200]
        raise UserError("not the weights of this LPIPS backbone", where=where, found=found) from None
