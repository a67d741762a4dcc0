"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lit_restore.evaluation.rendering.lines import header, lines, missing
from lit_restore.evaluation.table import Part, Table

STYLES = {"best": "bold green", "second": "underline", None: ""}


def show(table: Table, console: Console) -> None:
    """Print a table with what has to be said about it."""
    console.rule(Text(table.title, style="bold"))
    for part in table.parts:
        _show_part(part, console)
        for sentence, style in _sentences(part):
            console.print(Text(sentence, style=style))  # as it stands: lit_restore[baselines] is no markup
        console.print()


def _show_part(part: Part, console: Console) -> None:
    shown = RichTable(title=Text(part.caption, style="bold"), title_justify="left")
    shown.add_column("")
    shown.add_column("")
    for column in part.columns:
        shown.add_column(Text(header(column)), justify="right")
    for line in lines(part):
        style = "" if line.kind == "ours" else "dim"
        cells = [Text(cell.text, style=f"{style} {STYLES[cell.mark]}".strip()) for cell in line.cells]
        shown.add_row(Text(line.method if line.is_first else ""), Text(line.kind, style=style), *cells)
    console.print(shown)


def _sentences(part: Part) -> Iterator[tuple[str, str]]:
    """What is said below a table, with its style."""
    if part.measured_on:
        yield f"ours: {part.measured_on}; in brackets {part.intervals}", "dim"
    if part.paper:
        yield f"published: {part.paper}, table {part.published_id}, {part.dataset}", "dim"
    for warning in part.warnings:
        yield f"warning: {warning}", "yellow"
    for row in part.rows:
        for warning in row.warnings:
            yield f"warning: {row.name}: {warning}", "yellow"
    for names, reason, fill in missing(part):
        yield f"missing: {names}: {reason}" + (f" -> {fill}" if fill else ""), "dim"
    for note in part.notes:
        yield f"note: {note}", "dim"
