"""Do raters agree with each other, and each with himself?

Krippendorff's alpha for nominal answers (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"), also right
where raters answered unequally many items: with n_uc answers c to item u, n_u = sum_c n_uc, n_c = sum_u n_uc,
n = sum_c n_c, items of one answer left out,

    alpha = 1 - (n - 1) sum_u [sum_{c<k} n_uc n_uk / (n_u - 1)] / sum_{c<k} n_c n_k

With equally many raters it is Fleiss' kappa but for the small-sample factor: 1 - alpha = (1 - kappa) (n - 1) / n.
1 = all agree, 0 = no more than chance. If nearly everybody prefers one method, chance alone agrees nearly always and
alpha is low whatever raters do, so the plain share of agreeing pairs of answers stands beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from lit_restore.evaluation.study.answers import Rater
from lit_restore.evaluation.study.preferences import Vote


@dataclass(frozen=True)
class Agreement:
    """Of all raters about one question.

    Attributes:
        agreeing: share of equal pairs of answers to one item; None = no item was answered twice.
        alpha: Krippendorff's; None also where all answers are equal.
    """

    question: str
    agreeing: float | None
    alpha: float | None


@dataclass(frozen=True)
class RaterReport:
    """One rater.

    Attributes:
        with_others: share of answers equal to the majority of the other raters; ties do not count.
        with_self: share of equal answers at the second look, sides swapped; a coin comes to a half.
        share_left: of the answers; far from a half = a rater with a favourite side.
        seconds: per pair, median.
    """

    rater: str
    num_answered: int
    num_shown: int
    with_others: float | None
    num_with_others: int
    with_self: float | None
    num_with_self: int
    share_left: float
    seconds: float


def agreements(given: Sequence[Vote], questions: Iterable[str]) -> list[Agreement]:
    """One entry per question; an answer is "the first method of the pair" or "the second"."""
    found = []
    for question in questions:
        items: dict[str, list[bool]] = defaultdict(list)
        for vote in given:
            if vote.question == question and not vote.is_repeat:
                items[vote.trial].append(vote.for_first)
        found.append(Agreement(question, agreeing_pairs(items.values()), krippendorff_alpha(items.values())))
    return found


def krippendorff_alpha(items: Iterable[Sequence[Any]]) -> float | None:
    """Alpha of nominal answers.

    Args:
        items: the answers to each item, of as many raters as there were.

    Returns:
        None if no item has two answers or all answers are equal.
    """
    counts = [Counter(answers) for answers in items if len(answers) > 1]
    totals = sum(counts, Counter())
    num = totals.total()
    expected = _unequal(totals)
    if not expected:
        return None
    observed = sum(_unequal(count) / (count.total() - 1) for count in counts)
    return 1 - (num - 1) * observed / expected


def agreeing_pairs(items: Iterable[Sequence[Any]]) -> float | None:
    """Of all pairs of answers to one item, the share that are equal; None if there is no pair."""
    counts = [Counter(answers) for answers in items]
    pairs = sum(count.total() * (count.total() - 1) // 2 for count in counts)
    return 1 - sum(map(_unequal, counts)) / pairs if pairs else None


def rater_reports(raters: Sequence[Rater], given: Sequence[Vote]) -> list[RaterReport]:
    """One entry per rater."""
    first: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    second: dict[str, list[Vote]] = defaultdict(list)
    for vote in given:
        if vote.is_repeat:
            second[vote.rater].append(vote)
        else:
            first[vote.trial, vote.question][vote.rater] = vote.for_first
    return [_report(rater, first, second[rater.name]) for rater in raters]


def _report(rater: Rater, first: Mapping[tuple[str, str], Mapping[str, bool]], second: Sequence[Vote]) -> RaterReport:
    equal_others = []
    for votes in first.values():
        if rater.name in votes:
            balance = sum(1 if vote else -1 for name, vote in votes.items() if name != rater.name)
            if balance:
                equal_others.append(votes[rater.name] == (balance > 0))
    equal_self = [vote.for_first == first[vote.trial, vote.question][rater.name] for vote in second]
    sides = [picture == answer.shown.left for answer in rater.answers for picture in answer.chosen.values()]
    return RaterReport(
        rater=rater.name,
        num_answered=len(rater.answers),
        num_shown=rater.num_shown,
        with_others=_share(equal_others),
        num_with_others=len(equal_others),
        with_self=_share(equal_self),
        num_with_self=len(equal_self),
        share_left=sum(sides) / len(sides),
        seconds=median(answer.milliseconds for answer in rater.answers) / 1000,
    )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _unequal(count: Counter[Any]) -> int:
    """Pairs of unequal answers."""
    return sum(one * other for one, other in combinations(count.values(), 2))
