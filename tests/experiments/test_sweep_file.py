"""Sweep files: wandb's schema and command, and what a user can get wrong in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_restore.errors import UserError
from lit_restore.experiments.study_file import read_study, study_names
from lit_restore.experiments.sweep_file import Sweep, read_sweep

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SWEEPS = sorted((EXPERIMENTS / "sweeps").glob("*.yaml"))
RANK = {"model.rank": {"values": [4, 8]}}


def test_the_command_is_the_one_that_wandbs_agent_runs(
    write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("WHERE", "people")
    command = ["${program}", "fit", "--data.root=${envvar:WHERE}", "--x=${envvar:NOT_SET}", "${args}"]
    values = {"model.rank": 4, "use": True, "steps": "[249, 499]", "rate": 1e-5}
    theirs: list[str] = []
    given = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})["args"]
    for word in create_sweep_command(list(command)):  # as in wandb_agent.Agent._command_run
        theirs += given if word == "${args}" else ["lit_restore"] if word == "${program}" else [word]
    ours = read_sweep(write_sweep(command=command, parameters=RANK)).argv(values)
    assert ours == theirs
    assert ours[2:5] == ["--data.root=people", "--x=NOT_SET", "--model.rank=4"]


def test_options_come_before_the_sweeps_own_values_and_a_base_replaces_the_first_config(
    write_sweep: Callable[..., Path],
) -> None:
    path = write_sweep(parameters=RANK)
    sweep = read_sweep(path, options=["--data.root", "people"], base="other/b.yaml")
    options = ["--config", "other/b.yaml", "--data.root", "people", "--model.rank=4"]
    assert sweep.fit_options({"model.rank": 4}) == options
    assert sweep.content["command"] == ["lit_restore", "fit", *options[:-1], "${args}"]  # wandb's agent does the same
    assert sweep.name == "some-b"


WRONG = {
    "unknown key": ({"metod": "grid", "method": None}, r"unknown key 'metod': .*line 7. Did you mean 'method'"),
    "method": ({"method": "greedy"}, r"wrong value for 'method': .*; expected grid or random or bayes; found 'greedy'"),
    "no parameters": ({"parameters": {}}, r"wrong value for 'parameters'"),
    "plain value": ({"parameters": {"a": 3}}, r"wrong value for 'parameters.a': .*line 9; expected {values.*; found 3"),
    "nested": ({"parameters": {"a": {"parameters": {"b": {"value": 1}}}}}, r"nested parameters.*dotted keys"),
    "other program": ({"command": ["python", "x.py", "${args}"]}, r"not a sweep of 'lit_restore fit'"),
    "no args": ({"command": ["lit_restore", "fit"]}, r"not a sweep of 'lit_restore fit'"),
    "no metric": ({"method": "bayes"}, r"a bayes sweep needs a metric"),
    "goal": ({"metric": {"name": "x", "goal": "up"}}, r"wrong value for 'metric.goal': .*line 9; .*found 'up'"),
    "run_cap": ({"run_cap": 0}, r"wrong value for 'run_cap'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named_with_their_line(name: str, write_sweep: Callable[..., Path]) -> None:
    content, message = WRONG[name]
    with pytest.raises(UserError) as caught:
        read_sweep(write_sweep(**({"parameters": RANK} | content)))
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_of_the_repository_is_read_and_logs_what_its_runs_measure(path: Path) -> None:
    sweep = read_sweep(path)
    assert sweep.metric == "val/psnr"
    assert sweep.command[-2:] == ("experiments/sweep_run.yaml", "${args}")


@pytest.mark.parametrize("name", study_names(EXPERIMENTS / "ablations"))
def test_every_study_of_the_repository_has_three_seeds_in_every_row(name: str) -> None:
    from lit_restore.experiments.expansion import expand

    study = read_study(name, EXPERIMENTS / "ablations")
    rows = study.rows(expand(study.sweep))
    assert len(rows) >= 2
    assert all(set(row.runs) == {1, 2, 3} for row in rows)


def study_of(sweep: Callable[..., Sweep], tmp_path: Path, text: str) -> None:
    from lit_restore.experiments.expansion import expand

    sweep({"rank": {"values": [4, 8]}, "seed": {"values": [1, 2]}})
    (tmp_path / "study.yaml").write_text(f"title: x\nsweep: some.yaml\nseed: seed\n{text}")
    study = read_study("study", tmp_path)
    study.rows(expand(study.sweep))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {a: {rank: 4}}", r"a run of the sweep belongs to no row: .*; found rank=8 seed=1"),
        ("rows: {a: {rank: 4}, b: {rank: 8}, c: {rank: 16}}", r"no run of the sweep belongs to row 'c'"),
        ("rows: {a: {}}", r"two runs of row 'a' have the same seed: .*; found rank=4 seed=1 and rank=8 seed=1"),
        ("rows: {a: {rnk: 4}}", r"the sweep does not vary 'rnk': .*Did you mean 'rank'"),
        ("row: {a: {rank: 4}}", r"unknown key 'row'.*Did you mean 'rows'"),
    ],
)
def test_rows_that_do_not_fit_the_runs_are_refused(
    sweep: Callable[..., Sweep], tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        study_of(sweep, tmp_path, text)
