"""Grids and random draws."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import product

import pytest

from lit_restore.errors import UserError
from lit_restore.experiments.expansion import draw, expand, label, planned
from lit_restore.experiments.sweep_file import Sweep

MakeSweep = Callable[..., Sweep]


def test_a_grid_is_the_product_of_all_values(sweep: MakeSweep) -> None:
    grid = sweep({"a.rank": {"values": [4, 8]}, "b.on": {"values": [True, False]}, "c": {"value": "x"},
                  "d": {"min": 1, "max": 3}})  # fmt: skip
    runs = expand(grid)
    expected = [dict(zip(("a.rank", "b.on", "c", "d"), one, strict=True))
                for one in product([4, 8], [True, False], ["x"], [1, 2, 3])]  # fmt: skip
    assert [run.parameters for run in runs] == expected
    assert len({run.name for run in runs}) == 12
    assert [run.parameters for run in expand(grid, 5)] == expected[:5]


def test_equal_values_are_one_run_and_keep_their_name() -> None:
    assert planned({"a.rank": 4, "b": True}).name == planned({"a.rank": 4, "b": True}).name
    assert planned({"a.rank": 4}).name.startswith("rank=4-")
    assert planned({"a.rank": 4}).name != planned({"b.rank": 4}).name
    assert label({"a.x": 1, "b.x": 2, "b.rate": 0.00012345}) == "a.x=1 b.x=2 rate=0.000123"
    long = planned({"losses": "{l1: 1.0, network: 'a/b:c#d'}" * 5}).name
    assert len(long) < 80
    assert not set(long) & set("/\\#?%: '")  # what folders and wandb's run ids may not have


def test_a_longer_random_search_begins_with_the_shorter_one(sweep: MakeSweep) -> None:
    parameters = {"rate": {"min": 0.0, "max": 1.0}, "rank": {"values": [4, 8, 16]}}
    random = sweep(parameters, method="random", run_cap=6)
    runs = expand(random)
    assert runs == expand(random, 20)[:6]
    more = sweep(parameters | {"seed": {"min": 1, "max": 9}}, method="random", run_cap=6)
    assert [{k: run.parameters[k] for k in parameters} for run in expand(more)] == [run.parameters for run in runs]


# description of the values -> function that makes them uniform in [0, 1), smallest and largest value
DISTRIBUTIONS = {
    "uniform": ({"min": 2.0, "max": 6.0}, lambda v: (v - 2) / 4),
    "int": ({"min": 1, "max": 4}, lambda v: (v - 0.5) / 4),
    "log values": ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}, lambda v: math.log10(v) / 2 + 2),
    "log": ({"distribution": "log_uniform", "min": -3.0, "max": 1.0}, lambda v: (math.log(v) + 3) / 4),
    "normal": ({"distribution": "normal", "mu": 3, "sigma": 2}, lambda v: statistics.NormalDist(3, 2).cdf(v)),
    "log normal": ({"distribution": "log_normal", "mu": 0, "sigma": 1},
                   lambda v: statistics.NormalDist().cdf(math.log(v))),
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_follow_their_distribution(name: str, sweep: MakeSweep) -> None:
    description, to_uniform = DISTRIBUTIONS[name]
    one = sweep({"x": description}, method="random", run_cap=1)
    values = [to_uniform(draw(one, index)["x"]) for index in range(2000)]
    # Mean 1/2 and variance 1/12 within five standard errors; four whole numbers have 5/64.
    assert statistics.mean(values) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 2000))
    assert statistics.pvariance(values) == pytest.approx(5 / 64 if name == "int" else 1 / 12, abs=5 * 0.0017)
    assert min(values) >= 0
    assert max(values) <= 1


def test_rounded_draws_and_weighted_choices(sweep: MakeSweep) -> None:
    one = sweep(
        {
            "x": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.1},
            "y": {"values": ["a", "b"], "probabilities": [0.9, 0.1]},
        },
        method="random",
        run_cap=1,
    )
    drawn = [draw(one, index) for index in range(1000)]
    assert {values["x"] for values in drawn} == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert sum(values["y"] == "a" for values in drawn) == pytest.approx(900, abs=5 * math.sqrt(90))


@pytest.mark.parametrize(
    ("parameters", "content", "message"),
    [
        ({"x": {"min": 0.0, "max": 1.0}}, {}, r"the values of 'x' cannot be used: .*, line \d; expected {values"),
        ({"x": {"values": [1]}}, {"method": "random"}, r"how many runs\?.*--count N"),
        ({"x": {"distribution": "uniforn"}}, {"method": "random", "run_cap": 1}, r"Did you mean 'uniform'"),
        ({"x": {"distribution": "uniform", "min": 1}}, {"method": "random", "run_cap": 1}, r"expected max for uniform"),
        ({"x": {"min": 1}}, {"method": "random", "run_cap": 1}, r"the values of 'x' cannot be used"),
        ({k: {"min": 1, "max": 99} for k in "abc"}, {}, r"the grid is too large: .*; found 970299"),
    ],
)
def test_values_that_cannot_be_expanded_are_refused(
    sweep: MakeSweep, parameters: dict, content: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        expand(sweep(parameters, **content))
