"""Pictures of where a query looks in each reference, beside where it should (after InstantRestore, figure 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch

from lit_restore.data.attention_targets import gaussian_rows, landmark_cells
from lit_restore.image import to_uint8
from lit_restore.metrics.attention import INSIDE
from lit_restore.models.attention_probe import SampleAttention
from lit_restore.types import RestorationBatch
from lit_restore.visualization import column, row

# Of the 68 points that the dense landmarks begin with; left and right as seen in the picture.
FACE_POINTS = {
    "left eye": list(range(36, 42)),
    "right eye": list(range(42, 48)),
    "nose tip": [30],
    "mouth": list(range(48, 60)),
}
RED, WHITE, BLACK = (255, 40, 40), (255, 255, 255), (0, 0, 0)


class Point(NamedTuple):
    """One place of a face, in pixels."""

    query: torch.Tensor
    """(2,) x, y in the photo."""
    references: torch.Tensor
    """(R, 2) the same place in the references."""
    visible: torch.Tensor
    """(R,) bool, whether it can be seen there."""


def face_point(batch: RestorationBatch, sample: int, landmarks: list[int]) -> Point | None:
    """The mean of some landmarks; None where one of them is not visible in the photo."""
    if not bool(batch["landmark_mask"][sample, landmarks].all()):
        return None
    return Point(
        batch["landmarks"][sample, landmarks].mean(0),
        batch["reference_landmarks"][sample][:, landmarks].mean(1),
        batch["reference_landmark_mask"][sample][:, landmarks].all(1) & batch["reference_mask"][sample],
    )


def point_at(batch: RestorationBatch, sample: int, x: float, y: float) -> Point | None:
    """Any place of the face, such as a mole, by the visible landmark next to it; None where there is none.

    Args:
        x, y: in pixels of the photo.
    """
    visible = batch["landmark_mask"][sample].nonzero().flatten()
    if len(visible) == 0:
        return None
    place = batch["landmarks"].new_tensor([x, y])
    distance = (batch["landmarks"][sample, visible] - place).square().sum(1)
    return face_point(batch, sample, [int(visible[distance.argmin()])])


def attention_picture(
    batch: RestorationBatch,
    sample: int,
    restored: torch.Tensor,
    attention: dict[str, SampleAttention],
    points: dict[str, Point],
    tile_px: int = 160,
) -> np.ndarray:
    """For every point a line with the ideal attention and one per layer with the measured.

        truth with the point             | references, bright where the query should look
        restored photo with the point    | references, bright where it looks
        ...

    A line is as bright as its brightest cell; heads are averaged. The number beside the layer is the share of the
    attention within two standard deviations of the ideal Gaussians.

    Args:
        batch: it and the attention on one device.
        sample: which photo of the batch.
        restored: (3, H, W) in [-1, 1], that photo.
        attention: of that photo, by the name to show.
        points: by the name to show.
        tile_px: side of the tiles.

    Returns:
        uint8 (H, W, 3).
    """
    real = batch["reference_mask"][sample].nonzero().flatten().tolist()
    references = [_tile(to_uint8(batch["references"][sample, index]), tile_px) for index in real]
    size_px = batch["hq"].shape[-1]
    finest = max(math.isqrt(one.query.shape[1]) for one in attention.values())
    lines = []
    for name, point in points.items():
        ideal = _ideal(point, real, size_px, finest)
        truth, output = (_tile(to_uint8(image), tile_px) for image in (batch["hq"][sample], restored))
        lines.append(_line(truth, point, references, ideal, size_px, f"{name}: ideal"))
        for layer, one in attention.items():
            maps = _measured(one, point, real, size_px)
            wanted = _ideal(point, real, size_px, maps.shape[-1]) >= INSIDE
            lines.append(
                _line(output, point, references, maps, size_px, f"{layer}: {float((maps * wanted).sum()):.2f}")
            )
    return column(lines)


def _measured(attention: SampleAttention, point: Point, real: list[int], size_px: int) -> np.ndarray:
    """(references, grid, grid) probabilities of the query at a point."""
    grid = math.isqrt(attention.query.shape[1])
    x, y = landmark_cells(point.query, size_px, grid)[0]
    probability = attention.rows((y * grid + x)[None]).detach().mean(0)[0].cpu()
    return np.stack(
        [probability[s : s + grid**2].view(grid, grid) for s in (attention.starts[index] for index in real)]
    )


def _ideal(point: Point, real: list[int], size_px: int, grid: int) -> np.ndarray:
    """(references, grid, grid) Gaussians of peak 1; zero where the point is hidden."""
    maps = []
    for index in real:
        points = point.query[None, None], point.references[index][None, None]
        rows = gaussian_rows(*points, size_px=size_px, grid=grid, reference_mask=point.visible[index][None, None])
        maps.append(rows.values.sum(0).view(grid, grid).cpu().numpy())
    return np.stack(maps)


def _line(
    photo: np.ndarray, point: Point, references: list[np.ndarray], maps: np.ndarray, size_px: int, text: str
) -> np.ndarray:
    """One photo with a dot and the references under their maps, below a text."""
    tile_px = len(photo)
    photo = photo.copy()
    x, y = ((point.query.cpu() + 0.5) * tile_px / size_px - 0.5).round().int().tolist()
    cv2.circle(photo, (x, y), max(2, tile_px // 40), RED, -1, cv2.LINE_AA)
    brightness = maps / max(float(maps.max()), 1e-12)
    line = row([photo, *(_heated(image, heat) for image, heat in zip(references, brightness, strict=True))])
    height = tile_px // 8
    title = np.full((height, line.shape[1], 3), WHITE, np.uint8)
    baseline = (2, height - height // 4)
    cv2.putText(title, text, baseline, cv2.FONT_HERSHEY_SIMPLEX, height / 45, BLACK, 1, cv2.LINE_AA)
    return np.concatenate([title, line])


def _heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A darkened picture, coloured where ``heat`` (grid, grid) in [0, 1] is high."""
    heat = cv2.resize(heat.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    colours = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, axis=2)
    share = 0.75 * np.sqrt(heat)[..., None]
    return np.rint((1 - share) * 0.6 * grey + share * colours).astype(np.uint8)


def _tile(image: np.ndarray, tile_px: int) -> np.ndarray:
    return cv2.resize(image, (tile_px, tile_px), interpolation=cv2.INTER_AREA)
