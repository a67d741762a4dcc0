"""A scored study for the terminal, as Markdown, as CSV, and as JSON for ``lit_restore tables --study``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lit_restore.evaluation.protocol import plain
from lit_restore.evaluation.study.agreement import Agreement, RaterReport, agreements, rater_reports
from lit_restore.evaluation.study.answers import Rater
from lit_restore.evaluation.study.key import Key
from lit_restore.evaluation.study.preferences import Interval, Preference, preferences, votes
from lit_restore.image import atomic_path

FORMAT = "lit_restore study score 1"
SCORE_NAME = "score.json"
NOTHING = "–"
INTERVALS = (
    "Share of answers that prefer the method to the other, with 95 % intervals: bootstrap over raters; Wilson's, as "
    "if answers were independent."
)


@dataclass(frozen=True)
class Score:
    """Everything that is said about a study."""

    study: str
    preferences: tuple[Preference, ...]
    agreements: tuple[Agreement, ...]
    raters: tuple[RaterReport, ...]
    protocol: dict[str, Any]


def score(raters: Sequence[Rater], key: Key) -> Score:
    """Count."""
    given = votes(raters, key)
    return Score(
        study=key.study,
        preferences=tuple(preferences(given, key)),
        agreements=tuple(agreements(given, key.questions)),
        raters=tuple(rater_reports(raters, given)),
        protocol=dict(key.protocol),
    )


def show(result: Score, console: Console) -> None:
    """Print all tables."""
    for title, rows in _tables(result):
        table = Table(title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD)
        for number, head in enumerate(rows[0]):
            is_text = not number or head == "other"
            table.add_column(head, justify="left" if is_text else "right", overflow="fold")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    console.print(INTERVALS, style="dim")


def write(result: Score, folder: Path) -> None:
    """Write ``score.md``, ``preferences.csv``, ``raters.csv`` and ``score.json``."""
    files = {
        "score.md": _markdown(result),
        "preferences.csv": _csv([_flat(preference) for preference in result.preferences]),
        "raters.csv": _csv([asdict(rater) for rater in result.raters]),
        SCORE_NAME: json.dumps(plain({"format": FORMAT, **asdict(result)}), indent=1, ensure_ascii=False) + "\n",
    }
    for name, text in files.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")


def _tables(result: Score) -> Iterator[tuple[str, list[list[str]]]]:
    """(title, rows), the heads first."""
    heads = ["method", "other", "preferred", "over raters", "Wilson", "answers", "raters", "photos"]
    for question in dict.fromkeys(known.question for known in result.preferences):
        known = [_preference(one) for one in result.preferences if one.question == question]
        yield f"Preferences: {question}", [heads, *known]
    heads = ["question", "equal pairs of answers", "Krippendorff's alpha"]
    yield "Agreement of raters", [heads, *map(_agreement, result.agreements)]
    heads = ["rater", "pairs", "as the majority of others", "as before, sides swapped", "left side", "seconds a pair"]
    yield "Raters", [heads, *map(_rater, result.raters)]


def _preference(known: Preference) -> list[str]:
    intervals = _interval(known.over_raters), _interval(known.wilson)
    numbers = map(str, (known.num_answers, known.num_raters, known.num_photos))
    return [known.method, known.other, _percent(known.share), *intervals, *numbers]


def _agreement(known: Agreement) -> list[str]:
    alpha = NOTHING if known.alpha is None else f"{known.alpha:.2f}"
    return [known.question, _percent(known.agreeing), alpha]


def _rater(known: RaterReport) -> list[str]:
    return [
        known.rater,
        f"{known.num_answered} of {known.num_shown}",
        _counted(known.with_others, known.num_with_others),
        _counted(known.with_self, known.num_with_self),
        _percent(known.share_left),
        f"{known.seconds:.1f}",
    ]


def _markdown(result: Score) -> str:
    lines = [f"# User study {result.study}", "", INTERVALS]
    for title, (heads, *rows) in _tables(result):
        lines += ["", f"## {title}", "", _row(heads), "|" + "---|" * len(heads), *map(_row, rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(preference: Preference) -> dict[str, Any]:
    values = asdict(preference)
    for name in ("wilson", "over_raters"):
        values[f"{name}_low"], values[f"{name}_high"] = values.pop(name) or (None, None)
    return values


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f} %"


def _interval(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f} %"


def _counted(share: float | None, num: int) -> str:
    return NOTHING if share is None else f"{_percent(share)} of {num}"
