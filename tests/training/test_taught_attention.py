"""Where a cell's spot is in another photo, and attention that is told so (the recipe of the bundled base)."""

from __future__ import annotations

import math
import random

import pytest
import torch
from helpers import pictures

from lit_restore.models.attention_probe import AttentionInputs, AttentionProbe
from lit_restore.models.reference_attention import ReferenceFeatures, SharedAttentionProcessor, SharingOptions
from lit_restore.training.correspondence import Places, bilinear_cells, find_places, moved_copies
from lit_restore.training.taught_attention import TaughtAttentionProcessor, TaughtFeatures, place_loss

SIDE, GRID = 32, 8  # cells of 4 px, their centres at 1.5, 5.5, 9.5, ...


def landmark_batch(here: list[list[float]], there: list[list[float]], photos: int = 1) -> dict[str, torch.Tensor]:
    """Photos whose first has these landmarks, here in the target and there in the reference; the others have none."""
    points, references = torch.zeros(photos, len(here), 2), torch.zeros(photos, 1, len(here), 2)
    points[0], references[0, 0] = torch.tensor(here), torch.tensor(there)
    known = torch.zeros(photos, len(here), dtype=torch.bool)
    known[0] = True
    return {
        "hq": torch.zeros(photos, 3, SIDE, SIDE),
        "reference_mask": torch.ones(photos, 1, dtype=torch.bool),
        "landmarks": points,
        "landmark_mask": known,
        "reference_landmarks": references,
        "reference_landmark_mask": known[:, None].clone(),
    }


def where(places: Places, side: int = SIDE, grid: int = GRID) -> torch.Tensor:
    """(B, N, 2): the pixel that the weighted cells stand for; bilinear weights are the roots of the places'."""
    centres = torch.stack([places.cells % grid, places.cells // grid], dim=-1) * (side / grid) + side / grid / 2 - 0.5
    bilinear = places.weights.sqrt() / places.weights.sqrt().sum(-1, keepdim=True)
    return (bilinear[..., None] * centres).sum(2)


def test_a_cell_moves_with_the_landmark_in_it() -> None:
    batch = landmark_batch([[5.0, 9.0]], [[25.5, 17.5]], photos=2)
    places = find_places(batch, GRID)
    cell = 2 * GRID + 1
    assert places.known.nonzero().tolist() == [[0, cell]]  # the other photo has no landmarks
    assert where(places)[0, cell].tolist() == pytest.approx([26.0, 18.0])  # (5.5, 9.5) + (20.5, 8.5)
    batch["reference_landmark_mask"][:] = False
    assert not find_places(batch, GRID).known.any()


def test_between_landmarks_the_nearer_ones_count_more() -> None:
    """Inverse square distances: 1 px and 2 px away, so 4 to 1."""
    batch = landmark_batch([[4.5, 9.5], [7.5, 9.5]], [[14.5, 9.5], [22.5, 9.5]])  # moved by 10 and by 15
    assert where(find_places(batch, GRID))[0, 2 * GRID + 1].tolist() == pytest.approx([5.5 + 11.0, 9.5], abs=1e-2)


@pytest.mark.parametrize("grid", [8, 16])
def test_places_in_a_moved_copy_are_exact(grid: int) -> None:
    """Turned, scaled and shifted: the place of a cell is the same linear function of its centre everywhere."""
    batch = {"hq": pictures(0, 3, 3, 64, 64), "reference_mask": torch.ones(3, 1, dtype=torch.bool)}
    copies = moved_copies(batch, random.Random(3), cells=16)
    places = find_places(copies, grid)
    size = 64 / grid
    centres = torch.cartesian_prod(*[torch.arange(grid) * size + size / 2 - 0.5] * 2).flip(-1)
    found = where(places, 64, grid)
    for sample in range(3):
        shown = copies["reference_landmark_mask"][sample, 0]
        here = torch.cat([copies["landmarks"][sample][shown], torch.ones(int(shown.sum()), 1)], dim=1)
        motion = torch.linalg.lstsq(here, copies["reference_landmarks"][sample, 0][shown]).solution
        expected = torch.cat([centres, torch.ones(grid**2, 1)], dim=1) @ motion
        inner = ((expected > size) & (expected < 63 - size)).all(-1) & ((centres > 6) & (centres < 57)).all(-1)
        assert (places.known[sample] & inner).sum() > grid
        inner &= places.known[sample]
        torch.testing.assert_close(found[sample][inner], expected[inner], atol=0.02, rtol=0)


def test_a_place_is_shared_by_the_cells_around_it() -> None:
    """Weighted by the shares, the cells' centres give the place itself, up to the outermost centres."""
    points = torch.tensor([[5.0, 9.0], [25.5, 17.5], [12.3, 30.9], [-0.5, 0.0]])
    cells, shares = bilinear_cells(points, SIDE, GRID)
    centres = torch.stack([cells % GRID, cells // GRID], dim=-1) * 4 + 1.5
    torch.testing.assert_close((shares[..., None] * centres).sum(1), points.clamp(1.5, 29.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert shares.min() >= 0
    assert ((cells >= 0) & (cells < 64)).all()


def test_places_keep_more_contrast_than_bilinear_weights_and_stay_where_they_are() -> None:
    """A spot of one cell keeps (3^2 / (3^2 + 1))^2 of its contrast a quarter cell away, 81 %, instead of 56 %."""
    batch = landmark_batch([[5.5, 9.5]], [[14.5, 14.5]])  # (3.25, 3.25) in cells
    places = find_places(batch, GRID)
    weights = places.weights[0, 2 * GRID + 1]
    assert weights.max().item() == pytest.approx(0.81)
    centres = torch.stack([places.cells % GRID, places.cells // GRID], dim=-1)[0, 2 * GRID + 1].float()
    off = (weights[:, None] * centres).sum(0) - 3.25
    assert off.tolist() == pytest.approx([-0.15, -0.15])  # the furthest it gets


def test_attention_is_taught_to_look_at_the_place() -> None:
    """Attention that is even costs log N; attention to the right cell costs nothing, to x and y swapped a lot."""
    places = {GRID**2: find_places(landmark_batch([[5.0, 9.0]], [[25.0, 17.0]], photos=2), GRID)}  # to (25.5, 17.5)
    query, key = torch.zeros(2, 1, GRID**2, 2), torch.zeros(2, 1, GRID**2, 2)  # (B, h, N, d)
    probe = AttentionProbe([0])
    probe.record(0, AttentionInputs(query, key, None, 1))
    assert place_loss(probe, places).item() == pytest.approx(math.log(64), rel=1e-5)
    query[0, 0, 2 * GRID + 1] = 10.0
    key[0, 0, 4 * GRID + 6] = 10.0
    assert place_loss(probe, places).item() < 1e-3
    key[0, 0, 4 * GRID + 6], key[0, 0, 6 * GRID + 4] = 0.0, 10.0
    assert place_loss(probe, places).item() > 10
    places[GRID**2].known[:] = False
    assert place_loss(probe, places).item() == 0


def test_a_taught_query_finds_the_values_of_its_place() -> None:
    """Known cells get the weighted mean of the right values, the others what their own attention finds."""
    query, key, value = (pictures(seed, 2, 3, GRID**2, 4) for seed in range(3))
    query.requires_grad_(True)
    processor = TaughtAttentionProcessor(0, SharingOptions())
    places = find_places(landmark_batch([[5.0, 9.0]], [[25.5, 17.5]], photos=2), GRID)
    found = processor.attend(query, key, value, None, TaughtFeatures(places={GRID**2: places}))
    cell = 2 * GRID + 1
    near, far = 0.875**2 / (0.875**2 + 0.125**2), 0.125**2 / (0.875**2 + 0.125**2)  # (26, 18) px: (6.125, 4.125) cells
    rows = value[0].unflatten(1, (GRID, GRID))
    upper, lower = (near * rows[:, y, 6] + far * rows[:, y, 7] for y in (4, 5))
    torch.testing.assert_close(found[0, :, cell], near * upper + far * lower)
    own = torch.softmax(query @ key.transpose(2, 3) / 2, dim=-1) @ value
    others = torch.arange(GRID**2) != cell
    torch.testing.assert_close(found[0][:, others], own[0][:, others], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[1], own[1], atol=1e-5, rtol=1e-4)
    found.sum().backward()
    assert query.grad[0, :, cell].abs().max() == 0  # what is found teaches nothing about where to look
    assert query.grad[0, :, others].abs().max() > 0


def test_untold_it_is_the_restorers_attention() -> None:
    query, key, value = (pictures(seed, 2, 3, 16, 4) for seed in range(3))
    taught, plain = TaughtAttentionProcessor(0, SharingOptions()), SharedAttentionProcessor(0, SharingOptions())
    for reference in (None, ReferenceFeatures()):
        assert torch.equal(
            taught.attend(query, key, value, None, reference), plain.attend(query, key, value, None, reference)
        )


def test_landmarks_move_with_the_copies_of_faces() -> None:
    """A bright spot in a cell of the face is found at that landmark of its copy, and is known unless it left."""
    side, cells = 64, 16
    places = [(5, 6), (10, 9), (8, 3), (3, 12)]  # row and column of the cell whose centre has the spot
    centres = (torch.tensor(places).flip(-1) + 0.5) * side / cells - 0.5
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    spots = torch.exp(-((x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2) / 8)
    batch = {
        "hq": (spots[:, None].expand(-1, 3, -1, -1) - 1).contiguous(),
        "reference_mask": torch.zeros(4, 2, dtype=torch.bool),
    }
    num_known = 0
    for seed in range(5):
        copies = moved_copies(batch, random.Random(seed), cells)
        assert copies["references"].shape == (4, 1, 3, side, side)
        assert copies["reference_mask"].all()
        assert copies["landmark_mask"].all()
        assert copies["hq"] is batch["hq"]
        for sample, (row, column) in enumerate(places):
            index = row * cells + column
            torch.testing.assert_close(copies["landmarks"][sample, index], centres[sample])
            point = copies["reference_landmarks"][sample, 0, index]
            known = copies["reference_landmark_mask"][sample, 0, index]
            assert known == bool(((point >= -0.5) & (point <= side - 0.5)).all())
            if known and point.min() > 6 and point.max() < side - 7:  # not cut, and not beside its own reflection
                brightest = copies["references"][sample, 0].sum(0).flatten().argmax()
                found = torch.stack([brightest % side, brightest // side])
                assert (found - point).abs().max() <= 1.0
                num_known += 1
    assert num_known >= 12
