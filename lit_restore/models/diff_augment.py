"""Differentiable augmentation of what a discriminator sees (DiffAugment, Zhao et al. 2020).

Real and restored images are changed at random before the discriminator judges them, so that it cannot learn a small
data set by heart; gradients pass through. Per image, with u uniform in [0, 1) and without clamping:

    color        x + (u - 0.5);   (x - mean_c) 2u + mean_c;   (x - mean_chw) (u + 0.5) + mean_chw
    translation  out[r, c] = in[r + dr, c + dc], 0 outside;   |dr| <= int(H / 8 + 0.5), |dc| <= int(W / 8 + 0.5)
    cutout       0 in a box of int(H / 2 + 0.5) x int(W / 2 + 0.5) pixels whose centre is anywhere in the image

Drawing is apart from applying, so that the same draws can be made again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from lit_restore.errors import UserError, nearest

Operation = Literal["color", "translation", "cutout"]
SHIFT_FRACTION, CUTOUT_FRACTION = 0.125, 0.5


@dataclass(frozen=True)
class AugmentationDraws:
    """The seven random numbers of each image, each (B,), in the order in which they are drawn; on the CPU."""

    brightness: torch.Tensor
    """Uniform in [0, 1), as the next two."""
    saturation: torch.Tensor
    contrast: torch.Tensor
    shift_rows: torch.Tensor
    """Whole pixels by which the image moves up (dr)."""
    shift_cols: torch.Tensor
    """Whole pixels by which the image moves left (dc)."""
    cutout_row: torch.Tensor
    """Centre of the box: the pixel after its first half."""
    cutout_col: torch.Tensor


def draw_augmentation(batch: int, height: int, width: int, generator: torch.Generator) -> AugmentationDraws:
    """Draw for ``batch`` images; always all seven, so that what is applied does not change what is drawn next.

    Args:
        generator: of any device; the draws are moved to the CPU, so a CPU generator gives the same ones everywhere.
    """
    device = generator.device
    uniform = [torch.rand(batch, generator=generator, device=device) for _ in range(3)]
    ranges = []
    for side in (height, width):
        shift = _pixels(side, SHIFT_FRACTION)
        ranges.append((-shift, shift + 1))
    for side in (height, width):
        # A box of an even side has no middle pixel, hence one more place.
        ranges.append((0, side + 1 - _pixels(side, CUTOUT_FRACTION) % 2))
    whole = [torch.randint(low, end, (batch,), generator=generator, device=device) for low, end in ranges]
    return AugmentationDraws(*(draw.cpu() for draw in uniform + whole))


def augment(images: torch.Tensor, draws: AugmentationDraws, operations: Collection[Operation]) -> torch.Tensor:
    """Images (B, 3, H, W) in any range -> the same shape, slightly out of that range.

    Args:
        operations: of `Operation`; they are applied in the order color, translation, cutout, whatever theirs.

    Raises:
        UserError: an operation is not known.
    """
    known = {"color": _color, "translation": _translation, "cutout": _cutout}
    unknown = sorted(set(operations) - set(known))
    if unknown:
        raise UserError("no such augmentation", where=unknown[0], fix=nearest(unknown[0], known))
    for name, apply in known.items():
        if name in operations:
            images = apply(images, draws)
    return images


def _color(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    uniform = (draws.brightness, draws.saturation, draws.contrast)
    brightness, saturation, contrast = (u.to(images).view(-1, 1, 1, 1) for u in uniform)
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + 0.5) + mean


def _translation(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    height, width = images.shape[-2:]
    down, right = _pixels(height, SHIFT_FRACTION), _pixels(width, SHIFT_FRACTION)
    padded = F.pad(images, (right, right, down, down))
    moved = []
    for image, row, col in zip(padded, draws.shift_rows.tolist(), draws.shift_cols.tolist(), strict=True):
        moved.append(image[:, down + row : down + row + height, right + col : right + col + width])
    return torch.stack(moved)


def _cutout(images: torch.Tensor, draws: AugmentationDraws) -> torch.Tensor:
    rows = _inside(images.shape[-2], draws.cutout_row)[:, :, None]
    cols = _inside(images.shape[-1], draws.cutout_col)[:, None, :]
    return images * ~(rows & cols)[:, None].to(images.device)


def _inside(side: int, centre: torch.Tensor) -> torch.Tensor:
    """(B, side) bool: the rows (or columns) that the box covers."""
    box = _pixels(side, CUTOUT_FRACTION)
    first = (centre - box // 2)[:, None]
    place = torch.arange(side)[None]
    return (place >= first) & (place < first + box)


def _pixels(side: int, fraction: float) -> int:
    return int(side * fraction + 0.5)
