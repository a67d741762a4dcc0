"""A sweep file, run here: plan, check, do what is not done yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError
from lit_restore.experiments.bayes import propose, require_engine
from lit_restore.experiments.check import check_runs, run_environment
from lit_restore.experiments.expansion import PlannedRun, draw, expand, planned
from lit_restore.experiments.local_sweep import LocalSweep
from lit_restore.experiments.offline_files import last_value
from lit_restore.experiments.progress import SweepProgress
from lit_restore.experiments.sweep_file import Sweep
from lit_restore.experiments.sweep_folder import RunRecord, SweepFolder


class SweepPlan:
    """The runs of a sweep in a folder; refused where one of them could not run.

    Args:
        count: at most so many runs instead of the file's ``run_cap``.

    Raises:
        UserError: something in the file is wrong, or the folder holds something else.
    """

    def __init__(self, sweep: Sweep, path: Path, *, count: int | None = None) -> None:
        self.sweep, self.folder = sweep, SweepFolder(path)
        self.is_open = sweep.method == "bayes"  # what comes next depends on what came before
        if self.is_open:
            self.count = count or sweep.run_cap or 0
            if not self.count:
                raise UserError(
                    "how many runs?", where=sweep.source.name, fix="Write run_cap: N there, or pass --count N."
                )
            self.runs = [record.planned for record in self.folder.records.values()]
        else:
            self.runs = expand(sweep, count)
            self.count = len(self.runs)

    def check(self) -> dict[str, Any]:
        """Refuse what cannot run; gives the configuration of one run, see `check_runs`."""
        # Of a bayes sweep any values will do to see whether its keys are right.
        return check_runs(self.sweep, self.runs or [planned(draw(self.sweep, 0))], self.folder.path)

    def finished(self) -> list[RunRecord]:
        """The runs of this sweep that are done."""
        names = [run.name for run in self.runs] if not self.is_open else list(self.folder.records)
        return [self.folder.records[name] for name in names if self.folder.is_finished(name)]

    def leftover(self) -> list[str]:
        """Runs in the folder that the file does not ask for any more."""
        wanted = {run.name for run in self.runs}
        return [name for name in self.folder.records if name not in wanted]

    def run(self, *, jobs: int = 1, mode: str | None = "offline") -> int:
        """Do what is not finished; gives the number of failed runs.

        Args:
            jobs: runs at a time; several share out the GPUs of the machine.
            mode: of wandb in the runs; None = as the environment says.

        Raises:
            UserError: a bayes sweep without its engine.
            KeyboardInterrupt: Ctrl-C; the runs have saved.
        """
        if self.is_open:
            require_engine(self.sweep)
        folder, sweep = self.folder, self.sweep

        def environment(run: PlannedRun) -> dict[str, str]:
            identity = {
                "WANDB_NAME": run.name,
                "WANDB_RUN_GROUP": sweep.name,
                "WANDB_RESUME": "allow",
                "WANDB_SILENT": "true",
            }
            return run_environment(run, folder.path) | identity | ({} if mode is None else {"WANDB_MODE": mode})

        metric = sweep.metric
        with SweepProgress(folder.path, self.count, len(self.finished()), metric, jobs) as progress:
            LocalSweep(
                folder,
                lambda run: sweep.argv(run.parameters),
                environment,
                jobs=jobs,
                devices=gpus() if jobs > 1 else (),
                read_metric=(lambda place: last_value(place, metric)) if metric else (lambda place: None),
                report=progress,
            ).run(self._pending())
        return progress.num_failed

    def _pending(self) -> Iterator[PlannedRun]:
        return propose(self.sweep, self.folder.records, self.count) if self.is_open else iter(self.runs)


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES lets us see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
