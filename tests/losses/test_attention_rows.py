"""The loss on fused rows against one that writes the whole attention map down, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import normal

from lit_restore.losses import attention_rows
from lit_restore.losses.attention_rows import RowTarget, attention_row_loss
from lit_restore.models.attention_probe import SampleAttention

H, N, D, R = 3, 16, 4, 3
MODES = [
    {"scaling": "minmax", "distance": "l2", "extremes": "rows"},
    {"scaling": "minmax", "distance": "l2", "extremes": "map"},
    {"scaling": "row_sum", "distance": "l2"},
    {"scaling": "none", "distance": "l2"},
    {"scaling": "row_sum", "distance": "cross_entropy"},
    {"scaling": "none", "distance": "cross_entropy"},
]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(mode.values()))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five rows of one head at a time, so that every loop has several turns."""
    monkeypatch.setitem(attention_rows.PIECE, "cpu", 5 * N)
    monkeypatch.setattr(attention_rows, "FEWEST_ROWS", 5)


def inputs(own: bool, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, own keys (or none) and reference keys."""
    query, own_key, key = 3 * normal(0, H, N, D), normal(1, H, N if own else 0, D), normal(2, H, R * N, D)
    return query.to(dtype).requires_grad_(), own_key.to(dtype).requires_grad_(), key.to(dtype)


def attention(query: torch.Tensor, own: torch.Tensor, key: torch.Tensor) -> SampleAttention:
    starts = tuple(own.shape[1] + N * reference for reference in range(R))
    return SampleAttention(query, torch.cat([own, key], dim=1), starts)


def targets(sample: SampleAttention, mode: dict[str, str], *, every_row: bool = False) -> list[RowTarget]:
    """Rows of two references, some in both."""
    chosen = [torch.arange(N)] * 2 if every_row else [torch.tensor([1, 4, 9]), torch.tensor([0, 4, 5, 7, 8, 11, 15])]
    result, dtype = [], torch.promote_types(sample.query.dtype, torch.float32)
    for reference, cells in zip((0, 2), chosen, strict=True):
        values = normal(7 + reference, len(cells), N).square().to(dtype)
        if mode["scaling"] == "row_sum" or mode["distance"] == "cross_entropy":
            values = values / values.sum(1, keepdim=True)
        result.append(RowTarget(cells, values, sample.starts[reference]))
    return result


def materialised(sample: SampleAttention, targets: list[RowTarget], mode: dict[str, str]) -> torch.Tensor:
    """The definition, on the complete map, left to autograd."""
    maps = torch.softmax(sample.query @ sample.key.transpose(1, 2) / D**0.5, dim=-1)
    if mode["scaling"] == "minmax":
        supervised = torch.unique(torch.cat([target.cells for target in targets]))
        looked_at = maps if mode["extremes"] == "map" else maps[:, supervised]
        maps = (maps - looked_at.min()) / (looked_at.max() - looked_at.min())
    values = []
    for target in targets:
        rows = maps[:, target.cells, target.start : target.start + N]
        if mode["scaling"] == "row_sum":
            rows = rows / rows.sum(-1, keepdim=True)
        if mode["distance"] == "l2":
            values.append((rows - target.values).square().mean())
        else:
            values.append(-(target.values * rows.log()).sum(-1).mean())
    return torch.stack(values).mean()


@every_mode
@pytest.mark.parametrize("own", [False, True], ids=["references", "own too"])
@pytest.mark.usefixtures("small_pieces")
def test_equals_the_materialised_map_in_value_and_gradient(own: bool, mode: dict[str, str]) -> None:
    for every_row, dtype in itertools.product((False, True), (torch.float64, torch.float32)):
        leaves = inputs(own, dtype)
        sample = attention(*leaves)
        goals = targets(sample, mode, every_row=every_row)
        found = attention_row_loss(sample, goals, **mode)
        gradients = torch.autograd.grad(3 * found, leaves[: 1 + own])
        doubles = [leaf.detach().double().requires_grad_() for leaf in leaves[:2]]
        expected = materialised(attention(*doubles, leaves[2].double()), goals, mode)
        expected_gradients = torch.autograd.grad(3 * expected, doubles[: 1 + own])
        tolerance = 1e-12 if dtype == torch.float64 else 5e-6
        assert found.item() == pytest.approx(expected.item(), rel=tolerance)
        limit = tolerance * expected_gradients[0].abs().max().item()
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient.double(), wanted, atol=limit, rtol=0)


@every_mode
def test_the_size_of_the_pieces_does_not_matter(mode: dict[str, str], request: pytest.FixtureRequest) -> None:
    leaves = inputs(own=True)
    results = []
    for fixture in (None, "small_pieces"):
        if fixture:
            request.getfixturevalue(fixture)
        loss = attention_row_loss(attention(*leaves), targets(attention(*leaves), mode), **mode)
        results.append((loss, *torch.autograd.grad(loss, leaves[:2])))
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(whole, pieces, atol=1e-14, rtol=1e-12)


def test_references_get_no_gradient_and_nothing_is_computed_for_own_keys_that_need_none() -> None:
    query, own, key = inputs(own=True)
    key.requires_grad_()
    sample = attention(query, own, key)
    attention_row_loss(sample, targets(sample, MODES[0])).backward()
    assert not key.grad.any()
    assert own.grad.any()
    frozen = attention(query, own.detach(), key.detach())
    attention_row_loss(frozen, targets(frozen, MODES[0])).backward()


@every_mode
def test_under_autocast_only_sums_are_rounded(mode: dict[str, str]) -> None:
    query, own, key = inputs(own=False, dtype=torch.bfloat16)
    key = key + 20  # in common to all keys: no effect on probabilities, and none on what rounding does
    sample = attention(query, own, key)
    with torch.autocast("cpu", torch.bfloat16):
        loss = attention_row_loss(sample, targets(sample, mode), **mode)
    (gradient,) = torch.autograd.grad(loss, query)
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    exact = query.detach().double().requires_grad_()
    expected = materialised(attention(exact, own.double(), key.double()), targets(sample, mode), mode)
    (wanted,) = torch.autograd.grad(expected, exact)
    assert loss.item() == pytest.approx(expected.item(), rel=5e-6)
    torch.testing.assert_close(gradient.double(), wanted, rtol=2**-7, atol=2**-6 * wanted.abs().max().item())


def test_a_perfectly_even_map_gives_finite_numbers() -> None:
    query = torch.zeros(H, N, D, requires_grad=True)
    sample = attention(query, torch.zeros(H, 0, D), normal(2, H, R * N, D))
    for mode in MODES:
        loss = attention_row_loss(sample, targets(sample, mode), **mode)
        (gradient,) = torch.autograd.grad(loss, query)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_logits_far_apart_stay_finite() -> None:
    query = (200 * normal(0, H, N, D)).requires_grad_()
    sample = attention(query, torch.zeros(H, 0, D), normal(2, H, R * N, D))
    for mode in MODES:
        loss = attention_row_loss(sample, targets(sample, mode), **mode)
        (gradient,) = torch.autograd.grad(loss, query)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_there_is_no_cross_entropy_of_min_max_scaled_maps() -> None:
    sample = attention(*inputs(own=False))
    with pytest.raises(ValueError, match="distributions"):
        attention_row_loss(sample, targets(sample, MODES[0]), scaling="minmax", distance="cross_entropy")
