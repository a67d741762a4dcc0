"""Tables for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lit_restore.evaluation.rendering.lines import header, lines, missing
from lit_restore.evaluation.table import Part, Table

STYLES = {"best": "bold green", "second": "underline", None: ""}


def show(table: Table, console: Console) -> None:
    """Print a table with what has to be said about it."""
    console.rule(f"[bold]{table.title}")
    for part in table.parts:
        _show_part(part, console)


def _show_part(part: Part, console: Console) -> None:
    shown = RichTable(title=part.caption, title_style="bold", title_justify="left")
    shown.add_column("")
    shown.add_column("")
    for column in part.columns:
        shown.add_column(header(column), justify="right")
    for line in lines(part):
        style = "" if line.kind == "ours" else "dim"
        cells = [Text(cell.text, style=f"{style} {STYLES[cell.mark]}".strip()) for cell in line.cells]
        shown.add_row(line.method if line.is_first else "", Text(line.kind, style=style), *cells)
    console.print(shown)
    if part.measured_on:
        console.print(f"ours: {part.measured_on}; in brackets {part.intervals}", style="dim")
    if part.paper:
        console.print(f"published: {part.paper}, table {part.published_id}, {part.dataset}", style="dim")
    for warning in part.warnings:
        console.print(f"warning: {warning}", style="yellow")
    for row in part.rows:
        for warning in row.warnings:
            console.print(f"warning: {row.name}: {warning}", style="yellow")
    for names, reason, fill in missing(part):
        console.print(f"missing: {names}: {reason}" + (f" -> {fill}" if fill else ""), style="dim")
    for note in part.notes:
        console.print(f"note: {note}", style="dim")
    console.print()
