"""The page that raters open: pictures, program and style in one file, without a name of method or photo."""

from __future__ import annotations

import json
from pathlib import Path

from lit_restore.evaluation.study.answers import FORMAT
from lit_restore.evaluation.study.make import QUESTIONS, Study

HERE = Path(__file__).resolve().parent


def page(study: Study) -> str:
    """The whole page; it makes no request."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Which picture?</title><style>{_file('study.css')}</style></head><body>{_file('study.html')}"
        f'<script type="application/json" id="study">{json.dumps(_content(study))}</script>'
        f"<script>{_file('study.js')}</script></body></html>\n"
    )


def _content(study: Study) -> dict:
    """What the page needs; sorted by the names that mean nothing, since an order could mean something."""
    pairs = study.key.pairs
    return {
        "format": FORMAT,
        "study": study.key.study,
        "repeats": study.key.num_repeats,
        "questions": [{"name": name, "text": QUESTIONS[name]} for name in study.key.questions],
        "trials": {
            trial: {
                "pictures": pairs[trial],
                "degraded": study.scenes[trial].degraded,
                "references": study.scenes[trial].references,
            }
            for trial in sorted(pairs)
        },
        "pictures": dict(sorted(study.pictures.items())),
    }


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
