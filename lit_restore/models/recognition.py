"""Face recognition networks: aligned faces -> unit vectors whose cosine tells how alike two people are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.base import BUNDLED


class SmallRecognizer(nn.Module):
    """A four-stage residual network for the synthetic people; 0.6 million parameters at the default widths.

    Args:
        widths: channels after each stride-2 stage.
        embedding: length of the face vector.
        size_px: faces are resized to this side first.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), embedding: int = 128, size_px: int = 64) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "embedding": embedding, "size_px": size_px}
        self.size_px = size_px
        stages, channels = [], 3
        for width in widths:
            stages += [_conv(channels, width, stride=2), _Residual(width)]
            channels = width
        self.stages = nn.Sequential(*stages)
        side = size_px // 2 ** len(widths)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, embedding), nn.BatchNorm1d(embedding))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, embedding), L2-normalised."""
        if faces.shape[-1] != self.size_px:
            faces = F.interpolate(faces, (self.size_px, self.size_px), mode="bilinear", antialias=True)
        return F.normalize(self.head(self.stages(faces)).float(), dim=1)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        # Half precision: the vectors' cosines change by less than 0.001.
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")


def load_recognizer(source: str) -> nn.Module:
    """A frozen recognition network in eval mode from ``bundled:NAME`` or a folder written by `SmallRecognizer.save`.

    Raises:
        UserError: nothing is there, or the file is damaged.
    """
    folder = BUNDLED / source.removeprefix("bundled:") if source.startswith("bundled:") else Path(source)
    try:
        network = SmallRecognizer(**json.loads((folder / "config.json").read_text()))
        state = load_file(folder / "model.safetensors")
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (OSError, SafetensorError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            "no usable recognition network",
            where=folder,
            expected="config.json and model.safetensors",
            found=str(error).splitlines()[0],
        ) from None
    return network.requires_grad_(False).eval()


def _conv(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.body = nn.Sequential(_conv(width, width), second, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)
