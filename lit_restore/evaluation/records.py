"""One row per photo, kept while an evaluation runs: what a restarted evaluation need not do again.

Each process appends to a file of its own, ``rows/<rank>.jsonl``, one complete line per photo in one write. A line that
was cut off by a kill is ignored, so a row is there as a whole or not at all. At the end the rows become ``images.csv``
(and ``images.parquet`` where pyarrow is installed), in the order of the data set.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lit_restore.image import atomic_path

FIXED_COLUMNS = ("key", "person", "failure")
REASONS_COLUMN = "not_measured"


@dataclass(frozen=True)
class Row:
    """What is known about one photo.

    Attributes:
        key: stable name of the photo.
        identity: the person.
        failure: why there is no restored image; None = there is one.
        values: metric -> number; None where it could not be computed.
        reasons: metric -> why it could not be computed.
    """

    key: str
    identity: str
    failure: str | None = None
    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class Journal:
    """The rows of one evaluation folder.

    Args:
        folder: of the evaluation.
        rank: of this process among those that share the work.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder / "rows"
        self.path = self.folder / f"{rank}.jsonl"

    def append(self, row: Row) -> None:
        """Add a row; it is on its way to the disk when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"at": time.time_ns()} | asdict(row), ensure_ascii=False) + "\n"
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            if end and os.pread(handle, 1, end - 1) != b"\n":
                line = "\n" + line  # behind a line that a kill has cut off
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def read(self) -> dict[str, Row]:
        """The rows of all processes by key; of several for one photo the last."""
        rows: list[tuple[int, Row]] = []
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
                try:
                    content = json.loads(line)
                    rows.append((content.pop("at"), Row(**content)))
                except (ValueError, TypeError, AttributeError, KeyError):
                    continue
        return {row.key: row for _, row in sorted(rows, key=lambda item: item[0])}


def write_rows(rows: Sequence[Row], metrics: Iterable[str], folder: Path) -> None:
    """Write ``images.csv``, and ``images.parquet`` if pyarrow is installed; each complete or not at all."""
    metrics = list(metrics)
    with atomic_path(folder / "images.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*FIXED_COLUMNS, *metrics, REASONS_COLUMN])
        for row in rows:
            numbers = ["" if row.values.get(name) is None else repr(row.values[name]) for name in metrics]
            writer.writerow([row.key, row.identity, row.failure or "", *numbers, _join(row.reasons)])
    if importlib.util.find_spec("pyarrow"):
        _write_parquet(rows, metrics, folder / "images.parquet")


def number(value: float) -> float | None:
    """NaN -> None, since JSON and spreadsheets have no NaN."""
    return None if math.isnan(value) else value


def _write_parquet(rows: Sequence[Row], metrics: Sequence[str], target: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    text = {
        "key": [row.key for row in rows],
        "person": [row.identity for row in rows],
        "failure": [row.failure for row in rows],
        REASONS_COLUMN: [_join(row.reasons) or None for row in rows],
    }
    columns = {name: pyarrow.array(values, pyarrow.string()) for name, values in text.items()}
    for name in metrics:
        columns[name] = pyarrow.array([row.values.get(name) for row in rows], pyarrow.float64())
    with atomic_path(target) as path:
        pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _join(reasons: dict[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
