"""face-reidentification-retail-0095 of Intel's Open Model Zoo: a small recognition network under a free licence.

    x -> a x + b -> conv 3x3 stride 2, depthwise 3x3 -> 15 blocks -> conv 1x1 to 512, depthwise 8x8, linear 256
    block: 1x1 to wide, depthwise 3x3, 1x1 to narrow, squeeze-and-excitation; added to its input where shapes agree

Batch normalisation is folded into the convolutions. PReLUs have one slope; they follow every convolution but the
narrowing ones, the excitation and the last two. 99.47 % on LFW (published). Input: 128 px faces in their own five-point
frame, blue-green-red, 0 to 255.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# wide, narrow, stride of the 15 blocks
_BLOCKS = [(128, 64, 2), *[(128, 64, 1)] * 4, (256, 128, 2), *[(256, 128, 1)] * 6, (512, 128, 2), *[(256, 128, 1)] * 2]


class FaceReid(nn.Module):
    """RGB faces (B, 3, 128, 128) in [-1, 1] -> (B, 256), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.ParameterDict({"scale": torch.ones(3), "offset": torch.zeros(3)})
        self.stem = nn.ModuleDict({"conv": _Conv(3, 64, 3, stride=2), "dw": _Conv(64, 64, 3, groups=64)})
        blocks, channels = [], 64
        for wide, narrow, stride in _BLOCKS:
            blocks.append(_Block(channels, wide, narrow, stride))
            channels = narrow
        self.blocks = nn.Sequential(*blocks)
        head = {"pw": _Conv(channels, 512, 1), "gdc": _Conv(512, 512, 8, padding=0, groups=512, prelu=False)}
        self.head = nn.ModuleDict(head | {"embed": _Conv(512, 256, 1, prelu=False, bias=False)})

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        x = (faces.flip(1) + 1) * 127.5
        x = x * self.input["scale"].view(-1, 1, 1) + self.input["offset"].view(-1, 1, 1)
        x = self.blocks(self.stem["dw"](self.stem["conv"](x)))
        return self.head["embed"](self.head["gdc"](self.head["pw"](x))).flatten(1)


class _Conv(nn.Module):
    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        prelu: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.options = {"stride": stride, "padding": kernel // 2 if padding is None else padding, "groups": groups}
        self.weight = nn.Parameter(torch.zeros(width, channels // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.prelu = nn.Parameter(torch.zeros(1)) if prelu else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, self.weight, self.bias, **self.options)
        return x if self.prelu is None else F.prelu(x, self.prelu.to(x.dtype))


class _Block(nn.Module):
    def __init__(self, channels: int, wide: int, narrow: int, stride: int) -> None:
        super().__init__()
        self.expand = _Conv(channels, wide, 1)
        self.dw = _Conv(wide, wide, 3, stride=stride, groups=wide)
        self.project = _Conv(wide, narrow, 1, prelu=False)
        self.se_down = _Conv(narrow, narrow // 8, 1)
        self.se_up = _Conv(narrow // 8, narrow, 1, prelu=False)
        self.adds = stride == 1 and channels == narrow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.dw(self.expand(x)))
        y = y * torch.sigmoid(self.se_up(self.se_down(y.mean((2, 3), keepdim=True))))
        return x + y if self.adds else y
