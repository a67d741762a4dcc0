"""The residual networks of face recognition: IR-SE50 and IR-101 on 112 px faces, with the tensor names of public files.

    x -> conv 3x3, BN, PReLU -> units -> BN, flatten, linear 512, BN
    unit: x + BN(conv_s(PReLU(conv(BN x))))      the second convolution has stride s = 2 in the first unit of a stage

The four stages have 64, 128, 256 and 512 channels. What tells the public networks apart:

    network          units per stage   in a unit                      last BN        channels
    ArcFace          3, 4, 14, 3       squeeze-and-excitation last    with weights   RGB
    CurricularFace   3, 13, 30, 3                                     without        RGB
    AdaFace          3, 13, 30, 3      another BN before the PReLU    without        BGR

Sources: ArcFace (Deng et al. 2019) as trained by InsightFace_Pytorch, instantrestore.md section 9; CurricularFace
(Huang et al. 2020) and AdaFace (Kim et al. 2022), the authors' repositories.
"""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (64, 128, 256, 512)
EMBEDDING = 512


class IResNet(nn.Module):
    """RGB faces (B, 3, 112, 112) in [-1, 1] -> (B, 512), not normalised.

    Args:
        units: of each stage.
        squeeze: squeeze-and-excitation at the end of every unit.
        inner_norm: batch normalisation before the PReLU of every unit.
        last_affine: the last batch normalisation has weights.
        bgr: trained on blue-green-red images; the channels are swapped here.
    """

    def __init__(
        self,
        units: tuple[int, int, int, int],
        *,
        squeeze: bool = False,
        inner_norm: bool = False,
        last_affine: bool = False,
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.bgr = bgr
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.PReLU(WIDTHS[0])
        )
        body, channels = [], WIDTHS[0]
        for width, count in zip(WIDTHS, units, strict=True):
            for index in range(count):
                body.append(_Unit(channels, width, 2 if index == 0 else 1, squeeze, inner_norm))
                channels = width
        self.body = nn.Sequential(*body)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Identity(),  # dropout in training; keeps the names of the next layers
            nn.Flatten(),
            nn.Linear(channels * 7 * 7, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING, affine=last_affine),
        )

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return self.output_layer(self.body(self.input_layer(faces.flip(1) if self.bgr else faces)))


class _Unit(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, squeeze: bool, inner_norm: bool) -> None:
        super().__init__()
        if channels == width:
            self.shortcut_layer = nn.MaxPool2d(1, stride)  # takes every stride-th pixel
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        layers = [nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(width)] if inner_norm else []
        layers += [nn.PReLU(width), nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)]
        layers += [_SqueezeExcitation(width)] if squeeze else []
        self.res_layer = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


class _SqueezeExcitation(nn.Module):
    """Channels weighted by a sigmoid of what their means say (Hu et al. 2018)."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(width // reduction, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


def arcface_ir_se50() -> IResNet:
    """ArcFace, ``model_ir_se50.pth``: the identity loss of InstantRestore."""
    return IResNet((3, 4, 14, 3), squeeze=True, last_affine=True)


def curricularface_ir101() -> IResNet:
    """CurricularFace, ``CurricularFace_Backbone.pth``: the identity metric of InstantRestore's tables."""
    return IResNet((3, 13, 30, 3))


def adaface_ir101() -> IResNet:
    """AdaFace, ``adaface_ir101_*.ckpt``; its tensors carry the prefix ``model.``."""
    return IResNet((3, 13, 30, 3), inner_norm=True, bgr=True)
