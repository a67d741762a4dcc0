from __future__ import annotations

import pytest
import torch

from lit_restore.metrics.attention import landmark_attention_mass
from lit_restore.models.attention_probe import SampleAttention

SIDE = 128


def batch(query: list[list[float]], references: list[list[list[float]]]) -> dict[str, torch.Tensor]:
    """One photo with landmarks (x, y), and the same landmarks in its references."""
    points = torch.tensor([references])
    return {
        "hq": torch.zeros(1, 3, SIDE, SIDE),
        "landmarks": torch.tensor([query]),
        "landmark_mask": torch.ones(1, len(query), dtype=torch.bool),
        "reference_landmarks": points,
        "reference_landmark_mask": torch.ones(points.shape[:3], dtype=torch.bool),
    }


def attention(logits: torch.Tensor, starts: tuple[int | None, ...]) -> SampleAttention:
    """With these logits (h, N, M): a key direction of its own for every key."""
    num_keys = logits.shape[-1]
    return SampleAttention(logits * num_keys**0.5, torch.eye(num_keys).expand(len(logits), -1, -1), starts)


@pytest.mark.parametrize(("grid", "cells"), [(16, 5), (32, 13), (64, 49)])
def test_even_attention_has_the_mass_of_the_cells_within_two_deviations(grid: int, cells: int) -> None:
    even = attention(torch.zeros(1, grid**2, 2 * grid**2), (0, grid**2))
    data = batch([[60.0, 40.0]], [[[64.0, 64.0]], [[50.0, 70.0]]])
    found = landmark_attention_mass(even, data, 0)
    assert found.mass == pytest.approx(cells / grid**2, rel=1e-4)
    assert found.even == pytest.approx(cells / grid**2, rel=1e-6)


def test_is_the_mean_over_heads_and_landmark_cells_of_the_sum_over_references() -> None:
    grid, far = 16, 1e4
    data = batch([[4.0, 4.0], [100.0, 60.0]], [[[64.0, 24.0]] * 2, [[80.0, 80.0]] * 2])
    logits = torch.zeros(2, grid**2, 2 * grid**2)
    first = 4 // 8 * grid + 4 // 8
    logits[0, first, 24 // 8 * grid + 64 // 8] = far  # head 0 looks at x 64, y 24 of the first reference
    logits[1, first, grid**2 + 80 // 8 * grid + 80 // 8 + 1] = far  # head 1 beside x 80, y 80 of the second
    second = 60 // 8 * grid + 100 // 8
    logits[:, second, 64 // 8 * grid + 24 // 8] = far  # x and y exchanged: the wrong place
    found = landmark_attention_mass(attention(logits, (0, grid**2)), data, 0)
    assert found.mass == pytest.approx((1 + 0) / 2, abs=1e-6)


def test_hidden_landmarks_and_padding_do_not_count() -> None:
    grid = 16
    data = batch([[4.0, 4.0], [100.0, 60.0]], [[[64.0, 24.0]] * 2] * 3)
    data["reference_landmark_mask"][0, 2, 0] = False
    sample = attention(torch.zeros(1, grid**2, 3 * grid**2), (grid**2, None, 2 * grid**2))  # own keys come first
    found = landmark_attention_mass(sample, data, 0)
    # The first landmark is known in one of the two real references, the second in both; own keys are never right.
    assert found.even == pytest.approx((5 + 10) / 2 / (3 * grid**2), rel=1e-6)
    data["landmark_mask"][:] = False
    assert landmark_attention_mass(sample, data, 0) is None
