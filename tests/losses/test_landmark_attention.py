from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import NOISE, pictures, tiny_generator

from lit_restore.data.attention_targets import gaussian_rows
from lit_restore.errors import UserError
from lit_restore.losses.landmark_attention import (
    LandmarkAttentionConfig,
    LandmarkAttentionLoss,
    Supervision,
    SupervisionProbe,
)
from lit_restore.models.attention_probe import AttentionInputs
from lit_restore.models.generator import OneStepGenerator
from lit_restore.types import RestorationBatch

SIDE, POINTS, NUM_LAYERS = 64, 40, 9
Config = LandmarkAttentionConfig


def batch(size: int = 2, num_references: int = 3, seed: int = 0) -> RestorationBatch:
    """Random pictures and landmarks, some of them unknown; the last reference of the second photo is padding."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    mask = torch.ones(size, num_references, dtype=torch.bool)
    mask[1:, -1:] = False
    return RestorationBatch(
        lq=pictures(seed, size, 3, SIDE, SIDE),
        hq=pictures(seed + 1, size, 3, SIDE, SIDE),
        references=pictures(seed + 2, size, num_references, 3, SIDE, SIDE) * mask[..., None, None, None],
        reference_mask=mask,
        landmarks=uniform(size, POINTS, 2) * SIDE,
        landmark_mask=uniform(size, POINTS) < 0.8,
        reference_landmarks=uniform(size, num_references, POINTS, 2) * SIDE,
        reference_landmark_mask=(uniform(size, num_references, POINTS) < 0.8) & mask[..., None],
        identity=[""] * size,
        key=[str(index) for index in range(size)],
        has_hq=torch.ones(size, dtype=torch.bool),
    )


def photos(whole: RestorationBatch, *chosen: int) -> RestorationBatch:
    index = list(chosen)
    return {k: v[index] if isinstance(v, torch.Tensor) else [v[i] for i in index] for k, v in whole.items()}


def loss(**options: Any) -> LandmarkAttentionLoss:
    return LandmarkAttentionLoss(Config(weight=1.0, **options), [""] * NUM_LAYERS)


def draws(size: int = 2, seed: int = 0) -> list[random.Random]:
    return [random.Random(repr((seed, photo))) for photo in range(size)]


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base).train()


def value(generator: OneStepGenerator, measure: LandmarkAttentionLoss, data: RestorationBatch, seed: int = 0):
    probe = measure.probe(data, draws(len(data["key"]), seed))
    generator(data["lq"], data["references"], data["reference_mask"], draw=NOISE, probe=probe)
    return measure(probe)


def by_definition(probe: SupervisionProbe, sample: int, layer: int, references: list[int], targets: str) -> float:
    """Complete maps of one photo and layer, min-max scaled as a whole, compared as section 10 of the facts says."""
    attention, data = probe.seen[layer].sample(sample), probe.batch
    tokens = attention.query.shape[1]
    maps = attention.rows(torch.arange(tokens)).double()
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    values = []
    for reference in references:
        rows = gaussian_rows(
            data["landmarks"][sample : sample + 1],
            data["reference_landmarks"][sample : sample + 1, reference],
            size_px=SIDE,
            grid=int(tokens**0.5),
            query_mask=data["landmark_mask"][sample : sample + 1],
            reference_mask=data["reference_landmark_mask"][sample : sample + 1, reference],
            variant=targets,
        )
        target = torch.zeros(tokens, tokens, dtype=torch.float64)
        target[rows.query] = rows.values.double()
        target = (target - target.min()) / (target.max() - target.min())
        block = int(data["reference_mask"][sample, :reference].sum())
        part = maps[:, :, block * tokens : (block + 1) * tokens]
        values.append((part - target)[:, rows.query].square().mean().item())
    return sum(values) / len(values)


@torch.no_grad()
@pytest.mark.parametrize("targets", ["corrected", "official"])
def test_is_the_definition_averaged_over_references_layers_and_photos(generator, targets: str) -> None:
    data = batch()
    data["reference_mask"][1] = torch.tensor([True, False, True])  # a gap: reference 2 is the second of the keys
    data["reference_landmark_mask"][1, 2] = data["reference_landmark_mask"][1, 0]
    measure = loss(extremes="map", targets=targets)
    probe = measure.probe(data, draws())
    generator(data["lq"], data["references"], data["reference_mask"], draw=NOISE, probe=probe)
    real = [[0, 1, 2], [0, 2]]
    expected = [
        sum(by_definition(probe, sample, layer, real[sample], targets) for layer in range(NUM_LAYERS)) / NUM_LAYERS
        for sample in range(2)
    ]
    assert measure(probe).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"extremes": "map"}, {"scaling": "row_sum", "distance": "cross_entropy"}])
def test_a_batch_is_the_mean_of_its_photos_one_by_one(generator, options: dict[str, str]) -> None:
    measure, data = loss(**options), batch(3)
    data["landmark_mask"][2] = False
    together = value(generator, measure, data)
    alone = [value(generator, measure, photos(data, index)) for index in range(2)]
    assert measure.probe(photos(data, 2), draws(1)) is None
    assert together.item() == pytest.approx(sum(one.item() for one in alone) / 3, rel=1e-4)


@torch.no_grad()
def test_the_sampled_loss_has_the_mean_of_the_complete_one(generator) -> None:
    data, complete = photos(batch(), 0), loss(extremes="map")
    every = [
        value(generator, loss(extremes="map", layers=[layer], references=[reference]), data).item()
        for layer in range(NUM_LAYERS)
        for reference in range(3)
    ]
    assert value(generator, complete, data).item() == pytest.approx(sum(every) / len(every), rel=1e-5)


def test_draws_are_a_function_of_the_source_and_fair() -> None:
    measure, data = loss(layers="sample", references="sample"), batch()
    assert measure.probe(data, draws(seed=5)).items == measure.probe(data, draws(seed=5)).items
    alone = measure.probe(photos(data, 1), draws(seed=5)[1:]).items
    assert [item[1:] for item in alone] == [item[1:] for item in measure.probe(data, draws(seed=5)).items[1:]]
    counts = Counter()
    for seed in range(900):
        first, second = measure.probe(data, draws(seed=seed)).items
        assert (first.sample, second.sample) == (0, 1)
        counts[first.layer, first.reference] += 1
        assert second.reference in (0, 1)  # the third is padding
    assert set(counts) == {(layer, reference) for layer in range(NUM_LAYERS) for reference in range(3)}
    assert max(counts.values()) < 3 * min(counts.values())


def test_what_is_not_known_is_not_supervised() -> None:
    data = batch()
    data["reference_landmark_mask"][0, 1] = False  # no landmark file
    data["landmark_mask"][1] = False
    data["reference_landmarks"][0, 2, :, 0] += SIDE  # all outside of the picture
    items = loss().probe(data, draws()).items
    assert items == [Supervision(0, layer, 0) for layer in range(NUM_LAYERS)]
    chosen = loss(layers=[7, 2], references=[1, 2]).probe(batch(), draws())
    assert [tuple(item) for item in chosen.items] == [(0, 2, 1), (0, 2, 2), (0, 7, 1), (0, 7, 2), (1, 2, 1), (1, 7, 1)]
    assert chosen.layers == {2, 7}


def test_there_is_no_probe_where_nothing_can_be_supervised() -> None:
    data = batch()
    assert LandmarkAttentionLoss(Config(weight=0.0), [""] * NUM_LAYERS).probe(data, draws()) is None
    assert loss(references=[3]).probe(data, draws()) is None
    for name in ("landmark_mask", "reference_mask", "reference_landmark_mask"):
        assert loss().probe({**data, name: torch.zeros_like(data[name])}, draws()) is None
    assert loss().probe(batch(num_references=0), draws()) is None


@pytest.mark.parametrize("options", [{}, {"scaling": "none"}, {"scaling": "row_sum", "distance": "cross_entropy"}])
@pytest.mark.parametrize("targets", ["corrected", "official"])
def test_descending_it_turns_the_query_to_the_landmark(options: dict[str, str], targets: str) -> None:
    """One landmark, moved to the right in the reference: the attention follows to the right, not down."""
    data = batch(1, 1)
    data["landmarks"][0, 0] = torch.tensor([20.0, 36.0])
    data["reference_landmarks"][0, 0, 0] = torch.tensor([52.0, 12.0])
    data["landmark_mask"][:], data["reference_landmark_mask"][:] = False, False
    data["landmark_mask"][:, 0], data["reference_landmark_mask"][:, :, 0] = True, True
    grid = 8
    query = torch.zeros(1, 2, grid**2, grid**2, requires_grad=True)
    key = 8 * torch.eye(grid**2).expand(1, 2, -1, -1)  # a direction of its own for every cell
    measure = loss(layers=[0], targets=targets, **options)
    optimizer = torch.optim.Adam([query], lr=0.1)
    for _ in range(60):
        probe = measure.probe(data, draws(1))
        probe.record(0, AttentionInputs(query, key, None, 1))
        optimizer.zero_grad()
        measure(probe).backward()
        optimizer.step()
    asked = 36 // 8 * grid + 20 // 8
    row = probe.seen[0].sample(0).rows(torch.tensor([asked]))[0, 0].detach()
    x, y = (52 // 8, 12 // 8) if targets == "corrected" else (12 // 8, 52 // 8)
    assert divmod(row.argmax().item(), grid) == (y, x)
    untouched = torch.arange(grid**2) != asked
    assert not query.detach()[:, :, untouched].any()


def test_gradients_reach_the_query_weights_and_are_the_same_with_activation_checkpointing(tiny_base, generator) -> None:
    checkpointed = tiny_generator(tiny_base).train()
    checkpointed.unet.enable_gradient_checkpointing()
    results = []
    for network in (generator, checkpointed):
        network.zero_grad()
        value(network, loss(layers="sample"), batch(), seed=3).backward()
        results.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    plain, again = results
    layers = {item.layer for item in loss(layers="sample").probe(batch(), draws(seed=3)).items}
    for layer in layers:
        name = f"unet.{generator.shared_layers[layer]}.to_q.lora_B.default.weight"
        assert plain[name].abs().max() > 0
    assert set(again) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max().item())


def test_supervision_of_a_network_without_shared_attention_is_an_error(tiny_base) -> None:
    blind = tiny_generator(tiny_base, use_references=False)
    with pytest.raises(UserError, match="use_references"), torch.no_grad():
        value(blind, loss(), batch())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight"),
        ({"distance": "cross_entropy"}, "row_sum"),
        ({"layers": [0, 9]}, "layers.*0 to 8"),
        ({"references": [-1]}, "references"),
        ({"layers": []}, "layers"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LandmarkAttentionLoss(Config(**options), [""] * NUM_LAYERS)
