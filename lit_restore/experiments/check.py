"""Every run's configuration, merged and checked before the first one starts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import yaml

from lit_restore.errors import UserError
from lit_restore.experiments.expansion import PlannedRun
from lit_restore.experiments.sweep_file import Sweep, arguments
from lit_restore.training.command_line import fit_schema, run
from lit_restore.training.config_errors import find_error
from lit_restore.training.config_sources import Source, read_sources
from lit_restore.training.run_folder import differences

ROOT_VARIABLE = "LIT_RESTORE_SWEEP"  # experiments/sweep_run.yaml reads both
RUN_VARIABLE = "WANDB_RUN_ID"


def check_runs(sweep: Sweep, runs: Sequence[PlannedRun], folder: Path) -> dict[str, Any]:
    """Refuse what cannot run; gives the configuration of the first run.

    Raises:
        UserError: a key or value that ``lit_restore fit`` does not take, with its line in the sweep file; runs without
            a folder of their own; a run that is there already, of another configuration.
    """
    for one in runs:
        _check_parameters(sweep, one)
    first = resolve(sweep, runs[0], folder)
    expected, found = folder / runs[0].name, first["trainer"]["default_root_dir"]
    if found is None or Path(found) != expected:
        raise UserError(
            "the runs of the sweep would not have a folder each",
            where=f"{sweep.source.name}, command",
            expected="trainer.default_root_dir from experiments/sweep_run.yaml",
            found=found,
            fix="Put --config experiments/sweep_run.yaml before ${args}.",
        )
    for one in runs:
        stored = folder / one.name / "config.yaml"
        if stored.is_file():
            different = differences(
                resolve(sweep, one, folder), yaml.safe_load(stored.read_text(encoding="utf-8")) or {}
            )
            if different:
                raise UserError(
                    "a run of the sweep is there already, of another configuration",
                    where=stored.parent,
                    found=f"different {', '.join(different[:6])}" + (" ..." if len(different) > 6 else ""),
                    fix="Choose another --output, or delete that folder.",
                )
    return first


def resolve(sweep: Sweep, planned: PlannedRun, folder: Path) -> dict[str, Any]:
    """The merged, resolved configuration of a run, as ``fit --print_config`` shows it; nothing is made."""
    shown = io.StringIO()
    with _environment(run_environment(planned, folder)), redirect_stdout(shown), suppress(SystemExit):
        run(["fit", *sweep.fit_options(planned.parameters), "--print_config"])
    return yaml.safe_load(shown.getvalue())


def run_environment(planned: PlannedRun, folder: Path) -> dict[str, str]:
    """What tells a run who it is."""
    return {ROOT_VARIABLE: str(folder), RUN_VARIABLE: planned.name}


def _check_parameters(sweep: Sweep, planned: PlannedRun) -> None:
    file = sweep.source
    lines = {key.removeprefix("parameters."): line for key, line in file.lines.items()}
    given = set(arguments(planned.parameters))
    sources = read_sources([option for option in sweep.fit_options(planned.parameters) if option not in given])
    for key, value in planned.parameters.items():
        [one] = read_sources([f"--{key}={value}"])
        sources.append(Source(one.values, file.name, {key: lines[key]} if key in lines else {}))
    error = find_error(sources, fit_schema())
    if error is not None:
        raise error


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
