"""The folder of a sweep: what was planned and how far it is, so that a killed sweep goes on where it stopped.

sweep.json    every run with its values, state, exit code, seconds and metric; replaced as a whole
NAME/         a run folder of ``lit_restore fit``, with log.txt and wandb/offline-run-*
.locks/       held by whoever works: the sweep, and every run's process, also after its sweep was killed
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lit_restore.errors import UserError
from lit_restore.experiments.expansion import PlannedRun
from lit_restore.image import atomic_path

State = Literal["running", "finished", "failed", "interrupted"]
STATE_NAME = "sweep.json"


@dataclass
class RunRecord:
    """What is known about one run.

    Attributes:
        state: ``running`` is also what a killed sweep leaves behind.
        exit_code: of its last process; negative = the signal that ended it.
        seconds: of all its processes together.
        metric: last value of the sweep's metric.
    """

    name: str
    parameters: dict[str, Any]
    state: State = "running"
    exit_code: int | None = None
    seconds: float = 0.0
    metric: float | None = None

    @property
    def planned(self) -> PlannedRun:
        return PlannedRun(self.name, self.parameters)


class SweepFolder:
    """Reads and writes ``sweep.json``.

    Args:
        path: of the sweep; made when something is written.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.records: dict[str, RunRecord] = {}
        self.sweep_id: str | None = None
        try:
            content = json.loads((self.path / STATE_NAME).read_text(encoding="utf-8"))
            self.sweep_id = content["wandb_sweep"]
            self.records = {one["name"]: RunRecord(**one) for one in content["runs"]}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, OSError):
            raise UserError(
                "damaged record of a sweep",
                where=self.path / STATE_NAME,
                fix="Delete it: runs that are complete will be recognised by their folders.",
            ) from None

    def save(self) -> None:
        """Write everything, complete or not at all."""
        content = {"wandb_sweep": self.sweep_id, "runs": [asdict(record) for record in self.records.values()]}
        with atomic_path(self.path / STATE_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")

    def is_finished(self, name: str) -> bool:
        return name in self.records and self.records[name].state == "finished"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """One sweep at a time works in a folder.

        Raises:
            UserError: another one does.
        """
        lock = self.lock("sweep")
        if lock is None:
            raise UserError(
                "another process is at work on this sweep", where=self.path, fix="Wait for it, or choose --output."
            )
        try:
            yield
        finally:
            os.close(lock)

    def lock(self, name: str) -> int | None:
        """A lock as an open file, held until every process that has inherited it is gone; None = taken."""
        folder = self.path / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle
