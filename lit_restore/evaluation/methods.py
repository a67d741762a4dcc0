"""What makes pictures: the interface of a method, and the three that need no training.

A method is called with a batch and gives, per photo, a picture or the reason why there is none. Its ``protocol`` says
everything about it that could change a pixel.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F

from lit_restore.errors import UserError
from lit_restore.evaluation.protocol import Protocol as ProtocolValues
from lit_restore.types import RestorationBatch

Outcome = torch.Tensor | UserError
"""A picture (3, H, W) in [-1, 1], or why there is none."""


class Method(Protocol):
    """Anything that restores a batch."""

    name: str
    protocol: ProtocolValues

    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        """One outcome per photo of the batch."""

    def to(self, device: torch.device) -> Method:
        """Move to a device, in place."""


class InputCopy:
    """The degraded photo itself: what a restorer has to beat."""

    def __init__(self) -> None:
        self.name = "degraded-input"
        self.protocol: ProtocolValues = {"kind": "input copied"}

    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        return list(batch["lq"])

    def to(self, device: torch.device) -> InputCopy:
        return self


class Bicubic:
    """The photo reduced by ``factor`` and enlarged again, both bicubic: what remains of it without any prior.

    The inputs of a times-``factor`` super-resolution come enlarged; reducing them gives back the small photo. Keys'
    cubic with a = -1/2 both ways, as in Matlab and Pillow.
    """

    def __init__(self, factor: int) -> None:
        if factor < 2:
            raise UserError("bad factor of the bicubic baseline", expected="2 or more", found=factor)
        self.factor = factor
        self.name = f"bicubic-x{factor}"
        self.protocol: ProtocolValues = {"kind": "bicubic", "factor": factor, "antialias": True}

    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        lq = batch["lq"]
        height, width = lq.shape[-2:]
        small = (max(1, height // self.factor), max(1, width // self.factor))
        reduced = F.interpolate(lq, small, mode="bicubic", antialias=True)
        # antialias also selects a = -1/2; enlarging needs no anti-aliasing.
        return list(F.interpolate(reduced, (height, width), mode="bicubic", antialias=True).clamp(-1, 1))

    def to(self, device: torch.device) -> Bicubic:
        return self


class NearestReference:
    """The reference most like the degraded photo, put in its place: the right person in the wrong photo.

    Likeness is the squared difference of 16 x 16 averaged pixels, which degradations leave alone.
    """

    def __init__(self) -> None:
        self.name = "nearest-reference"
        self.protocol: ProtocolValues = {"kind": self.name, "likeness": "mean squared error of 16x16 averages"}

    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for lq, references, mask in zip(batch["lq"], batch["references"], batch["reference_mask"], strict=True):
            real = references[mask]
            if not len(real):
                outcomes.append(UserError("no reference to show"))
                continue
            distance = (_coarse(real) - _coarse(lq[None])).square().mean((1, 2, 3))
            outcomes.append(real[int(distance.argmin())])
        return outcomes

    def to(self, device: torch.device) -> NearestReference:
        return self


def _coarse(images: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(images, 16)
