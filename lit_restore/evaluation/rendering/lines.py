"""A part of a table as lines of text cells, the same for every output format.

Each method takes up to three lines: ours with its interval, published, and the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lit_restore.evaluation.table import Cell, Column, Mark, Part, TableRow, decimals

Kind = Literal["ours", "published", "difference"]
NOTHING = "–"
MINUS = "−"


@dataclass(frozen=True)
class TextCell:
    """A number as text and its mark."""

    text: str
    mark: Mark | None = None


@dataclass(frozen=True)
class Line:
    """One line: the method's name in its first one, what the numbers are, one cell per column."""

    method: str
    kind: Kind
    is_first: bool
    cells: tuple[TextCell, ...]


def lines(part: Part) -> Iterator[Line]:
    """All lines of a part; a method without numbers of ours has only the published ones."""
    marks = {"ours": part.marks("ours"), "published": part.marks("published"), "difference": {}}
    for row in part.rows:
        for number, kind in enumerate(_kinds(row)):
            cells = tuple(
                TextCell(_text(row.cells[column.name], column, kind), marks[kind].get((row.name, column.name)))
                for column in part.columns
            )
            yield Line(row.name, kind, number == 0, cells)


def header(column: Column) -> str:
    """Name and direction, ``PSNR ↑``."""
    return f"{column.name} {'↑' if column.higher_is_better else '↓'}"


def missing(part: Part) -> list[tuple[str, str, str | None]]:
    """(rows, why there are no numbers of ours, what would give them), equal reasons together."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for row in part.rows:
        for reason in () if row.unmeasured is None else row.unmeasured.reasons:
            found.setdefault(reason, []).append(row.name)
    for column in part.columns:
        reasons = {row.cells[column.name].missing for row in part.rows if row.measured is not None} - {None}
        for reason in sorted(filter(None, reasons)):
            found.setdefault((reason, None), []).append(f"column {column.name}")
    return [(", ".join(names), reason, fill) for (reason, fill), names in found.items()]


def signed(value: float, digits: int) -> str:
    """With its sign; what rounds to nothing has none."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def _kinds(row: TableRow) -> list[Kind]:
    has_ours = any(cell.ours is not None for cell in row.cells.values())
    has_published = any(cell.published is not None for cell in row.cells.values())
    if has_ours and has_published:
        return ["ours", "published", "difference"]
    return ["published"] if has_published else ["ours"]


def _text(cell: Cell, column: Column, kind: Kind) -> str:
    digits = column.digits
    if kind == "published":
        published = cell.published  # with all digits of the paper, also where the column has fewer
        return NOTHING if published is None else f"{published:.{max(digits, decimals(published))}f}"
    if kind == "ours":
        ours = cell.ours
        if ours is None:
            return NOTHING
        if ours.low is None or ours.high is None:
            return f"{ours.mean:.{digits}f}"
        return f"{ours.mean:.{digits}f} [{ours.low:.{digits}f}, {ours.high:.{digits}f}]"
    if cell.difference is None:
        return NOTHING
    interval = cell.difference_interval
    between = "" if interval is None else f" [{', '.join(signed(end, digits) for end in interval)}]"
    return signed(cell.difference, digits) + between
