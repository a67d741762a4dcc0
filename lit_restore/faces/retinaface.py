"""RetinaFace with MobileNet-0.25: finds faces and five points on each (Deng et al., CVPR 2020).

Network, anchors and constants are those of the file `weights.RETINAFACE`; attribute names are its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, compose, invert, scaling, similarity, transform_points, warp
from lit_restore.faces.weights import fill

BGR_MEAN = (104.0, 117.0, 123.0)
STRIDES = (8, 16, 32)
ANCHOR_SIZES_PX = ((10, 20), (32, 64), (128, 256))
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # the units in which the network predicts offsets and log sizes
NMS_IOU = 0.4
REFINING_SIDES_PX = (128, 192, 256)
"""Sizes in which `RetinaFaceDetector.refine` looks at a face again; the points are best at faces of 40 to 100 px."""
REFINING_CONTEXT = 1.5
"""... in a square so many times that of an FFHQ crop."""
REFINING_TOLERANCE = 0.12
"""A face whose points lie further away on average, as a fraction of that square's side, is another one."""
MIRRORED_POINTS = [1, 0, 2, 4, 3]
"""Which of the five points becomes point i of the mirror image."""


@dataclass(frozen=True)
class DetectedFace:
    """A face in the pixels of the image it was found in."""

    box_xyxy: np.ndarray
    """``(4,)`` left, top, right, bottom."""
    score: float
    """Probability in [0, 1]."""
    points5: np.ndarray
    """``(5, 2)`` eyes, nose tip, mouth corners, as in `lit_restore.faces.alignment`."""


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out), *([nn.ReLU()] if relu else [])]


def _separable(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_conv(c_in, c_in, 3, stride, groups=c_in), *_conv(c_in, c_out, 1))


class _Body(nn.Module):
    """MobileNetV1 with a quarter of the channels; features at strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(*_conv(3, 8, 3, 2)),
            _separable(8, 16),
            _separable(16, 32, 2),
            _separable(32, 32),
            _separable(32, 64, 2),
            _separable(64, 64),
        )
        self.stage2 = nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        fine = self.stage1(x)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


class _FeaturePyramid(nn.Module):
    """Brings the three levels to 64 channels and passes coarse features down to the finer ones."""

    def __init__(self) -> None:
        super().__init__()
        self.output1 = nn.Sequential(*_conv(64, 64, 1))
        self.output2 = nn.Sequential(*_conv(128, 64, 1))
        self.output3 = nn.Sequential(*_conv(256, 64, 1))
        self.merge1 = nn.Sequential(*_conv(64, 64, 3))
        self.merge2 = nn.Sequential(*_conv(64, 64, 3))

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        fine, middle, coarse = self.output1(levels[0]), self.output2(levels[1]), self.output3(levels[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[-2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[-2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """SSH context module (Najibi et al., ICCV 2017): receptive fields of 3, 5 and 7 cells side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3X3 = nn.Sequential(*_conv(64, 32, 3, relu=False))
        self.conv5X5_1 = nn.Sequential(*_conv(64, 16, 3))
        self.conv5X5_2 = nn.Sequential(*_conv(16, 16, 3, relu=False))
        self.conv7X7_2 = nn.Sequential(*_conv(16, 16, 3))
        self.conv7x7_3 = nn.Sequential(*_conv(16, 16, 3, relu=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = self.conv5X5_1(x)
        fields = [self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return F.relu(torch.cat(fields, dim=1))


class _Head(nn.Module):
    """``num_values`` numbers for each of the two anchors of a cell."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.conv1x1 = nn.Conv2d(64, 2 * num_values, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1x1(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.num_values)


class RetinaFace(nn.Module):
    """BGR minus `BGR_MEAN`, ``(B, 3, H, W)`` with H and W multiples of 32 -> raw predictions per anchor.

    Returns:
        logits ``(B, A, 2)`` (index 1 = face), box offsets ``(B, A, 4)`` and point offsets ``(B, A, 10)``, in
        the order of `anchors`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = _Body()
        self.fpn = _FeaturePyramid()
        self.ssh1, self.ssh2, self.ssh3 = _Context(), _Context(), _Context()
        self.ClassHead = nn.ModuleList(_Head(2) for _ in STRIDES)
        self.BboxHead = nn.ModuleList(_Head(4) for _ in STRIDES)
        self.LandmarkHead = nn.ModuleList(_Head(10) for _ in STRIDES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        levels = self.fpn(self.body(x))
        levels = [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]
        heads = (self.ClassHead, self.BboxHead, self.LandmarkHead)
        logits, boxes, points = (
            torch.cat([head(level) for head, level in zip(heads_of_kind, levels, strict=True)], dim=1)
            for heads_of_kind in heads
        )
        return logits, boxes, points


def anchors(height: int, width: int) -> np.ndarray:
    """Anchor squares ``(A, 3)`` as centre x, centre y, side in pixels of a ``height`` x ``width`` input.

    Levels from fine to coarse, then rows, columns and the two sizes of the level.
    """
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES_PX, strict=True):
        rows, columns = np.arange(-(-height // stride)), np.arange(-(-width // stride))
        y, x, side = np.meshgrid((rows + 0.5) * stride, (columns + 0.5) * stride, sizes, indexing="ij")
        levels.append(np.stack([x, y, side], axis=-1).reshape(-1, 3))
    return np.concatenate(levels)


def decode_boxes(offsets: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Predicted offsets ``(A, 4)`` and anchors ``(A, 3)`` -> boxes ``(A, 4)`` left, top, right, bottom."""
    centre = anchor[:, :2] + CENTRE_VARIANCE * offsets[:, :2] * anchor[:, 2:]
    half_size = anchor[:, 2:] * np.exp(SIZE_VARIANCE * offsets[:, 2:]) / 2
    return np.concatenate([centre - half_size, centre + half_size], axis=1)


def decode_points(offsets: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Predicted offsets ``(A, 10)`` and anchors ``(A, 3)`` -> points ``(A, 5, 2)``."""
    return anchor[:, None, :2] + CENTRE_VARIANCE * offsets.reshape(-1, 5, 2) * anchor[:, None, 2:]


def suppress(boxes: np.ndarray, scores: np.ndarray, iou_limit: float = NMS_IOU) -> list[int]:
    """Non-maximum suppression: indices of the boxes ``(A, 4)`` to keep, best score first."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        overlap = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        shared = np.prod(np.clip(overlap, 0, None), axis=1)
        order = rest[shared <= iou_limit * (areas[best] + areas[rest] - shared)]
    return kept


class RetinaFaceDetector:
    """A loaded network on a device.

    Args:
        path: file with the keys of `RetinaFace`.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        self.network = RetinaFace()
        fill(self.network, Path(path))
        self.network.to(device).eval()
        self.device = device

    def detect(self, image: np.ndarray, *, min_score: float = 0.6, max_side_px: int = 640) -> list[DetectedFace]:
        """All faces in a photo, best score first.

        Args:
            image: uint8 RGB ``(H, W, 3)``.
            min_score: faces with a lower probability are left out.
            max_side_px: the photo is reduced so that its longer side is at most this.
        """
        height, width = image.shape[:2]
        scale = min(1.0, max_side_px / max(height, width))
        new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(np.ascontiguousarray(image), (new_width, new_height), interpolation=cv2.INTER_AREA)
        scores, boxes, points = self._predict(small)
        chosen = np.flatnonzero(scores >= min_score)
        chosen = chosen[suppress(boxes[chosen], scores[chosen])]
        # Anchors measure from pixel edges, our points from pixel centres: scale, then step back half a pixel.
        to_image = np.array([width / new_width, height / new_height])
        return [
            DetectedFace(
                box_xyxy=(boxes[index].reshape(2, 2) * to_image - 0.5).reshape(4),
                score=float(scores[index]),
                points5=points[index] * to_image - 0.5,
            )
            for index in chosen
        ]

    def refine(self, image: np.ndarray, points5: np.ndarray) -> np.ndarray | None:
        """The five points once more, from upright views of the face in several sizes, straight and mirrored.

        Their mean is more exact than a single look, and what is no face seldom passes all six: none of 13 wrong finds
        in portraits lying on their side did, while all of 83 upright portraits did, sharp and after ``diffbir_face``.

        Args:
            image: uint8 RGB ``(H, W, 3)``.
            points5: ``(5, 2)`` from `detect`.

        Returns:
            ``(5, 2)``, or None if a view does not show the face.
        """
        upright, margin = similarity(points5, FFHQ_TEMPLATE_512), 512 * (REFINING_CONTEXT - 1) / 2
        found = []
        for side_px in REFINING_SIDES_PX:
            into_square = compose(np.array([[1.0, 0.0, margin], [0.0, 1.0, margin]]), upright)
            into_view = compose(scaling(side_px / (512 * REFINING_CONTEXT)), into_square)
            view, expected = warp(image, into_view, side_px), transform_points(points5, into_view)
            for mirror in (False, True):
                faces = self.detect(view[:, ::-1] if mirror else view, min_score=0.3, max_side_px=side_px)
                points = [_unmirrored(face.points5, side_px) if mirror else face.points5 for face in faces]
                points = [p for p in points if _mean_distance(p, expected) < REFINING_TOLERANCE * side_px]
                if not points:
                    return None
                found.append(transform_points(points[0], invert(into_view)))
        return np.mean(found, axis=0)

    @torch.inference_mode()
    def _predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per anchor: face probability ``(A,)``, box ``(A, 4)``, points ``(A, 5, 2)`` in its pixels."""
        height, width = image.shape[:2]
        bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(self.device).permute(2, 0, 1).float()
        bgr = bgr - torch.tensor(BGR_MEAN, device=self.device)[:, None, None]
        padded = F.pad(bgr[None], (0, -width % 32, 0, -height % 32))
        logits, boxes, points = (output[0].float().cpu() for output in self.network(padded))
        anchor = anchors(*padded.shape[-2:])
        scores = logits.softmax(dim=-1)[:, 1].numpy()
        return scores, decode_boxes(boxes.numpy(), anchor), decode_points(points.numpy(), anchor)


def _unmirrored(points5: np.ndarray, width: int) -> np.ndarray:
    return points5[MIRRORED_POINTS] * (-1, 1) + (width - 1, 0)


def _mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second, axis=-1).mean())
