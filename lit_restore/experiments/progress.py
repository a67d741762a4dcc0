"""What a person sees of a local sweep: a line per event, and on a terminal a bar with the time that is left."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lit_restore.experiments.expansion import label
from lit_restore.experiments.local_sweep import LOG_NAME, last_lines
from lit_restore.experiments.sweep_folder import RunRecord

WORDS = {"waiting": "still running from an earlier sweep, waiting"}


class SweepProgress:
    """Told of every event by `LocalSweep`.

    Args:
        total: number of runs.
        finished: of them done before.
        metric: shown beside finished runs.
        jobs: at a time, for the time that is left.
    """

    def __init__(self, folder: Path, total: int, finished: int, metric: str | None, jobs: int) -> None:
        self.folder, self.total, self.finished, self.metric, self.jobs = folder, total, finished, metric, jobs
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        self.num_failed = 0
        self._seconds: list[float] = []
        self._bar = Progress(
            TextColumn("Sweep"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, completed=finished, left="")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, event: str, record: RunRecord) -> None:
        """Show what has happened to a run."""
        if event == "finished":
            self.finished += 1
            self._seconds.append(record.seconds)
        counted = f"[{self.finished}/{self.total}]"
        self.console.print(
            f"{counted} {WORDS.get(event, event)}: {label(record.parameters)}{self._details(event, record)}"
        )
        if event == "failed":
            self.num_failed += 1
            folder = self.folder / record.name
            self.console.print(f"    {last_lines(folder)}\n    all of it: {folder / LOG_NAME}")
        self._bar.update(self._task, completed=self.finished, left=self._left())

    def _details(self, event: str, record: RunRecord) -> str:
        if event == "failed":
            return f", exit code {record.exit_code}"
        if event != "finished":
            return ""
        metric = "" if record.metric is None else f", {self.metric} {record.metric:.4g}"
        return f", {record.seconds:.0f} s{metric}"

    def _left(self) -> str:
        if not self._seconds:
            return ""
        seconds = sum(self._seconds) / len(self._seconds) * (self.total - self.finished) / self.jobs
        return f"about {seconds / 60:.0f} min left" if seconds >= 60 else f"about {seconds:.0f} s left"
