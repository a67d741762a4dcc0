from __future__ import annotations

import numpy as np
import torch

from lit_restore.attention_pictures import attention_picture, face_point, point_at
from lit_restore.models.attention_probe import SampleAttention

SIDE, GRID, TILE, GAP = 128, 16, 64, 4


def batch() -> dict[str, torch.Tensor]:
    """Black photos: one with three references, of which the second is padding."""
    return {
        "hq": -torch.ones(1, 3, SIDE, SIDE),
        "references": -torch.ones(1, 3, 3, SIDE, SIDE),
        "reference_mask": torch.tensor([[True, False, True]]),
        "landmarks": torch.tensor([[[20.0, 100.0], [30.0, 110.0]]]),
        "landmark_mask": torch.ones(1, 2, dtype=torch.bool),
        "reference_landmarks": torch.tensor([[[[90.0, 20.0], [94.0, 24.0]]] * 2 + [[[40.0, 70.0]] * 2]]),
        "reference_landmark_mask": torch.ones(1, 3, 2, dtype=torch.bool),
    }


def brightest(line: np.ndarray, tile: int) -> tuple[float, float] | None:
    """Centre (x, y), in pixels of the photo, of the bright part of a tile; None where it is dark."""
    part = line[:, tile * (TILE + GAP) : tile * (TILE + GAP) + TILE].astype(float).sum(-1)
    if part.max() < 50:
        return None
    y, x = np.nonzero(part > 0.8 * part.max())
    return x.mean() * SIDE / TILE, y.mean() * SIDE / TILE


def picture(data: dict[str, torch.Tensor], landmarks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The lines of ideal and measured attention; the query at the point looks at x 100, y 60 of the last reference."""
    point = face_point(data, 0, landmarks)
    x, y = (data["landmarks"][0, landmarks].mean(0) // (SIDE // GRID)).int().tolist()
    logits = torch.zeros(2, GRID**2, 2 * GRID**2)
    logits[:, y * GRID + x, GRID**2 + 60 // 8 * GRID + 100 // 8] = 1e4
    attention = SampleAttention(
        logits * (2 * GRID**2) ** 0.5, torch.eye(2 * GRID**2).expand(2, -1, -1), (0, None, GRID**2)
    )
    black = -torch.ones(3, SIDE, SIDE)
    whole = attention_picture(data, 0, black, {"layer": attention}, {"point": point}, tile_px=TILE)
    title = TILE // 8
    assert whole.shape == (2 * (title + TILE) + GAP, 3 * TILE + 2 * GAP, 3)
    return whole[title : title + TILE], whole[-TILE:]


def test_references_are_bright_where_the_query_looks_and_where_it_should() -> None:
    ideal, measured = picture(batch(), [0])
    cell = SIDE / GRID
    np.testing.assert_allclose(brightest(ideal, 1), (90, 20), atol=cell)
    np.testing.assert_allclose(brightest(ideal, 2), (40, 70), atol=cell)
    assert brightest(measured, 1) is None
    np.testing.assert_allclose(brightest(measured, 2), (100, 60), atol=cell)


def test_the_point_is_marked_in_the_photo() -> None:
    ideal, measured = picture(batch(), [0, 1])
    for line in (ideal, measured):
        red = (line[:, :TILE, 0] > 200) & (line[:, :TILE, 1] < 100)
        y, x = np.nonzero(red)
        np.testing.assert_allclose((x.mean() * 2, y.mean() * 2), (25, 105), atol=3)


def test_a_hidden_point_has_no_ideal_and_none_without_the_query() -> None:
    data = batch()
    data["reference_landmark_mask"][0, 2, 0] = False
    ideal, _ = picture(data, [0])
    assert brightest(ideal, 1) is not None
    assert brightest(ideal, 2) is None
    data["landmark_mask"][0, 0] = False
    assert face_point(data, 0, [0]) is None


def test_any_place_is_known_by_the_visible_landmark_next_to_it() -> None:
    data = batch()
    assert point_at(data, 0, 29, 112).query.tolist() == [30, 110]
    assert point_at(data, 0, 29, 112).references[0].tolist() == [94, 24]
    data["landmark_mask"][0, 1] = False
    assert point_at(data, 0, 29, 112).query.tolist() == [20, 100]
    data["landmark_mask"][0] = False
    assert point_at(data, 0, 29, 112) is None
