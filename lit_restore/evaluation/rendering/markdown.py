"""Tables as Markdown: best bold, second underlined."""

from __future__ import annotations

from collections.abc import Iterator

from lit_restore.evaluation.rendering.lines import Line, TextCell, header, lines, missing
from lit_restore.evaluation.table import Part, Table


def markdown(table: Table) -> str:
    """The whole table as a page."""
    body = "\n\n".join("\n".join(_part(part)) for part in table.parts)
    return f"# {table.title}\n\n{body}\n"


def _part(part: Part) -> Iterator[str]:
    yield f"## {part.caption}\n"
    yield "| method | | " + " | ".join(_escape(header(column)) for column in part.columns) + " |"
    yield "|---|---|" + "---:|" * len(part.columns)
    yield from map(_line, lines(part))
    yield ""
    if part.measured_on:
        yield f"Ours: {part.measured_on}; in brackets {part.intervals}.  "
    if part.paper:
        yield f"Published: {part.paper}, table {part.published_id}, {part.dataset}."
    remarks = [f"**Warning:** {warning}" for warning in part.warnings]
    remarks += [f"**Warning:** {row.name}: {warning}" for row in part.rows for warning in row.warnings]
    for names, reason, fill in missing(part):
        remarks.append(f"Missing: {names}: {reason}" + (f"; `{fill}`" if fill else ""))
    remarks += [f"Note: {note}" for note in part.notes]
    if remarks:
        yield ""
        yield from (f"- {_escape(remark)}" for remark in remarks)


def _line(line: Line) -> str:
    method = _escape(line.method) if line.is_first else ""
    return f"| {method} | {line.kind} | " + " | ".join(map(_cell, line.cells)) + " |"


def _cell(cell: TextCell) -> str:
    number, bracket, interval = _escape(cell.text).partition(" [")
    marked = {"best": f"**{number}**", "second": f"<u>{number}</u>", None: number}[cell.mark]
    return marked + bracket + interval


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
