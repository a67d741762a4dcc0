"""Tables as LaTeX with booktabs: best bold, second underlined; to be put into a document with \\input."""

from __future__ import annotations

from collections.abc import Iterator

from lit_restore.evaluation.rendering.lines import Line, TextCell, lines
from lit_restore.evaluation.table import Column, Part, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "−": "$-$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def latex(table: Table) -> str:
    """One ``table`` environment per part; warnings and notes as comments."""
    head = f"% {table.title}\n% \\usepackage{{booktabs}}\n"
    return head + "\n".join("\n".join(_part(part)) + "\n" for part in table.parts)


def _part(part: Part) -> Iterator[str]:
    for warning in (*part.warnings, *(f"{row.name}: {w}" for row in part.rows for w in row.warnings)):
        yield f"% warning: {warning}"
    for note in part.notes:
        yield f"% note: {' '.join(note.split())}"
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{escape(part.caption)}. {escape(_about(part))}}}"
    yield rf"\begin{{tabular}}{{ll{'r' * len(part.columns)}}}"
    yield r"\toprule"
    yield " & ".join(["Method", "", *map(_header, part.columns)]) + r" \\"
    yield r"\midrule"
    for number, line in enumerate(lines(part)):
        if line.is_first and number:
            yield r"\addlinespace"
        yield _line(line)
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


def _about(part: Part) -> str:
    ours = f"Ours on {part.measured_on}; in brackets {part.intervals}." if part.measured_on else ""
    return f"{ours} Published: {part.dataset}.".strip() if part.paper else ours


def _header(column: Column) -> str:
    arrow = r"$\uparrow$" if column.higher_is_better else r"$\downarrow$"
    return f"{escape(column.name)} {arrow}"


def _line(line: Line) -> str:
    return " & ".join([escape(line.method) if line.is_first else "", line.kind, *map(_cell, line.cells)]) + r" \\"


def _cell(cell: TextCell) -> str:
    text = escape(cell.text)
    number, bracket, interval = text.partition(" [")
    marked = {"best": rf"\textbf{{{number}}}", "second": rf"\underline{{{number}}}", None: number}[cell.mark]
    return marked + bracket + interval


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)
