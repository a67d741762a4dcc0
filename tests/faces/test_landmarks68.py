from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, transform_points
from lit_restore.faces.landmarks68 import MIRRORED, RGB_MEAN, Landmarks68, Landmarks68Net

FIXTURES = Path(__file__).parents[1] / "fixtures" / "faces"


def test_keys_and_shapes_are_those_of_the_public_file() -> None:
    expected = json.loads((FIXTURES / "landmarks68_keys.json").read_text())
    assert {key: list(value.shape) for key, value in Landmarks68Net().state_dict().items()} == expected


def test_dense_block_is_the_documented_sum() -> None:
    torch.manual_seed(0)
    block = Landmarks68Net().dense1
    x = torch.randn(2, 32, 20, 20)

    def separable(name: str, x: torch.Tensor, **padding: int) -> torch.Tensor:
        layer = getattr(block, name)
        depthwise = F.conv2d(x, layer.dw.weight, groups=x.shape[1], **padding)
        return F.conv2d(depthwise, layer.pw.weight, layer.bias)

    o1 = F.relu(separable("conv0", F.pad(x, (0, 1, 0, 1)), stride=2))
    o2 = separable("conv1", o1, padding=1)
    o3 = separable("conv2", F.relu(o1 + o2), padding=1)
    o4 = separable("conv3", F.relu(o1 + o2 + o3), padding=1)
    torch.testing.assert_close(block(x), F.relu(o1 + o2 + o3 + o4))
    assert block(x).shape == (2, 64, 10, 10)


def test_input_is_centred_and_points_are_pairs() -> None:
    network = Landmarks68Net()
    for block in (network.dense0, network.dense1, network.dense2, network.dense3):
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
    network.fc.bias.data = torch.arange(136.0)
    seen: list[torch.Tensor] = []
    network.dense0.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    points = network(torch.full((1, 3, 112, 112), 255.0))
    torch.testing.assert_close(points[0], torch.arange(136.0).reshape(68, 2))
    torch.testing.assert_close(seen[0][0, :, 5, 5], 1 - torch.tensor(RGB_MEAN) / 255)


def test_mirroring_swaps_left_and_right() -> None:
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))
    pairs = {0: 16, 8: 8, 17: 26, 21: 22, 27: 27, 30: 30, 31: 35, 36: 45, 37: 44, 39: 42, 41: 46}
    pairs |= {48: 54, 49: 53, 51: 51, 55: 59, 57: 57, 60: 64, 61: 63, 65: 67}
    for left, right in pairs.items():
        assert MIRRORED[left] == right


@pytest.fixture
def constant_landmarks(tmp_path: Path) -> tuple[Landmarks68, np.ndarray]:
    """A detector that always gives the same points of its window, left and right alike; and these points."""
    fractions = np.random.default_rng(0).uniform(0.1, 0.9, (68, 2))
    # Eyes, nose and mouth where the FFHQ template has them in the window, or two passes would wander off.
    window = (FFHQ_TEMPLATE_512 + 0.5 - (106, 150)) / 300
    fractions[36:42], fractions[42:48] = window[0], window[1]
    fractions[30], fractions[48], fractions[54] = window[2:]
    mirrored = fractions[MIRRORED] * (-1, 1) + (1, 0)
    fractions = (fractions + mirrored) / 2

    network = Landmarks68Net()
    torch.nn.init.zeros_(network.fc.weight)
    network.fc.bias.data = torch.from_numpy(fractions.reshape(-1)).float()
    path = tmp_path / "constant.safetensors"
    save_file(network.state_dict(), path)
    return Landmarks68(path), fractions


def test_points_are_fractions_of_the_window(constant_landmarks: tuple[Landmarks68, np.ndarray]) -> None:
    landmarks, fractions = constant_landmarks
    image = np.zeros((512, 512, 3), np.uint8)
    expected = fractions * 300 + (106, 150) - 0.5
    np.testing.assert_allclose(landmarks._look(image, np.eye(2, 3)), expected, atol=1e-3)
    # The template is not quite symmetric, our points are: the second pass moves them by a pixel or two.
    np.testing.assert_allclose(landmarks.detect(image, FFHQ_TEMPLATE_512), expected, atol=2)


def test_points_follow_the_face(constant_landmarks: tuple[Landmarks68, np.ndarray]) -> None:
    landmarks, _ = constant_landmarks
    image = np.zeros((300, 400, 3), np.uint8)
    straight = landmarks.detect(image, FFHQ_TEMPLATE_512)
    turn = np.array([[0.3, -0.2, 90.0], [0.2, 0.3, 15.0]])
    turned = landmarks.detect(image, transform_points(FFHQ_TEMPLATE_512, turn))
    np.testing.assert_allclose(turned, transform_points(straight, turn), atol=1e-3)


def test_left_bias_cancels(tmp_path: Path) -> None:
    """A network that puts all points one tenth too far left ends up unbiased, whatever it sees."""
    network = Landmarks68Net()
    torch.nn.init.zeros_(network.fc.weight)
    network.fc.bias.data = torch.tensor([0.4, 0.5]).repeat(68)
    path = tmp_path / "biased.safetensors"
    save_file(network.state_dict(), path)
    points = Landmarks68(path)._look(np.zeros((512, 512, 3), np.uint8), np.eye(2, 3))
    np.testing.assert_allclose(points, np.tile([106 + 150 - 0.5, 150 + 150 - 0.5], (68, 1)), atol=1e-3)
