"""Bayesian search by wandb's engine, where it is installed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lit_restore.experiments.bayes import propose
from lit_restore.experiments.sweep_file import Sweep
from lit_restore.experiments.sweep_folder import RunRecord

for package in ("sweeps", "sklearn", "jsonref", "jsonschema"):
    pytest.importorskip(package)


def test_the_search_comes_near_the_best_value_and_first_ends_what_was_begun(sweep: Callable[..., Sweep]) -> None:
    parameters = {"x": {"min": 0.0, "max": 1.0}, "n": {"values": [1, 2]}}
    metric = {"name": "val/psnr", "goal": "maximize"}
    bayes = sweep(parameters, method="bayes", metric=metric, run_cap=25)
    records: dict[str, RunRecord] = {"begun": RunRecord("begun", {"x": 0.05, "n": 1}, "interrupted")}
    names = []
    for run in propose(bayes, records, 25):
        names.append(run.name)
        value = -((run.parameters["x"] - 0.7) ** 2)
        records[run.name] = RunRecord(run.name, run.parameters, "finished", metric=value)
        assert type(run.parameters["x"]) is float
    assert names[0] == "begun"
    assert len(set(names)) == len(records) == 25
    best = max(records.values(), key=lambda record: record.metric)
    assert abs(best.parameters["x"] - 0.7) < 0.1
