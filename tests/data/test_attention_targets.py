from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lit_restore.data.attention_targets import gaussian_rows, landmark_cells

FIXTURES = Path(__file__).parent.parent / "fixtures" / "instantrestore_math"
GRIDS = (16, 32, 64)


@pytest.fixture(scope="module")
def fixture() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "landmark_targets.safetensors")


def reference(fixture: dict[str, torch.Tensor], pair: str) -> torch.Tensor:
    return fixture["lm.gt"] if pair == "own" else fixture["lm.refs"][int(pair.removeprefix("ref"))]


def full_map(query: torch.Tensor, values: torch.Tensor, grid: int) -> torch.Tensor:
    full = torch.zeros(grid**2, grid**2)
    full[query] = values
    return full


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("pair", ["own", "ref1", "ref2"])
@pytest.mark.parametrize(("variant", "name"), [("official", "official"), ("corrected", "fixed")])
def test_equals_the_official_numbers(
    fixture: dict[str, torch.Tensor], grid: int, pair: str, variant: str, name: str
) -> None:
    rows = gaussian_rows(
        fixture["lm.gt"][None], reference(fixture, pair)[None], size_px=512, grid=grid, variant=variant
    )
    expected = fixture[f"lm.s{grid}.{pair}.{name}_rows"]
    cells = fixture[f"lm.s{grid}.{pair}.rows"]
    torch.testing.assert_close(full_map(rows.query, rows.values, grid)[cells], expected, atol=1e-5, rtol=0)
    mask = torch.zeros(grid**2, dtype=torch.uint8)
    mask[rows.query] = 1
    assert torch.equal(mask, fixture[f"lm.s{grid}.{pair}.{name}_mask"])


def test_equals_the_checks_of_the_fixture(fixture: dict[str, torch.Tensor]) -> None:
    checks = json.loads((FIXTURES / "landmark_targets.json").read_text())["checks"]
    for check in checks:
        _, grid, pair = check["tag"].split(".")
        points = fixture["lm.gt"][None], reference(fixture, pair)[None]
        for variant, count in (("official", check["masked_official"]), ("corrected", check["masked_fixed"])):
            rows = gaussian_rows(*points, size_px=512, grid=int(grid[1:]), variant=variant)
            assert len(rows.query) == count


def test_a_point_moved_in_x_moves_the_target_in_x() -> None:
    query = torch.tensor([[[40.0, 200.0]]])
    for grid in GRIDS:
        cell_px = 512 // grid
        for x, y in ((100.0, 300.0), (300.0, 100.0), (511.0, 0.0)):
            rows = gaussian_rows(query, torch.tensor([[[x, y]]]), size_px=512, grid=grid)
            assert rows.query.tolist() == [200 // cell_px * grid + 40 // cell_px]
            assert divmod(rows.values[0].argmax().item(), grid) == (y // cell_px, x // cell_px)
            official = gaussian_rows(query, torch.tensor([[[x, y]]]), size_px=512, grid=grid, variant="official")
            assert divmod(official.values[0].argmax().item(), grid) == (x // cell_px, y // cell_px)


def test_is_the_gaussian_of_the_paper() -> None:
    """Peak 1, sigma = grid/32 cells, by the formula in two dimensions."""
    rows = gaussian_rows(torch.tensor([[[8.0, 8.0]]]), torch.tensor([[[130.0, 250.0]]]), size_px=512, grid=32)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    expected = torch.exp(-((x - 8) ** 2 + (y - 15) ** 2) / 2)
    torch.testing.assert_close(rows.values[0].view(32, 32), expected)


def test_landmarks_in_one_cell_add_up() -> None:
    query = torch.tensor([[[1.0, 1.0], [2.0, 3.0], [20.0, 1.0]]])
    key = torch.tensor([[[50.0, 50.0], [90.0, 20.0], [50.0, 50.0]]])
    rows = gaussian_rows(query, key, size_px=128, grid=16)
    alone = [gaussian_rows(query[:, n : n + 1], key[:, n : n + 1], size_px=128, grid=16).values for n in range(3)]
    assert rows.query.tolist() == [0, 2]
    torch.testing.assert_close(rows.values, torch.cat([alone[0] + alone[1], alone[2]]))


def test_a_batch_is_its_samples_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.rand(3, 1349, 2, generator=generator) * 140 - 6 for _ in range(2))
    query_mask, key_mask = (torch.rand(3, 1349, generator=generator) < 0.5 for _ in range(2))
    for variant in ("corrected", "official"):
        options = {"size_px": 128, "grid": 32, "variant": variant}
        together = gaussian_rows(query, key, query_mask=query_mask, reference_mask=key_mask, **options)
        for sample in range(3):
            keep = query_mask[sample] & key_mask[sample]
            alone = gaussian_rows(query[sample][keep][None], key[sample][keep][None], **options)
            chosen = together.batch == sample
            assert torch.equal(together.query[chosen], alone.query)
            torch.testing.assert_close(together.values[chosen], alone.values, atol=1e-5, rtol=0)


def test_outside_points_are_rejected_on_every_side() -> None:
    inside = torch.tensor([[[10.0, 10.0]]])
    for outside in ([-0.1, 10.0], [10.0, -0.1], [128.0, 10.0], [10.0, 128.0]):
        for pair in ((inside, torch.tensor([[outside]])), (torch.tensor([[outside]]), inside)):
            assert len(gaussian_rows(*pair, size_px=128, grid=16).query) == 0
    cells, valid = landmark_cells(torch.tensor([[0.0, 127.9], [-0.1, 0.0]]), 128, 16)
    assert cells.tolist() == [[0, 15], [-1, 0]]
    assert valid.tolist() == [True, False]


def test_nothing_visible_gives_no_rows() -> None:
    points = torch.rand(2, 5, 2) * 100
    rows = gaussian_rows(points, points, size_px=128, grid=16, query_mask=torch.zeros(2, 5, dtype=torch.bool))
    assert rows.values.shape == (0, 256)


def test_misuse_is_refused() -> None:
    points = torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="multiple of the grid"):
        gaussian_rows(points, points, size_px=100, grid=16)
    with pytest.raises(ValueError, match="variant"):
        gaussian_rows(points, points, size_px=128, grid=16, variant="fixed")
