"""Tables as one HTML page: numbers, warnings, notes, protocols, and pictures to compare and to zoom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from html import escape

from lit_restore.evaluation.rendering.lines import Line, TextCell, header, lines, missing
from lit_restore.evaluation.table import Part, Table, TableRow
from lit_restore.pages.document import ComparedPhoto, bullets, comparison, document

Pictures = Callable[[Part], Mapping[str, ComparedPhoto]]
"""Photos of a part by name; empty = nothing to see."""


def page(tables: Sequence[Table], pictures: Pictures) -> str:
    """The whole page."""
    title = tables[0].title if len(tables) == 1 else "lit_restore: ours beside published"
    links = "".join(f'<a href="#t-{escape(table.name)}">{escape(table.name)}</a>' for table in tables)
    body = "".join(_table(table, pictures, with_title=len(tables) > 1) for table in tables)
    said = (
        f"<h1>{escape(title)}</h1>"
        f'<p class="dim">Made by lit_restore, {date.today().isoformat()}. Best in bold, second best underlined, '
        "among ours and among the published numbers separately. In brackets: 95 % intervals, bootstrap over people.</p>"
        + (f"<nav>{links}</nav>" if len(tables) > 1 else "")
        + body
    )
    return document(title, said)


def _table(table: Table, pictures: Pictures, *, with_title: bool) -> str:
    parts = "".join(_part(part, pictures(part)) for part in table.parts)
    title = f"<h2>{escape(table.title)}</h2>" if with_title else ""
    return f'<section id="t-{escape(table.name)}">{title}{parts}</section>'


def _part(part: Part, photos: Mapping[str, ComparedPhoto]) -> str:
    heads = "".join(f"<th>{escape(header(column))}</th>" for column in part.columns)
    body = "".join(map(_line, lines(part)))
    link = (
        f' (<a href="https://arxiv.org/abs/{escape(part.arxiv)}">arXiv {escape(part.arxiv)}</a>)' if part.arxiv else ""
    )
    measured = f"Ours: {escape(part.measured_on)}. " if part.measured_on else ""
    return (
        f"<h3>{escape(part.caption)}</h3>"
        f'<div class="scroll"><table><thead><tr><th></th><th></th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f'<p class="dim">{measured}Published: {escape(part.paper)}{link}, table {escape(part.published_id)}, '
        f"{escape(part.dataset)}.</p>"
        + bullets("warnings", [*part.warnings, *(f"{row.name}: {w}" for row in part.rows for w in row.warnings)])
        + bullets("remarks", [*map(_missing, missing(part)), *(f"Note: {note}" for note in part.notes)])
        + (comparison(photos) if photos else "")
        + "".join(_protocol(row) for row in part.rows)
    )


def _line(line: Line) -> str:
    first = " first" if line.is_first else ""
    method = escape(line.method) if line.is_first else ""
    return (
        f'<tr class="{line.kind}{first}"><th scope="row">{method}</th><td class="kind">{line.kind}</td>'
        + "".join(map(_cell, line.cells))
        + "</tr>"
    )


def _cell(cell: TextCell) -> str:
    number, bracket, interval = cell.text.partition(" [")
    marked = {"best": f"<b>{escape(number)}</b>", "second": f"<u>{escape(number)}</u>", None: escape(number)}[cell.mark]
    small = f" <small>[{escape(interval)}</small>" if bracket else ""
    return f'<td class="{cell.mark or ""}">{marked}{small}</td>'


def _missing(item: tuple[str, str, str | None]) -> str:
    names, reason, fill = item
    return f"Missing: {names}: {reason}" + (f" → {fill}" if fill else "")


def _protocol(row: TableRow) -> str:
    if row.measured is None:
        return ""
    content = {"timing": row.measured.summary.timing and vars(row.measured.summary.timing)}
    text = json.dumps(row.measured.summary.protocol | content, indent=1, ensure_ascii=False)
    return f"<details><summary>Protocol: {escape(row.name)}</summary><pre>{escape(text)}</pre></details>"
