"""How often one method is preferred to another, and how sure that is.

Two intervals, since answers may be unlike in two ways:

- Wilson's (1927), as if every answer were independent:  (p + z²/2n ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n);
- the bootstrap over raters (`lit_restore.evaluation.bootstrap`), since the answers of one rater resemble each other.
  Where all raters have one share it has nothing to draw from and is left out.

Second looks at a pair do not count here; they are for `lit_restore.evaluation.study.agreement`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lit_restore.evaluation.bootstrap import LEVEL, estimate
from lit_restore.evaluation.study.answers import Answer, Rater
from lit_restore.evaluation.study.key import Key

Interval = tuple[float, float]


@dataclass(frozen=True)
class Vote:
    """One answer to one question about one pair.

    Attributes:
        pair: the methods, in the order of the key.
        for_first: whether the first of them was chosen.
    """

    rater: str
    trial: str
    question: str
    pair: tuple[str, str]
    for_first: bool
    is_repeat: bool


@dataclass(frozen=True)
class Preference:
    """Share of the answers that prefer ``method`` to ``other``, 0 to 1.

    Attributes:
        over_raters: None with one rater, or where all have the same share.
    """

    question: str
    method: str
    other: str
    share: float
    wilson: Interval
    over_raters: Interval | None
    num_answers: int
    num_raters: int
    num_photos: int
    num_people: int


def votes(raters: Sequence[Rater], key: Key) -> list[Vote]:
    """All answers with the methods' names."""
    return [vote for rater in raters for answer in rater.answers for vote in _votes(rater.name, answer, key)]


def preferences(given: Sequence[Vote], key: Key, *, seed: int = 0) -> list[Preference]:
    """One entry per question and pair of methods that was asked about, in the order of the key.

    Args:
        seed: of the bootstrap.
    """
    found = []
    pairs = {tuple(trial.pictures) for trial in key.trials.values()}
    order = {method: number for number, method in enumerate(key.methods)}
    for question in key.questions:
        for pair in sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]])):
            chosen = [v for v in given if (v.question, v.pair, v.is_repeat) == (question, pair, False)]
            if chosen:
                found.append(_preference(question, pair, chosen, key, seed))
    return found


def wilson(successes: int, num: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share; ``num`` is at least 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / num
    middle, spread = share + z * z / (2 * num), z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _votes(rater: str, answer: Answer, key: Key) -> list[Vote]:
    trial = key.trials[answer.shown.trial]
    first, second = trial.pictures
    shown = answer.shown
    return [
        Vote(rater, shown.trial, question, (first, second), picture == trial.pictures[first], shown.is_repeat)
        for question, picture in answer.chosen.items()
    ]


def _preference(question: str, pair: tuple[str, str], chosen: Sequence[Vote], key: Key, seed: int) -> Preference:
    values, raters = [float(vote.for_first) for vote in chosen], [vote.rater for vote in chosen]
    known = estimate(values, raters, seed=seed)
    trials = {key.trials[vote.trial].photo: key.trials[vote.trial].identity for vote in chosen}
    is_drawn = known.low is not None and known.low < known.high
    return Preference(
        question=question,
        method=pair[0],
        other=pair[1],
        share=known.mean,
        wilson=wilson(sum(vote.for_first for vote in chosen), len(chosen)),
        over_raters=(known.low, known.high) if is_drawn else None,
        num_answers=len(chosen),
        num_raters=known.num_groups,
        num_photos=len(trials),
        num_people=len(set(trials.values())),
    )
