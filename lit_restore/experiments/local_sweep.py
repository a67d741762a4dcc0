"""Runs of a sweep as processes on this machine, so many at a time.

Each run is the sweep file's own command, with a folder and an identity of its own from the environment. Runs that are
finished are not started again; one that was interrupted is started with the same command, which continues from its
checkpoint. Where an earlier sweep was killed but its run lives on, that run is left to end first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lit_restore.experiments.expansion import PlannedRun
from lit_restore.experiments.sweep_folder import RunRecord, State, SweepFolder

POLL_S = 0.2
LOG_NAME = "log.txt"
Report = Callable[[str, RunRecord], None]


@dataclass
class _Slot:
    """One run at work; without a process it waits for the process of a killed sweep."""

    run: PlannedRun
    number: int
    process: subprocess.Popen | None = None
    log: IO[str] | None = None
    begun: float = 0.0


class LocalSweep:
    """Starts, watches and records runs.

    Args:
        folder: of the sweep.
        argv: run -> its command line.
        environment: run -> what its process gets beside our own environment.
        jobs: processes at a time.
        devices: GPUs to be dealt out, one per process; empty = every process sees all.
        read_metric: folder of a run -> last value of the metric that is watched.
        report: told ``started``, ``waiting`` or the state in which a run has ended.
    """

    def __init__(
        self,
        folder: SweepFolder,
        argv: Callable[[PlannedRun], Sequence[str]],
        environment: Callable[[PlannedRun], Mapping[str, str]],
        *,
        jobs: int = 1,
        devices: Sequence[str] = (),
        read_metric: Callable[[Path], float | None] = lambda folder: None,
        report: Report = lambda event, record: None,
    ) -> None:
        self.folder, self.argv, self.environment = folder, argv, environment
        self.jobs, self.devices, self.read_metric, self.report = jobs, list(devices), read_metric, report
        self._slots: list[_Slot] = []

    def run(self, runs: Iterator[PlannedRun]) -> None:
        """Do all ``runs`` that are not finished; what fails is recorded and the rest goes on.

        Args:
            runs: asked for the next one only when a process is free, and sees all records by then.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; by then the runs have saved and ended.
        """
        with self.folder.claimed(), _terminate_like_ctrl_c():
            try:
                while True:
                    while len(self._slots) < self.jobs and (run := next(runs, None)) is not None:
                        if not self.folder.is_finished(run.name):
                            self._take(run)
                    if not self._slots:
                        return
                    self._watch()
                    time.sleep(POLL_S)
            except KeyboardInterrupt:
                self._interrupt()
                raise

    def _take(self, run: PlannedRun) -> None:
        record = self.folder.records.setdefault(run.name, RunRecord(run.name, dict(run.parameters)))
        record.state, record.exit_code = "running", None
        self.folder.save()
        used = {slot.number for slot in self._slots}
        slot = _Slot(run, next(number for number in range(self.jobs) if number not in used))
        self._slots.append(slot)
        if not self._start(slot):
            self.report("waiting", record)

    def _start(self, slot: _Slot) -> bool:
        lock = self.folder.lock(slot.run.name)
        if lock is None:
            return False
        try:
            place = self.folder.path / slot.run.name
            place.mkdir(parents=True, exist_ok=True)
            slot.log = (place / LOG_NAME).open("a", encoding="utf-8")
            environment = os.environ | dict(self.environment(slot.run))
            if self.devices:
                environment["CUDA_VISIBLE_DEVICES"] = self.devices[slot.number % len(self.devices)]
            slot.begun = time.monotonic()
            slot.process = subprocess.Popen(
                _with_this_python(self.argv(slot.run)),
                stdin=subprocess.DEVNULL,
                stdout=slot.log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches it through us, once
                pass_fds=[lock],
            )
        finally:
            os.close(lock)  # the process has its own
        self.report("started", self.folder.records[slot.run.name])
        return True

    def _watch(self) -> None:
        for slot in list(self._slots):
            if slot.process is None:
                self._start(slot)
            elif slot.process.poll() is not None:
                self._end(slot, "finished" if slot.process.returncode == 0 else "failed")

    def _end(self, slot: _Slot, state: State) -> None:
        record = self.folder.records[slot.run.name]
        record.state = state
        if slot.process is not None and slot.log is not None:
            record.exit_code = slot.process.returncode
            record.seconds += time.monotonic() - slot.begun
            record.metric = self.read_metric(self.folder.path / slot.run.name)
            slot.log.close()
        self._slots.remove(slot)
        self.folder.save()
        self.report(state, record)

    def _interrupt(self) -> None:
        """Pass Ctrl-C on and wait until the runs have saved; a second one stops them at once."""
        for signal_number in (signal.SIGINT, signal.SIGKILL):
            for slot in self._slots:
                if slot.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        slot.process.send_signal(signal_number)
            try:
                for slot in self._slots:
                    if slot.process is not None:
                        slot.process.wait()
                break
            except KeyboardInterrupt:
                continue
        for slot in list(self._slots):
            is_done = slot.process is not None and slot.process.wait() == 0
            self._end(slot, "finished" if is_done else "interrupted")


def last_lines(folder: Path, number: int = 1) -> str:
    """The end of a run's log, for the message about its failure."""
    try:
        lines = (folder / LOG_NAME).read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in lines if line.strip()][-number:])


def _with_this_python(argv: Sequence[str]) -> list[str]:
    """``lit_restore`` means this one, whatever PATH says."""
    return [sys.executable, "-m", "lit_restore", *argv[1:]] if argv[0] == "lit_restore" else list(argv)


@contextlib.contextmanager
def _terminate_like_ctrl_c() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
