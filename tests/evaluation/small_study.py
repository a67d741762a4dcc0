"""Methods of a small study, and answer files as the page would save them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lit_restore.evaluation.study.answers import FORMAT, canonical
from lit_restore.evaluation.study.key import Key
from lit_restore.evaluation.study.schedule import Shown, checksum, schedule

METHODS = ("Ours", "GFPGAN", "DiffBIR")

Choose = Callable[[Key, Shown, str], str]
"""(key, look, question) -> the method that is chosen."""


def answer_file(key: Key, rater: str, choose: Choose, path: Path, num: int | None = None) -> Path:
    """What the page saves for a rater who chooses so; only the first ``num`` looks."""
    answers = []
    for shown in schedule(key.study, rater, key.pairs, key.num_repeats)[:num]:
        pictures = key.trials[shown.trial].pictures
        chosen = {question: pictures[choose(key, shown, question)] for question in key.questions}
        answers.append({"trial": shown.trial, "left": shown.left, "right": shown.right, "chosen": chosen, "ms": 1500})
    content = {"format": FORMAT, "study": key.study, "rater": rater, "answers": answers}
    content["checksum"] = checksum(canonical(key.study, rater, answers, key.questions))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path
