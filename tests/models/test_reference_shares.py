"""Shares of references: constructed attention with known owners, and a whole pass against plain softmax."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NOISE, normal, pictures, tiny_generator

from lit_restore.models import reference_shares as module
from lit_restore.models.attention_probe import AttentionInputs, AttentionProbe
from lit_restore.models.reference_shares import reference_shares


def probe_of(*layers: AttentionInputs) -> AttentionProbe:
    probe = AttentionProbe(range(len(layers)))
    for number, layer in enumerate(layers):
        probe.record(number, layer)
    return probe


def firm(grid: int, owners: torch.Tensor, num_references: int, place: int = 0) -> AttentionInputs:
    """One head whose query n looks only at cell ``place`` of reference ``owners[n]``."""
    tokens = grid * grid
    key = torch.zeros(num_references, tokens, num_references)
    for reference in range(num_references):
        key[reference, place, reference] = 1
    query = torch.nn.functional.one_hot(owners, num_references).float() * 1e3
    return AttentionInputs(query[None, None], key.flatten(0, 1)[None, None], None, num_references)


def test_a_constructed_attention_gives_its_owners() -> None:
    owners = torch.randint(0, 3, (64,), generator=torch.Generator().manual_seed(0))
    shares = reference_shares(probe_of(firm(8, owners, 3, place=11)))
    assert shares.drawn.shape == shares.looked_at.shape == (3, 8, 8)
    np.testing.assert_array_equal(shares.drawn.argmax(0), owners.reshape(8, 8))
    np.testing.assert_allclose(shares.drawn.max(0), 1, atol=1e-6)
    counts = torch.bincount(owners, minlength=3).numpy() / 64
    np.testing.assert_allclose(shares.total, counts, atol=1e-6)
    np.testing.assert_allclose(shares.looked_at[:, 1, 3], counts, atol=1e-6)  # cell 11 of each, nothing elsewhere
    assert shares.looked_at.sum() == pytest.approx(1, abs=1e-6)


def test_layers_count_alike_whatever_their_grid() -> None:
    """Everything from the first reference at 2 x 2 cells, from the second at 8 x 8: half each, and sums stay 1."""
    coarse, fine = firm(2, torch.zeros(4, dtype=torch.long), 2), firm(8, torch.ones(64, dtype=torch.long), 2)
    shares = reference_shares(probe_of(coarse, fine))
    np.testing.assert_allclose(shares.drawn, 0.5, atol=1e-6)
    np.testing.assert_allclose(shares.looked_at.sum((1, 2)), 0.5, atol=1e-6)


def test_heads_are_averaged_and_padding_is_left_out() -> None:
    one, other = firm(4, torch.zeros(16, dtype=torch.long), 3), firm(4, torch.full((16,), 2), 3)
    query, key = torch.cat([one.query, other.query], 1), torch.cat([one.key, other.key], 1)
    allowed = torch.tensor([[True, False, True]]).repeat_interleave(16, 1)
    shares = reference_shares(probe_of(AttentionInputs(query, key, allowed, 3)))
    assert shares.drawn.shape == (2, 4, 4)
    np.testing.assert_allclose(shares.drawn, 0.5, atol=1e-6)


def test_own_keys_take_their_part() -> None:
    """Equal scores everywhere: 16 own keys, 32 of two references."""
    inputs = AttentionInputs(torch.zeros(1, 2, 16, 4), normal(1, 1, 2, 48, 4), None, 2)
    shares = reference_shares(probe_of(inputs))
    np.testing.assert_allclose(shares.drawn, 1 / 3, atol=1e-6)
    assert shares.looked_at.sum() == pytest.approx(2 / 3, abs=1e-6)


def test_without_references_there_is_nothing_to_share() -> None:
    assert reference_shares(AttentionProbe([0])) is None
    nobody = AttentionInputs(normal(1, 1, 1, 4, 2), normal(2, 1, 1, 8, 2), torch.tensor([[True] * 4 + [False] * 4]), 1)
    assert reference_shares(probe_of(nobody)) is None


def test_a_pass_of_the_generator(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against softmax written down, in chunks that do not divide the queries; the picture does not change."""
    monkeypatch.setattr(module, "CHUNK_VALUES", 5000)
    generator = tiny_generator(tiny_base)
    lq, references = pictures(1, 2, 3, 64, 64), pictures(2, 2, 3, 3, 64, 64)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    probe = AttentionProbe(range(len(generator.shared_layers)))
    with torch.inference_mode():
        with_probe = generator(lq, references, mask, draw=NOISE, probe=probe)
        torch.testing.assert_close(with_probe, generator(lq, references, mask, draw=NOISE), rtol=0, atol=0)
    assert len(probe.seen) == len(generator.shared_layers)
    for sample, count in ((0, 3), (1, 2)):
        shares = reference_shares(probe, sample)
        np.testing.assert_allclose(shares.drawn.sum(0), 1, atol=1e-5)
        assert shares.looked_at.sum() == pytest.approx(1, abs=1e-5)
        expected = []
        for inputs in probe.seen.values():
            keys = inputs.key[sample].unflatten(1, (3, -1))[:, mask[sample]].flatten(1, 2)
            rows = torch.softmax(inputs.query[sample] @ keys.mT / math.sqrt(keys.shape[-1]), -1)
            expected.append(rows.mean((0, 1)).unflatten(0, (count, -1)).sum(1))
        np.testing.assert_allclose(shares.total, torch.stack(expected).mean(0), atol=1e-5)
