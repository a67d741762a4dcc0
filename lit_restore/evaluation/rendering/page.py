"""Tables as one HTML page: numbers, warnings, notes, protocols, and pictures to compare and to zoom.

Style, program and pictures are inside; the page makes no request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path

from lit_restore.evaluation.rendering.lines import Line, TextCell, header, lines, missing
from lit_restore.evaluation.table import Part, Table, TableRow

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class ComparedPhoto:
    """One photo by several methods.

    Attributes:
        pictures: name -> ``data:`` address.
        main: which of them is shown first beside the first one.
    """

    caption: str
    pictures: Mapping[str, str]
    main: str


Pictures = Callable[[Part], Mapping[str, ComparedPhoto]]
"""Photos of a part by name; empty = nothing to see."""


def page(tables: Sequence[Table], pictures: Pictures) -> str:
    """The whole page."""
    title = tables[0].title if len(tables) == 1 else "lit_restore: ours beside published"
    links = "".join(f'<a href="#t-{escape(table.name)}">{escape(table.name)}</a>' for table in tables)
    body = "".join(_table(table, pictures, with_title=len(tables) > 1) for table in tables)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_file('page.css')}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="dim">Made by lit_restore, {date.today().isoformat()}. Best in bold, second best underlined, '
        "among ours and among the published numbers separately. In brackets: 95 % intervals, bootstrap over people.</p>"
        + (f"<nav>{links}</nav>" if len(tables) > 1 else "")
        + f"{body}<script>{_file('page.js')}</script></body></html>\n"
    )


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
        + _list("warnings", [*part.warnings, *(f"{row.name}: {w}" for row in part.rows for w in row.warnings)])
        + _list("remarks", [*map(_missing, missing(part)), *(f"Note: {note}" for note in part.notes)])
        + (_compare(photos) if photos else "")
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


def _list(kind: str, items: Iterable[str]) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="{kind}">{entries}</ul>' if entries else ""


def _protocol(row: TableRow) -> str:
    if row.measured is None:
        return ""
    content = {"timing": row.measured.summary.timing and vars(row.measured.summary.timing)}
    text = json.dumps(row.measured.summary.protocol | content, indent=1, ensure_ascii=False)
    return f"<details><summary>Protocol: {escape(row.name)}</summary><pre>{escape(text)}</pre></details>"


def _compare(photos: Mapping[str, ComparedPhoto]) -> str:
    values = {
        name: {"caption": photo.caption, "pictures": dict(photo.pictures), "main": photo.main}
        for name, photo in photos.items()
    }
    data = json.dumps(values).replace("</", "<\\/")  # or a text could end the script
    selects = "".join(f'<label>{name} <select name="{name}"></select></label>' for name in ("photo", "left", "right"))
    return (
        f'<div class="compare"><script type="application/json">{data}</script><div class="controls">{selects}'
        '<button name="in" aria-label="zoom in">+</button><button name="out" aria-label="zoom out">−</button></div>'
        '<div><div class="stage"><img alt="right picture"><img alt="left picture"><div class="line"></div>'
        '<span class="left"></span><span class="right"></span></div>'
        '<input type="range" min="0" max="100" value="50" step="0.1" aria-label="border between the pictures"></div>'
        '<div class="strip"></div><p class="about dim"></p></div>'
    )


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
