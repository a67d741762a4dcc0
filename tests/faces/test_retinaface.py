from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_restore.faces.alignment import FFHQ_TEMPLATE_512, transform_points
from lit_restore.faces.retinaface import (
    BGR_MEAN,
    DetectedFace,
    RetinaFace,
    RetinaFaceDetector,
    anchors,
    decode_boxes,
    decode_points,
    suppress,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "faces"


@pytest.fixture
def silent_file(tmp_path: Path) -> Path:
    """Weights that say nothing: every anchor is a face with probability 1/2, all offsets are zero."""
    network = RetinaFace()
    for head in (*network.ClassHead, *network.BboxHead, *network.LandmarkHead):
        torch.nn.init.zeros_(head.conv1x1.weight)
        torch.nn.init.zeros_(head.conv1x1.bias)
    path = tmp_path / "silent.pth"
    torch.save(network.state_dict(), path)
    return path


def test_keys_and_shapes_are_those_of_the_public_file() -> None:
    expected = json.loads((FIXTURES / "retinaface_keys.json").read_text())
    assert {key: list(value.shape) for key, value in RetinaFace().state_dict().items()} == expected


def test_one_prediction_per_anchor() -> None:
    logits, boxes, points = RetinaFace().eval()(torch.zeros(2, 3, 64, 96))
    num_anchors = 2 * (8 * 12 + 4 * 6 + 2 * 3)
    assert len(anchors(64, 96)) == num_anchors
    assert logits.shape == (2, num_anchors, 2)
    assert boxes.shape == (2, num_anchors, 4)
    assert points.shape == (2, num_anchors, 10)


def test_anchors_go_by_level_row_column_and_size() -> None:
    found = anchors(64, 96)
    np.testing.assert_allclose(found[:4], [[4, 4, 10], [4, 4, 20], [12, 4, 10], [12, 4, 20]])
    np.testing.assert_allclose(found[24], [4, 12, 10])  # second row of 12 columns
    np.testing.assert_allclose(found[2 * 96], [8, 8, 32])  # first of the middle level
    np.testing.assert_allclose(found[-1], [80, 48, 256])


def test_predictions_are_in_anchor_order() -> None:
    network = RetinaFace().eval()
    for head in network.ClassHead:
        torch.nn.init.zeros_(head.conv1x1.weight)
        head.conv1x1.bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    logits = network(torch.zeros(1, 3, 32, 32))[0][0]
    torch.testing.assert_close(logits[0::2], torch.tensor([[1.0, 2.0]]).expand(21, 2))
    torch.testing.assert_close(logits[1::2], torch.tensor([[3.0, 4.0]]).expand(21, 2))


def forward_from_the_description(state: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """The network written once more, from the published description and nothing but the tensors of a file."""

    def conv(key: str, x: torch.Tensor, index: int = 0, stride: int = 1, relu: bool = True) -> torch.Tensor:
        weight = state[f"{key}.{index}.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        norm = [state[f"{key}.{index + 1}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *norm)
        return x.clamp(min=0) if relu else x

    def unit(key: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        return conv(key, conv(key, x, 0, stride), 3)

    levels = []
    x = conv("body.stage1.0", x, stride=2)
    for stage, strides in enumerate(([1, 2, 1, 2, 1], [2, 1, 1, 1, 1, 1], [2, 1]), start=1):
        for index, stride in enumerate(strides, start=stage == 1):
            x = unit(f"body.stage{stage}.{index}", x, stride)
        levels.append(conv(f"fpn.output{stage}", x))
    for finer in (1, 0):
        enlarged = levels[finer + 1].repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        levels[finer] = conv(f"fpn.merge{finer + 1}", levels[finer] + enlarged)
    outputs: list[list[torch.Tensor]] = [[], [], []]
    for number, level in enumerate(levels):
        ssh = f"ssh{number + 1}."
        five = conv(ssh + "conv5X5_1", level)
        seven = conv(ssh + "conv7x7_3", conv(ssh + "conv7X7_2", five), relu=False)
        parts = [conv(ssh + "conv3X3", level, relu=False), conv(ssh + "conv5X5_2", five, relu=False), seven]
        features = torch.cat(parts, dim=1).clamp(min=0)
        for output, (head, size) in zip(outputs, (("Class", 2), ("Bbox", 4), ("Landmark", 10)), strict=True):
            key = f"{head}Head.{number}.conv1x1"
            flat = torch.einsum("oc,bchw->bhwo", state[f"{key}.weight"][..., 0, 0], features) + state[f"{key}.bias"]
            output.append(flat.reshape(len(x), -1, size))
    return [torch.cat(output, dim=1) for output in outputs]


def test_network_is_the_described_one() -> None:
    torch.manual_seed(0)
    network = RetinaFace().eval()
    for name, tensor in network.state_dict().items():
        if "running" in name or tensor.ndim == 1:  # statistics and biases that are not all 0 and 1
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for found, expected in zip(network(x), forward_from_the_description(network.state_dict(), x), strict=True):
            torch.testing.assert_close(found, expected)


def test_each_level_is_a_convolution_of_its_cell() -> None:
    """Moving the input by 32 pixels moves every level by whole cells, away from the borders."""
    torch.manual_seed(0)
    network = RetinaFace().eval()
    wide = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        here, there = network(wide)[1][0], network(wide.roll(32, dims=-1))[1][0]
    start = 0
    for stride in (8, 16, 32):
        cells = 1024 // stride
        stop = start + 2 * cells**2
        a, b = (x[start:stop].reshape(cells, cells, 2, 4) for x in (here, there))
        shift = 32 // stride
        middle = slice(cells // 2 - 1, cells // 2 + 1)
        torch.testing.assert_close(a[middle, middle], b[middle, middle.start + shift : middle.stop + shift])
        start = stop


def test_decoding_inverts_the_encoding() -> None:
    rng = np.random.default_rng(0)
    anchor = np.column_stack([rng.uniform(0, 500, (7, 2)), rng.uniform(10, 256, 7)])
    corner, size = rng.uniform(0, 400, (7, 2)), rng.uniform(5, 300, (7, 2))
    points = rng.uniform(0, 500, (7, 5, 2))
    side = anchor[:, 2:]
    offsets = np.concatenate([(corner + size / 2 - anchor[:, :2]) / side / 0.1, np.log(size / side) / 0.2], axis=1)
    np.testing.assert_allclose(decode_boxes(offsets, anchor), np.hstack([corner, corner + size]))
    point_offsets = ((points - anchor[:, None, :2]) / side[:, None] / 0.1).reshape(7, 10)
    np.testing.assert_allclose(decode_points(point_offsets, anchor), points)


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 4.1], [0, 0, 10, 3.9], [50, 50, 60, 60.0]])
    scores = np.array([0.7, 0.9, 0.6, 0.6, 0.8])
    # IoU with the best box: 0.90, -, 4.1/9 = 0.456, 3.9/9 = 0.433, 0
    assert suppress(boxes, scores, 0.4) == [1, 4]
    assert suppress(boxes, scores, 0.45) == [1, 4, 3]
    assert suppress(boxes[:0], scores[:0]) == []


def test_no_face_below_the_score(silent_file: Path) -> None:
    detector = RetinaFaceDetector(silent_file)
    assert detector.detect(np.zeros((50, 70, 3), np.uint8)) == []


def test_found_faces_are_in_pixels_of_the_photo(silent_file: Path) -> None:
    detector = RetinaFaceDetector(silent_file)
    # Only the largest anchors say "face"; the first of them is a square of 256 around (16, 16).
    detector.network.ClassHead[2].conv1x1.bias.data = torch.tensor([5.0, -5.0, -5.0, 5.0])
    faces = detector.detect(np.zeros((640, 1280, 3), np.uint8), max_side_px=640)
    assert faces[0].score == pytest.approx(1 / (1 + np.exp(-10)))
    # Reduced by 2: edges (-112, 144) double; pixel centres are half a pixel from the edges.
    np.testing.assert_allclose(faces[0].box_xyxy, np.array([-224, -224, 288, 288]) - 0.5)
    np.testing.assert_allclose(faces[0].points5, np.full((5, 2), 31.5))


def test_network_sees_bgr_without_mean_padded_with_zeros(silent_file: Path) -> None:
    detector = RetinaFaceDetector(silent_file)
    seen: list[torch.Tensor] = []
    detector.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = np.empty((40, 65, 3), np.uint8)
    image[:] = (10, 20, 30)
    detector.detect(image)
    assert seen[0].shape == (1, 3, 64, 96)
    expected = torch.tensor([30.0, 20.0, 10.0]) - torch.tensor(BGR_MEAN)
    torch.testing.assert_close(seen[0][0, :, :40, :65], expected[:, None, None].expand(3, 40, 65))
    assert seen[0][0, :, 40:].abs().max() == 0
    assert seen[0][0, :, :, 65:].abs().max() == 0
    detector.detect(np.zeros((1000, 2000, 3), np.uint8), max_side_px=256)
    assert seen[1].shape == (1, 3, 128, 256)


# --- the second look --------------------------------------------------------------------------------------------

TURNED = np.array([[0.30, -0.16, 150.0], [0.16, 0.30, 60.0]])
COLOURS = [(255, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 255)]


class DotDetector(RetinaFaceDetector):
    """Finds a "face" of red eyes, a green nose and blue mouth corners, and names left and right as it sees them."""

    def __init__(self, misses: tuple[tuple[int, bool], ...] = ()) -> None:
        self.views: list[np.ndarray] = []
        self.misses = misses

    def detect(self, image: np.ndarray, **options: float) -> list[DetectedFace]:
        assert image.shape[0] == image.shape[1] == options["max_side_px"]
        self.views.append(image)
        if (image.shape[0], len(self.views) % 2 == 0) in self.misses:
            return []
        points = []
        for channel, number in ((0, 2), (1, 1), (2, 2)):
            weight = np.clip(image[..., channel].astype(float) - image[..., channel - 1], 0, None)
            weight[weight < 40] = 0
            rows, columns = np.nonzero(weight)
            halves = [columns < columns.mean(), columns >= columns.mean()] if number == 2 else [columns >= 0]
            for half in halves:
                values = weight[rows[half], columns[half]]
                points.append([np.average(columns[half], weights=values), np.average(rows[half], weights=values)])
        return [DetectedFace(np.zeros(4), 0.9, np.array(points))]


def dotted_photo() -> tuple[np.ndarray, np.ndarray]:
    photo, points = np.zeros((400, 500, 3), np.uint8), transform_points(FFHQ_TEMPLATE_512, TURNED)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(photo, (round(x * 16), round(y * 16)), 6 * 16, colour, -1, cv2.LINE_AA, 4)
    return photo, points


def test_a_second_look_finds_the_points_upright_and_mirrored() -> None:
    photo, points = dotted_photo()
    detector = DotDetector()
    refined = detector.refine(photo, points + np.array([[4.0, -3], [2, 5], [-4, 1], [3, 3], [-2, -4]]))
    np.testing.assert_allclose(refined, points, atol=0.35)
    assert [view.shape[0] for view in detector.views] == [128, 128, 192, 192, 256, 256]
    np.testing.assert_array_equal(detector.views[1], detector.views[0][:, ::-1])


@pytest.mark.parametrize("miss", [(128, False), (256, True)])
def test_a_face_must_be_seen_in_every_view(miss: tuple[int, bool]) -> None:
    photo, points = dotted_photo()
    assert DotDetector(misses=(miss,)).refine(photo, points) is None


def test_another_face_does_not_confirm_this_one() -> None:
    photo, points = dotted_photo()
    beside = points + np.array([60.0, 0])  # 0.22 of the view's side
    assert DotDetector().refine(photo, beside) is None
