"""A sweep of small programs; run as a script it is a sweep that gets killed.

python sweep_of_programs.py FOLDER JOBS SECONDS NAME [NAME ...]

Each program writes a line ``start`` and, after so many seconds, ``end`` into FOLDER/NAME/events; Ctrl-C makes it write
``saved`` and exit with 130. A program called ``bad`` exits with 3.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lit_restore.experiments.expansion import PlannedRun
from lit_restore.experiments.local_sweep import LocalSweep
from lit_restore.experiments.sweep_folder import RunRecord, SweepFolder

PROGRAM = """\
import os, sys, time
folder, seconds = sys.argv[1], float(sys.argv[2])
def note(text):
    with open(os.path.join(folder, "events"), "a") as file:
        file.write(f"{text} {time.monotonic()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ['ME']}\\n")
note("start")
print("hello from", os.environ["ME"])
if os.path.basename(folder) == "bad":
    sys.exit("no such thing")
try:
    time.sleep(seconds)
except KeyboardInterrupt:
    note("saved")
    sys.exit(130)
note("end")
"""


def sweep(folder: Path, jobs: int, seconds: float, names: list[str], devices: list[str]) -> list[tuple[str, str]]:
    """Run it; what was reported."""
    told: list[tuple[str, str]] = []

    def report(event: str, record: RunRecord) -> None:
        told.append((event, record.name))
        print(event, record.name, flush=True)

    LocalSweep(
        SweepFolder(folder),
        lambda run: [sys.executable, "-c", PROGRAM, str(folder / run.name), str(seconds)],
        lambda run: {"ME": run.name},
        jobs=jobs,
        devices=devices,
        report=report,
    ).run(iter([PlannedRun(name, {"name": name}) for name in names]))
    return told


def events(folder: Path, name: str) -> list[list[str]]:
    """Lines of a program, as words."""
    path = folder / name / "events"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    try:
        sweep(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:], [])
    except KeyboardInterrupt:
        sys.exit(130)
