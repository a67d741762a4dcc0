from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from helpers import NOISE, normal, pictures, tiny_generator

from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.reference_attention import ReferenceFeatures, SharedAttentionProcessor, SharingOptions

B, R, N, C, HEADS = 3, 3, 9, 8, 2
LONELY = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])
SOCIAL = torch.tensor([[True, True, True], [False, True, True], [True, False, False]])


def small_attention(**options: bool) -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Attention(query_dim=C, heads=HEADS, dim_head=C // HEADS)
    layer.set_processor(SharedAttentionProcessor(0, SharingOptions(**options)))
    return layer


def features(mask: torch.Tensor | None) -> ReferenceFeatures:
    return ReferenceFeatures([normal(1, B, R, N, C)], [normal(2, B, R, N, C)], mask)


@pytest.mark.parametrize("keep_own", [False, True])
@pytest.mark.parametrize("mask", [None, SOCIAL, LONELY], ids=["no mask", "mask", "a photo without references"])
def test_rows_are_the_probabilities_of_the_real_keys_in_their_order(keep_own: bool, mask: torch.Tensor | None) -> None:
    layer, hidden, reference = small_attention(keep_own=keep_own), normal(5, B, N, C), features(mask)
    probe, cells = AttentionProbe([0]), torch.tensor([0, 3, 8])
    layer(hidden, reference=reference, probe=probe)
    weights = {name: value.double() for name, value in layer.state_dict().items()}
    for index in range(B):
        real = list(range(R)) if mask is None else mask[index].nonzero().flatten().tolist()
        own = keep_own or not real
        blocks = [hidden[index].double() @ weights["to_k.weight"].T] if own else []
        blocks += [reference.keys[0][index, r].double() for r in real]
        query, keys = hidden[index, cells].double() @ weights["to_q.weight"].T, torch.cat(blocks)
        expected = torch.stack(
            [
                torch.softmax(query[:, part] @ keys[:, part].T / (C // HEADS) ** 0.5, dim=-1)
                for part in (slice(h * C // HEADS, (h + 1) * C // HEADS) for h in range(HEADS))
            ]
        )
        sample = probe.seen[0].sample(index)
        torch.testing.assert_close(sample.rows(cells).double(), expected, atol=1e-6, rtol=0)
        assert sample.num_own == (N if own else 0)
        starts = {r: (own + place) * N for place, r in enumerate(real)}
        assert sample.starts == tuple(starts.get(r) for r in range(R))


def test_zero_keys_take_part_in_the_compat_mode_and_only_there() -> None:
    hidden, reference = normal(5, B, N, C), features(SOCIAL)
    for compat in (False, True):
        probe = AttentionProbe([0])
        small_attention(compat_zero_keys=compat)(hidden, reference=reference, probe=probe)
        sample = probe.seen[0].sample(1)
        rows = sample.rows(torch.arange(N))
        assert rows.shape[-1] == (3 if compat else 2) * N
        if compat:
            assert sample.starts == (0, N, 2 * N)
            torch.testing.assert_close(rows[..., :N], rows[..., :1].expand(-1, -1, N))  # logit 0, whatever the query
            assert rows[..., :N].sum(-1).min() > 0.05


def test_compat_zero_keys_give_each_missing_token_the_weight_of_a_zero_logit() -> None:
    """By the definition: zero keys, and values that AdaIN turns into the own values' mean."""
    layer, hidden, reference = small_attention(compat_zero_keys=True), normal(5, B, N, C), features(SOCIAL)
    zeros = SOCIAL[:, :, None, None]
    by_hand = ReferenceFeatures([reference.keys[0] * zeros], [reference.values[0] * zeros], None)
    expected = small_attention()(hidden, reference=by_hand)
    torch.testing.assert_close(layer(hidden, reference=reference), expected)
    assert (small_attention()(hidden, reference=reference) - expected).abs().max() > 1e-2
    unmasked = ReferenceFeatures(reference.keys, reference.values, torch.ones_like(SOCIAL))
    assert torch.equal(layer(hidden, reference=unmasked), small_attention()(hidden, reference=unmasked))


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base).train()


def restore(generator: OneStepGenerator, probe: AttentionProbe | None, **changes: Any) -> torch.Tensor:
    references = changes.get("references", pictures(1, 2, 3, 3, 64, 64))
    return generator(pictures(0, 2, 3, 64, 64), references, changes.get("mask"), draw=NOISE, probe=probe)


def test_a_probe_sees_the_wanted_layers_and_changes_nothing(generator: OneStepGenerator) -> None:
    probe = AttentionProbe([0, 5, 8])
    with torch.no_grad():
        assert torch.equal(restore(generator, probe), restore(generator, None))
    assert set(probe.seen) == {0, 5, 8}
    assert [probe.seen[layer].query.shape[2] for layer in (0, 5, 8)] == [4, 16, 64]
    for inputs in probe.seen.values():
        rows = inputs.sample(1).rows(torch.arange(2))
        assert rows.shape[-1] == 3 * inputs.query.shape[2]
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:2]))


def test_there_is_nothing_to_see_without_references(generator: OneStepGenerator) -> None:
    for references, mask in ((None, None), (pictures(1, 2, 3, 3, 64, 64), torch.zeros(2, 3, dtype=torch.bool))):
        probe = AttentionProbe(range(9))
        with torch.no_grad():
            restore(generator, probe, references=references, mask=mask)
        assert probe.seen == {}


def gradients(generator: OneStepGenerator) -> dict[str, torch.Tensor]:
    """Of a loss on the picture and on attention rows of three layers."""
    generator.zero_grad()
    probe = AttentionProbe([1, 4, 8])
    output = restore(generator, probe, mask=torch.tensor([[True, True, True], [True, False, True]]))
    rows = [probe.seen[layer].sample(index).rows(torch.arange(3)) for layer in (1, 4, 8) for index in (0, 1)]
    (output.square().mean() + sum(row.square().sum() for row in rows)).backward()
    return {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}


def test_activation_checkpointing_neither_loses_nor_doubles_gradients(
    tiny_base: Path, generator: OneStepGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(generator)
    checkpointed = tiny_generator(tiny_base).train()
    checkpointed.unet.enable_gradient_checkpointing()
    calls = []
    record = AttentionProbe.record
    monkeypatch.setattr(AttentionProbe, "record", lambda self, *args: (calls.append(args[0]), record(self, *args)))
    found = gradients(checkpointed)
    assert calls.count(4) == 2  # the layer did run again
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=1e-7, msg=lambda text, name=name: f"{name} {text}"
        )
