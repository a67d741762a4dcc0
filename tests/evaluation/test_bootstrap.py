"""Intervals against closed forms, and how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_restore.evaluation.bootstrap import estimate


def test_one_photo_per_person_is_the_ordinary_bootstrap() -> None:
    values = np.random.default_rng(0).normal(20, 3, 400)
    found = estimate(values, [str(index) for index in range(400)], num_draws=20_000)
    # The bootstrap distribution of a mean has exactly the standard deviation sigma_n / sqrt(n) (Efron 1979).
    half = 1.959964 * values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_equal_photos_of_a_person_count_once() -> None:
    people = np.random.default_rng(1).normal(0, 1, 60)
    once = estimate(people, [str(p) for p in range(60)])
    tenfold = estimate(np.repeat(people, 10), [str(p) for p in range(60) for _ in range(10)])
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))
    assert (tenfold.num, tenfold.num_groups) == (600, 60)


def test_interval_of_two_people_is_exact() -> None:
    """Draws are (2, 0), (1, 1), (0, 2) with probabilities 1/4, 1/2, 1/4, so the ends are the two people's means."""
    found = estimate([1.0, 3.0, 10.0], ["a", "a", "b"])
    assert (found.low, found.high) == (2.0, 10.0)
    assert found.mean == pytest.approx(14 / 3)


def test_ninety_five_percent_of_the_intervals_hold_the_truth_where_photos_of_a_person_are_alike() -> None:
    rng = np.random.default_rng(2)
    groups = [str(person) for person in range(40) for _ in range(6)]
    held = {"people": 0, "photos": 0}
    for trial in range(200):
        values = np.repeat(rng.normal(0, 1, 40), 6) + rng.normal(0, 0.3, 240)
        for name, by in (("people", groups), ("photos", [str(index) for index in range(240)])):
            found = estimate(values, by, seed=trial, num_draws=400)
            held[name] += found.low <= 0 <= found.high
    assert 0.90 <= held["people"] / 200 <= 0.99
    assert held["photos"] / 200 < 0.7  # what treating photos as independent would have claimed to be 95 %


def test_same_seed_same_interval() -> None:
    values, groups = np.random.default_rng(3).normal(size=50), [str(index % 9) for index in range(50)]
    assert estimate(values, groups, seed=4) == estimate(values, groups, seed=4)
    assert estimate(values, groups, seed=4) != estimate(values, groups, seed=5)


def test_what_is_not_a_number_does_not_count() -> None:
    found = estimate([1.0, math.nan, 3.0], ["a", "b", "c"])
    assert (found.mean, found.num, found.num_groups) == (2.0, 2, 2)
    assert estimate([math.nan], ["a"]) is None


@pytest.mark.parametrize(("values", "groups"), [([1.0, 2.0], ["a", "a"]), ([math.inf, 1.0], ["a", "b"])])
def test_no_interval_where_there_is_nothing_to_draw(values: list[float], groups: list[str]) -> None:
    found = estimate(values, groups)
    assert (found.low, found.high) == (None, None)
    assert found.mean == np.mean(values)
