"""Cosines between restoration, truth and references, with networks whose vectors are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import pictures
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.alignment import ffhq_template
from lit_restore.faces.crop import ARCFACE_CROP, FaceCrop
from lit_restore.metrics.identity import NO_REFERENCE, FaceVectors, Identity, identity_columns
from lit_restore.metrics.measurement import NO_TRUTH
from lit_restore.models.recognition import Recognizer

COLUMNS = identity_columns("x", "X")


class MeanColour(nn.Module):
    """A person is its colour."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.mean((2, 3))


def colours(*degrees: float) -> torch.Tensor:
    """Pictures (B, 3, 32, 32) whose colours lie at these angles in the plane of red and green."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    vectors = torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], dim=1).float()
    return vectors[:, :, None, None].expand(-1, -1, 32, 32).clone()


def identity(crop: FaceCrop | None = None, points: str = "target", reference: str = "first") -> Identity:
    vectors = FaceVectors(Recognizer(MeanColour(), "colour", crop), points)
    return Identity(vectors, "x", COLUMNS, reference)


def numbers(values, name: str) -> list[float]:
    return values[f"id_x_{name}"].numbers.tolist()


def landmarks_of(points5: np.ndarray) -> torch.Tensor:
    """68 points (68, 2) whose five are these."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[30], points[48], points[54] = points5
    return torch.from_numpy(points).float()


def test_cosine_and_angle_with_the_truth(make_batch) -> None:
    values = identity()(colours(0, 30, 90, 180), make_batch(colours(0, 0, 0, 0)))
    assert numbers(values, "gt") == pytest.approx([1, math.sqrt(3) / 2, 0, -1], abs=1e-6)
    assert numbers(values, "angle") == pytest.approx([0, 30, 90, 180], abs=1e-4)
    assert values["id_x_gt"].failures == values["id_x_angle"].failures == {}


def test_the_same_picture_has_no_angle(make_batch) -> None:
    """In single precision the cosine misses 1 by so much that the angle is 0.01 degrees."""
    faces = pictures(0, 4, 3, 32, 32)
    assert max(numbers(identity()(faces, make_batch(faces)), "angle")) < 1e-4


def test_similarity_to_a_reference_comes_with_that_of_the_truth(make_batch) -> None:
    references = torch.stack(
        [colours(20, 0), colours(100, 60)], dim=1
    )  # of person 0: 20 and 100, of person 1: 0 and 60
    batch = make_batch(colours(40, 30), references)
    first = identity(reference="first")(colours(10, 50), batch)
    assert numbers(first, "ref") == pytest.approx([math.cos(math.radians(a)) for a in (10, 50)], abs=1e-6)
    assert numbers(first, "ref_gt") == pytest.approx([math.cos(math.radians(a)) for a in (20, 30)], abs=1e-6)
    mean = identity(reference="mean")(colours(10, 50), batch)
    expected = [np.mean([np.cos(np.radians(a)) for a in pair]) for pair in ((10, 90), (50, 10))]
    assert numbers(mean, "ref") == pytest.approx(expected, abs=1e-6)


def test_padding_is_no_reference(make_batch) -> None:
    references = torch.stack([torch.zeros(3, 3, 32, 32), colours(60, 60, 60)], dim=1)
    mask = torch.tensor([[False, True], [False, True], [False, False]])
    for reference in ("first", "mean"):
        values = identity(reference=reference)(
            colours(0, 0, 0), make_batch(colours(0, 0, 0), references, reference_mask=mask)
        )
        assert numbers(values, "ref")[:2] == pytest.approx([0.5, 0.5], abs=1e-6)
        assert values["id_x_ref"].failures == values["id_x_ref_gt"].failures == {2: NO_REFERENCE}
        assert values["id_x_gt"].failures == {}


def test_without_any_reference_the_rest_is_there(make_batch) -> None:
    values = identity()(colours(30, 60), make_batch(colours(0, 0)))
    assert values["id_x_ref"].failures == {0: NO_REFERENCE, 1: NO_REFERENCE}
    assert numbers(values, "angle") == pytest.approx([30, 60], abs=1e-4)


def test_without_truth_the_reference_is_still_compared(make_batch) -> None:
    batch = make_batch(colours(0, 0), colours(45, 45)[:, None], has_hq=torch.tensor([False, True]))
    values = identity()(colours(0, 0), batch)
    for name in ("gt", "angle", "ref_gt"):
        assert values[f"id_x_{name}"].failures == {0: NO_TRUTH}
    assert numbers(values, "ref") == pytest.approx([math.sqrt(0.5)] * 2, abs=1e-6)


def test_only_the_crop_counts(make_batch) -> None:
    """The face has the truth's colour, everything around it another."""
    template = ffhq_template(128)
    restored = colours(90).repeat(1, 1, 4, 4)
    restored[:, :, 8:120, 8:120] = colours(0)[..., :1, :1]  # the crop spans 12 to 115
    truth = colours(0).repeat(1, 1, 4, 4)
    landmarks = {"landmarks": landmarks_of(template)[None], "landmark_mask": torch.ones(1, 68, dtype=torch.bool)}
    for points, known in (("target", landmarks), ("template", {})):
        values = identity(ARCFACE_CROP, points)(restored, make_batch(truth, **known))
        assert numbers(values, "angle") == pytest.approx([0], abs=1e-3)
    assert numbers(identity()(restored, make_batch(truth)), "angle")[0] > 10  # the whole picture


def test_every_face_that_cannot_be_cut_out_has_its_reason(make_batch) -> None:
    template = landmarks_of(ffhq_template(32))
    references = colours(0, 0, 0)[:, None]
    batch = make_batch(
        colours(0, 0, 0),
        references,
        landmarks=template.repeat(3, 1, 1),
        landmark_mask=torch.tensor([True, False, True])[:, None].expand(-1, 68),
        reference_landmarks=template.repeat(3, 1, 1)[:, None],
        reference_landmark_mask=torch.tensor([True, True, False])[:, None, None].expand(-1, 1, 68),
    )
    metric = identity(ARCFACE_CROP)
    values = metric(colours(0, 0, 0), batch)
    assert numbers(values, "gt")[::2] == pytest.approx([1, 1], abs=1e-6)
    assert values["id_x_gt"].failures == {1: "no landmarks in the restoration"}
    assert values["id_x_ref"].failures == {
        1: "no landmarks in the restoration",
        2: "no landmarks in the reference",
    }
    assert values["id_x_ref_gt"].failures == {1: "no landmarks in the truth", 2: "no landmarks in the reference"}


def test_a_batch_in_which_no_face_has_points(make_batch) -> None:
    values = identity(ARCFACE_CROP)(colours(0, 0), make_batch(colours(0, 0), colours(0, 0)[:, None]))
    assert all(list(column.failures) == [0, 1] for column in values.values())


@pytest.mark.usefixtures("no_weights_at_hand")
def test_detection_without_a_detector_is_said_at_once() -> None:
    with pytest.raises(UserError, match=r"mobilenet0.25_Final.pth"):
        FaceVectors(Recognizer(MeanColour(), "colour", ARCFACE_CROP), "detect")
    FaceVectors(Recognizer(MeanColour(), "colour"), "detect")  # whole pictures need none


def test_protocol_names_network_weights_crop_and_reference() -> None:
    protocol = identity(ARCFACE_CROP, "template").protocol
    assert set(protocol) == {"network", "weights", "crop", "reference"}
    assert protocol["crop"] == "ArcFace five points, 112 px, points: template"
    assert len(protocol["weights"]) == 16
