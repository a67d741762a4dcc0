"""Intervals over seeds and people against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from lit_restore.evaluation.bootstrap import estimate as estimate_over_people
from lit_restore.experiments.seeds_and_people import difference, estimate

PHOTOS = 3


def table(seed_effects: np.ndarray, people_effects: np.ndarray, shift: float = 0.0) -> dict:
    """A value per training and photo, without any noise beside the two effects."""
    return {
        s: {(f"p{k}", f"p{k}/{photo}"): shift + a + b for k, b in enumerate(people_effects) for photo in range(PHOTOS)}
        for s, a in enumerate(seed_effects)
    }


def test_the_width_is_that_of_both_effects_together() -> None:
    """Bootstrap variance of the mean: var_s / S + var_k / K, variances over the S seeds and K people at hand."""
    draws = np.random.default_rng(0)
    seeds, people = draws.normal(0, 0.3, 40), draws.normal(0, 0.5, 60)
    found = estimate(table(seeds, people), num_draws=8000)
    deviation = np.sqrt(seeds.var() / 40 + people.var() / 60)
    assert found.mean == pytest.approx(seeds.mean() + people.mean(), abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.05)
    assert (found.num, found.num_groups) == (40 * 60 * PHOTOS, 60)


def test_one_training_has_the_interval_over_people() -> None:
    people = np.random.default_rng(1).normal(0, 1, 30)
    values = table(np.zeros(1), people)
    found = estimate(values, num_draws=8000)
    expected = estimate_over_people(list(values[0].values()), [person for person, _ in values[0]], num_draws=8000)
    assert found.mean == pytest.approx(expected.mean, abs=1e-12)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.03)


def test_a_difference_is_free_of_what_both_have_in_common() -> None:
    draws = np.random.default_rng(2)
    seeds, people = draws.normal(0, 1, 3), draws.normal(0, 1, 10)
    found = estimate(difference(table(seeds, people, shift=0.25), table(seeds, people)))
    assert [found.mean, found.low, found.high] == pytest.approx([0.25] * 3, abs=1e-12)


def test_what_is_missing_does_not_count() -> None:
    values = {1: {("a", "1"): 2.0, ("a", "2"): float("nan")}, 2: {("a", "1"): 4.0}, 3: {}}
    found = estimate(values)
    assert (found.mean, found.low, found.high, found.num) == (3.0, 2.0, 4.0, 2)
    assert estimate({1: {}}) is None
    single = estimate({1: {("a", "1"): 2.0}})
    assert (single.low, single.high) == (None, None)
    assert difference(values, {1: {("a", "1"): 1.5}, 9: {("a", "1"): 0.0}}) == {1: {("a", "1"): 0.5}}
