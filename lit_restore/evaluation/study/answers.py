"""Answer files: read, and held against key and schedule, so that nothing mixed up or edited is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError
from lit_restore.evaluation.study.key import Key
from lit_restore.evaluation.study.schedule import Shown, checksum, schedule

FORMAT = "lit_restore study answers 1"
DOWNLOAD_AGAIN = "Take the file as the page saved it."


@dataclass(frozen=True)
class Answer:
    """What a rater said about one look at a pair.

    Attributes:
        chosen: question -> picture.
        milliseconds: from the first sight to the last question.
    """

    shown: Shown
    chosen: dict[str, str]
    milliseconds: int


@dataclass(frozen=True)
class Rater:
    """One answer file; ``answers`` may end before the schedule of ``num_shown`` looks does."""

    name: str
    answers: tuple[Answer, ...]
    num_shown: int


def read_answers(paths: Sequence[str | Path], key: Key) -> list[Rater]:
    """All raters, in the order of their names.

    Args:
        paths: answer files, or folders with such files.

    Raises:
        UserError: a file is of another study, not as the page saved it, empty, or a rater is there twice.
    """
    raters: dict[str, tuple[Path, Rater]] = {}
    for path in _files(paths):
        rater = _read(path, key)
        if rater.name in raters:
            raise UserError("two answer files of one rater", where=path, found=f"also {raters[rater.name][0]}")
        raters[rater.name] = path, rater
    return [raters[name][1] for name in sorted(raters)]


def canonical(study: str, rater: str, answers: Sequence[dict[str, Any]], questions: Sequence[str]) -> str:
    """The text that the checksum is about; ``study.js`` makes the same one."""
    lines = [study, rater]
    for answer in answers:
        chosen = [answer["chosen"][question] for question in questions]
        lines.append(" ".join(map(str, [answer["trial"], answer["left"], answer["right"], *chosen, answer["ms"]])))
    return "\n".join(lines)


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise UserError("no answer files in the folder", where=path, expected="answers-*.json")
        files += found
    return files


def _read(path: Path, key: Key) -> Rater:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError("no such answer file", where=path) from None
    except ValueError:
        raise UserError("damaged answer file", where=path, fix=DOWNLOAD_AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError("not an answer file of a study", where=path, expected="answers-*.json as the page saved it")
    if content.get("study") != key.study:
        raise UserError(
            "answers of another study",
            where=path,
            expected=f"study {key.study}, as in the key",
            found=f"study {content.get('study')}",
            fix="Score each study with its own key.",
        )
    try:
        rater, answers = content["rater"], content["answers"]
        is_intact = content["checksum"] == checksum(canonical(key.study, rater, answers, key.questions))
        is_intact = is_intact and re.fullmatch("[0-9a-f]{16}", rater) is not None
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError):
        is_intact = False
    if not is_intact:
        raise UserError("the answer file was changed", where=path, found="another checksum", fix=DOWNLOAD_AGAIN)
    shown = schedule(key.study, rater, key.pairs, key.num_repeats)
    if not answers:
        raise UserError("the answer file holds no answer", where=path)
    if not _follows(answers, shown, key.questions):
        raise UserError(
            "the answer file was changed", where=path, found="answers to what was not asked", fix=DOWNLOAD_AGAIN
        )
    told = (Answer(look, dict(answer["chosen"]), answer["ms"]) for look, answer in zip(shown, answers, strict=False))
    return Rater(rater, tuple(told), len(shown))


def _follows(answers: Sequence[dict[str, Any]], shown: Sequence[Shown], questions: Sequence[str]) -> bool:
    """Whether the answers are those to the first looks, in order, one of two pictures for every question."""
    return len(answers) <= len(shown) and all(
        (answer["trial"], answer["left"], answer["right"]) == (look.trial, look.left, look.right)
        and set(answer["chosen"]) == set(questions)
        and {*answer["chosen"].values()} <= {look.left, look.right}
        and isinstance(answer["ms"], int)
        for answer, look in zip(answers, shown, strict=False)
    )
