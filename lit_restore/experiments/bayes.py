"""Bayesian search without a server, by wandb's own engine, the package ``sweeps``, where it is installed.

The engine fits a Gaussian process to the values of the finished runs and proposes the next one by expected improvement.
The package asks for numpy below 2, which other packages here do not run with, so it is not a dependency; it works with
numpy 2 all the same: ``pip install --no-deps sweeps`` beside scikit-learn, jsonschema, jsonref and pydantic.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from lit_restore.errors import UserError
from lit_restore.experiments.expansion import PlannedRun, planned
from lit_restore.experiments.sweep_file import Sweep
from lit_restore.experiments.sweep_folder import RunRecord

PACKAGES = ("sweeps", "sklearn", "jsonschema", "jsonref", "pydantic")


def require_engine(sweep: Sweep) -> None:
    """See that the engine is there.

    Raises:
        UserError: it is not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            "bayes needs wandb's server, or offline its engine",
            where=sweep.source.name,
            found=f"no package {', '.join(missing)}",
            fix="pip install --no-deps sweeps && pip install scikit-learn jsonschema jsonref pydantic; "
            "or write method: random, or log in with 'wandb login'.",
        )


def propose(sweep: Sweep, records: Mapping[str, RunRecord], count: int) -> Iterator[PlannedRun]:
    """First the runs that are not finished, then new ones until there are ``count``."""
    yield from [record.planned for record in records.values() if record.state != "finished"]
    while len(records) < count:
        run = next_run(sweep, records)
        if run is None or run.name in records:
            return
        yield run


def next_run(sweep: Sweep, records: Mapping[str, RunRecord]) -> PlannedRun | None:
    """What the engine proposes after these runs.

    Raises:
        UserError: it refuses the sweep.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sweeps

        config = {key: sweep.content[key] for key in ("method", "metric", "parameters") if key in sweep.content}
        try:
            found = sweeps.next_run(config, [_past(sweep, record, sweeps) for record in records.values()])
        except Exception as error:  # of a library with exceptions of many kinds
            message = " ".join(str(error).split())[:200]
            raise UserError("wandb's engine refuses the sweep", where=sweep.source.name, found=message) from None
    if found is None:
        return None
    values = {key: found.config[key]["value"] for key in sweep.parameters}
    return planned({key: value.item() if hasattr(value, "item") else value for key, value in values.items()})


def _past(sweep: Sweep, record: RunRecord, sweeps: Any) -> Any:
    states = {"finished": "finished", "running": "running", "failed": "failed", "interrupted": "running"}
    return sweeps.SweepRun(
        name=record.name,
        state=sweeps.RunState(states[record.state]),
        config={key: {"value": value} for key, value in record.parameters.items()},
        summary_metrics={} if record.metric is None else {sweep.metric: record.metric},
    )
