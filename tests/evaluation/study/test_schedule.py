from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter

import pytest

from lit_restore.evaluation.study import page
from lit_restore.evaluation.study.schedule import checksum, fnv1a, schedule, scramble

TRIALS = {f"{number:012x}": (f"{number:x}a", f"{number:x}b") for number in range(20)}
RATERS = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(200)]


@pytest.mark.parametrize(("text", "value"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_fnv1a_gives_its_published_test_vectors(text: str, value: int) -> None:
    assert fnv1a(text) == value


def test_every_trial_comes_once_and_repeats_come_late_with_sides_swapped() -> None:
    for num_repeats in (0, 1, 3, 10):
        looks = schedule("study", RATERS[1], TRIALS, num_repeats)
        first = {look.trial: (number, look) for number, look in enumerate(looks) if not look.is_repeat}
        assert set(first) == set(TRIALS)
        assert len(looks) == 20 + num_repeats
        repeats = [(number, look) for number, look in enumerate(looks) if look.is_repeat]
        assert len({look.trial for _, look in repeats}) == num_repeats
        for number, look in repeats:
            before, original = first[look.trial]
            assert number - before > 10
            assert (look.left, look.right) == (original.right, original.left)
        assert all({look.left, look.right} == set(TRIALS[look.trial]) for look in looks)


def test_a_study_of_few_trials() -> None:
    few = dict(list(TRIALS.items())[:3])
    assert [look.is_repeat for look in schedule("s", "r", few, 1)] == [False, False, False, True]
    assert len(schedule("s", "r", dict(list(TRIALS.items())[:1]), 0)) == 1


def test_order_and_sides_are_even_over_raters() -> None:
    """200 raters: a pair is on its left side 100 times, give or take four standard deviations of a coin; places too."""
    left, place = Counter(), Counter()
    for rater in RATERS:
        for number, look in enumerate(schedule("study", rater, TRIALS, 0)):
            left[look.trial] += look.left == TRIALS[look.trial][0]
            place[look.trial] += number
    assert all(abs(left[trial] - 100) < 4 * 50**0.5 for trial in TRIALS)
    deviation = ((20**2 - 1) / 12 / 200) ** 0.5  # of the mean of 200 places, each uniform in 0..19
    assert all(abs(place[trial] / 200 - 9.5) < 4 * deviation for trial in TRIALS)
    assert schedule("study", RATERS[0], TRIALS, 2) == schedule("study", RATERS[0], TRIALS, 2)
    assert schedule("study", RATERS[0], TRIALS, 2) != schedule("other", RATERS[0], TRIALS, 2)


def test_the_checksum_follows_every_character() -> None:
    text = "0123456789abcdef\n" * 3
    sums = {checksum(text[:at] + "x" + text[at + 1 :]) for at in range(len(text))}
    assert len(sums) == len(text)
    assert all(len(value) == 32 for value in sums)
    assert checksum("") == "".join(f"{scramble(f'{number}:'):08x}" for number in range(4))


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not there to run the page's program")
def test_the_page_has_the_same_schedule_and_checksum() -> None:
    program = (page.HERE / "study.js").read_text().replace("run(JSON.parse(", "void ((", 1)
    program = program[: program.index("void ((")]
    study = {"study": "abc", "trials": {name: {"pictures": pair} for name, pair in TRIALS.items()}, "repeats": 3}
    program += f"const study = {json.dumps(study)}, raters = {json.dumps(RATERS[:20])};"
    program += "console.log(JSON.stringify([raters.map((rater) => schedule(study, rater)), checksum('some text\\n1')]))"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, timeout=60, check=True)
    found, summed = json.loads(done.stdout)
    for rater, looks in zip(RATERS, found, strict=False):
        expected = schedule("abc", rater, TRIALS, 3)
        assert looks == [{"trial": look.trial, "left": look.left, "right": look.right} for look in expected]
    assert summed == checksum("some text\n1")
