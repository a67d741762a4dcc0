"""Raters whose choices are known -> the numbers they must come to."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_study import answer_file

from lit_restore.evaluation.bootstrap import estimate
from lit_restore.evaluation.study.answers import read_answers
from lit_restore.evaluation.study.key import Key
from lit_restore.evaluation.study.make import Study
from lit_restore.evaluation.study.preferences import wilson
from lit_restore.evaluation.study.report import Score, score, show, write
from lit_restore.evaluation.study.schedule import Shown, schedule

RATERS = [f"{number:016x}" for number in range(4)]


def by_rank(key: Key, shown: Shown, question: str) -> str:
    """Ours before GFPGAN before DiffBIR."""
    return next(iter(key.trials[shown.trial].pictures))


def against_rank(key: Key, shown: Shown, question: str) -> str:
    return list(key.trials[shown.trial].pictures)[1]


def always_left(key: Key, shown: Shown, question: str) -> str:
    return next(method for method, picture in key.trials[shown.trial].pictures.items() if picture == shown.left)


def by_question(key: Key, shown: Shown, question: str) -> str:
    return (by_rank if question == "identity" else against_rank)(key, shown, question)


@pytest.fixture
def result(study: Study, tmp_path: Path) -> Score:
    choices = [by_rank, by_rank, by_question, always_left]
    paths = [
        answer_file(study.key, name, choose, tmp_path / f"{name}.json")
        for name, choose in zip(RATERS, choices, strict=True)
    ]
    return score(read_answers(paths[::-1], study.key), study.key)


def test_wilson_interval() -> None:
    """Closed form at the ends: 0 of n goes up to z²/(n + z²); and the textbook value of 81 of 263."""
    z = 1.959963984540054
    assert wilson(0, 10) == pytest.approx((0, z * z / (10 + z * z)))
    assert wilson(10, 10) == pytest.approx((10 / (10 + z * z), 1))
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I, method 3


def test_shares_count_first_looks_only(result: Score, study: Study) -> None:
    found = {(p.question, p.method, p.other): p for p in result.preferences}
    pairs = [("Ours", "GFPGAN"), ("Ours", "DiffBIR"), ("GFPGAN", "DiffBIR")]
    assert list(found) == [(question, *pair) for question in ("identity", "quality") for pair in pairs]
    key = study.key
    looks = read_looks(key, RATERS[3])
    for (question, *pair), known in found.items():
        lefts = [
            float(next(m for m, p in key.trials[look.trial].pictures.items() if p == look.left) == pair[0])
            for look in looks
            if tuple(key.trials[look.trial].pictures) == tuple(pair) and not look.is_repeat
        ]
        third = 1.0 if question == "identity" else 0.0
        values = [1.0] * 16 + [third] * 8 + lefts
        assert known.share == pytest.approx(sum(values) / 32)
        assert (known.num_answers, known.num_raters, known.num_photos, known.num_people) == (32, 4, 8, 3)
        assert known.wilson == pytest.approx(wilson(int(sum(values)), 32))
        expected = estimate(values, [name for name in RATERS for _ in range(8)])
        assert known.over_raters == pytest.approx((expected.low, expected.high))


def read_looks(key: Key, rater: str) -> list[Shown]:
    return schedule(key.study, rater, key.pairs, key.num_repeats)


def test_raters_who_agree_leave_the_bootstrap_nothing_to_draw(study: Study, tmp_path: Path) -> None:
    paths = [answer_file(study.key, name, by_rank, tmp_path / f"{name}.json") for name in RATERS[:2]]
    result = score(read_answers(paths, study.key), study.key)
    assert {(p.share, p.over_raters) for p in result.preferences} == {(1.0, None)}
    assert {p.wilson for p in result.preferences} == {wilson(16, 16)}
    assert [(a.agreeing, a.alpha) for a in result.agreements] == [(1.0, None)] * 2


def test_raters_agree_with_others_and_with_themselves(result: Score, study: Study) -> None:
    """Who goes by the picture chooses it again on the other side; who goes by the side never does."""
    first, second, third, fourth = result.raters
    assert study.key.num_repeats == 2
    assert [r.with_self for r in result.raters] == [1.0, 1.0, 1.0, 0.0]
    assert [r.num_with_self for r in result.raters] == [4] * 4
    assert fourth.share_left == 1.0
    assert 0.2 < first.share_left < 0.8
    assert (third.with_others, third.num_with_others) == (0.5, 48)
    assert first.num_answered == first.num_shown == 26
    assert second.seconds == 1.5
    # Fleiss by hand for identity: three raters agree on all 24 items, the fourth on those where Ours-before... is left.
    identity = result.agreements[0]
    agreeing = sum(1 if look.left == first_picture(study.key, look) else 0.5 for look in looks_once(study.key)) / 24
    assert identity.agreeing == pytest.approx(agreeing)


def looks_once(key: Key) -> list[Shown]:
    return [look for look in read_looks(key, RATERS[3]) if not look.is_repeat]


def first_picture(key: Key, look: Shown) -> str:
    return next(iter(key.trials[look.trial].pictures.values()))


def test_part_of_the_answers_counts(study: Study, tmp_path: Path) -> None:
    path = answer_file(study.key, RATERS[0], by_rank, tmp_path / "part.json", num=5)
    result = score(read_answers([path], study.key), study.key)
    assert sum(p.num_answers for p in result.preferences) == 5 * 2
    [rater] = result.raters
    assert (rater.num_answered, rater.num_shown, rater.with_others, rater.with_self) == (5, 26, None, None)
    assert {p.over_raters for p in result.preferences} == {None}


def test_what_is_written_can_be_read(result: Score, tmp_path: Path) -> None:
    write(result, tmp_path / "score")
    rows = list(csv.DictReader((tmp_path / "score" / "preferences.csv").open()))
    assert [float(row["share"]) for row in rows] == [p.share for p in result.preferences]
    assert float(rows[0]["wilson_low"]) == result.preferences[0].wilson[0]
    assert [row["rater"] for row in csv.DictReader((tmp_path / "score" / "raters.csv").open())] == RATERS
    content = json.loads((tmp_path / "score" / "score.json").read_text())
    assert content["preferences"][0]["share"] == result.preferences[0].share
    text = (tmp_path / "score" / "score.md").read_text()
    assert "## Preferences: identity" in text
    assert f"| Ours | GFPGAN | {100 * result.preferences[0].share:.1f} % |" in text
    console = Console(file=io.StringIO(), width=200)
    show(result, console)
    assert f"{100 * result.preferences[0].share:.1f} %" in console.file.getvalue()
