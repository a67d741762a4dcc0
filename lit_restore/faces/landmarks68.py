"""68 points on a face (iBUG order) by the small densely connected network of face-api.js.

Constants are those of the public file `weights.LANDMARKS68`; attribute names follow its keys.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lit_restore.faces.alignment import (
    FFHQ_TEMPLATE_512,
    compose,
    invert,
    points_5_from_68,
    scaling,
    similarity,
    transform_points,
    warp,
)
from lit_restore.faces.face_api_file import read_face_api
from lit_restore.faces.weights import LANDMARKS68, fill, read_tensors

RGB_MEAN = (122.782, 117.001, 104.298)
INPUT_PX = 112
WINDOW_LEFT, WINDOW_TOP, WINDOW_PX = 106, 150, 300
"""The square of the 512x512 FFHQ frame that the network looks at: brows to chin without the ears."""
NUM_PASSES = 2

_CHIN_BROWS_NOSE = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
_EYES = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
_LIPS = [*range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
MIRRORED = np.array([*_CHIN_BROWS_NOSE, *_EYES, *_LIPS])
"""Which point of a face becomes point i of its mirror image."""


class _Separable(nn.Module):
    """Depthwise 3x3, pointwise, one bias. With stride 2 the caller pads."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.dw = nn.Conv2d(c_in, c_in, 3, stride, padding=2 - stride, groups=c_in, bias=False)
        self.pw = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pw(self.dw(x)) + self.bias[:, None, None]


class _DenseBlock(nn.Module):
    """Halves the side, then adds up what four convolutions say; each sees the sum of those before it."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, c_out, 3, stride=2) if c_in == 3 else _Separable(c_in, c_out, stride=2)
        self.conv1 = _Separable(c_out, c_out)
        self.conv2 = _Separable(c_out, c_out)
        self.conv3 = _Separable(c_out, c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # TensorFlow's "same" padding of an even side at stride 2: one row at the bottom, one column right.
        total = F.relu(self.conv0(F.pad(x, (0, 1, 0, 1))))
        total = total + self.conv1(total)
        total = total + self.conv2(F.relu(total))
        return F.relu(total + self.conv3(F.relu(total)))


class Landmarks68Net(nn.Module):
    """RGB 0..255 ``(B, 3, 112, 112)`` -> points ``(B, 68, 2)`` as fractions of the side."""

    def __init__(self) -> None:
        super().__init__()
        self.dense0, self.dense1 = _DenseBlock(3, 32), _DenseBlock(32, 64)
        self.dense2, self.dense3 = _DenseBlock(64, 128), _DenseBlock(128, 256)
        self.fc = nn.Linear(256, 136)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.new_tensor(RGB_MEAN)[:, None, None]) / 255
        x = self.dense3(self.dense2(self.dense1(self.dense0(x))))
        return self.fc(x.mean(dim=(-2, -1))).unflatten(-1, (68, 2))


class Landmarks68:
    """A loaded network on a device.

    Args:
        path: face-api.js's own file, or one with the keys of `Landmarks68Net`.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        self.network = Landmarks68Net()
        path = Path(path)
        fill(self.network, path, read_face_api if path.name == LANDMARKS68.name else read_tensors)
        self.network.to(device).eval()
        self.device = device

    def detect(self, image: np.ndarray, points5: np.ndarray) -> np.ndarray:
        """The 68 points of the face with these five points.

        The five points, which a detector gives only roughly, align the first pass; the eyes, nose and mouth
        among the 68 points it finds align the second.

        Args:
            image: uint8 RGB ``(H, W, 3)``.
            points5: ``(5, 2)`` in pixels of ``image``.

        Returns:
            ``(68, 2)`` in pixels of ``image``.
        """
        for _ in range(NUM_PASSES):
            points68 = self._look(image, similarity(points5, FFHQ_TEMPLATE_512))
            points5 = points_5_from_68(points68)
        return points68

    @torch.inference_mode()
    def _look(self, image: np.ndarray, to_frame: np.ndarray) -> np.ndarray:
        """One pass through the window of the 512x512 frame that ``to_frame`` (2, 3) leads to."""
        shift = np.array([[1.0, 0.0, -WINDOW_LEFT], [0.0, 1.0, -WINDOW_TOP]])
        to_crop = compose(scaling(INPUT_PX / WINDOW_PX), compose(shift, to_frame))
        crop = torch.from_numpy(warp(image, to_crop, INPUT_PX)).to(self.device).permute(2, 0, 1).float()
        # Alone, the network puts every point about one crop pixel too far left; a mirror image cancels that.
        straight, mirrored = self.network(torch.stack([crop, crop.flip(-1)])).cpu().double().numpy()
        mirrored = mirrored[MIRRORED]
        mirrored[:, 0] = 1 - mirrored[:, 0]
        return transform_points((straight + mirrored) / 2 * INPUT_PX - 0.5, invert(to_crop))
