from __future__ import annotations

import pytest

from lit_restore.evaluation.study.agreement import agreeing_pairs, krippendorff_alpha

# Krippendorff (2011), examples A (two observers, binary) and C (four observers, five categories, gaps).
BINARY = ["0100000010", "1110010000"]
NOMINAL = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
# Fleiss (1971) in the form that textbooks print: 14 raters put 10 subjects into 5 categories; kappa = 0.210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def items(raters: list[str]) -> list[list[str]]:
    return [[answer for answer in column if answer != "."] for column in zip(*raters, strict=True)]


@pytest.mark.parametrize(("raters", "alpha"), [(BINARY, 0.095), (NOMINAL, 0.743)])
def test_alpha_gives_krippendorffs_own_examples(raters: list[str], alpha: float) -> None:
    assert krippendorff_alpha(items(raters)) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_fleiss_kappa_but_for_the_small_sample() -> None:
    num, raters = len(FLEISS), 14
    agreement = sum(sum(n * (n - 1) for n in row) / (raters * (raters - 1)) for row in FLEISS) / num
    chance = sum((sum(column) / (num * raters)) ** 2 for column in zip(*FLEISS, strict=True))
    kappa = (agreement - chance) / (1 - chance)
    assert kappa == pytest.approx(0.210, abs=5e-4)
    answers = [[category for category, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    total = num * raters
    assert 1 - krippendorff_alpha(answers) == pytest.approx((1 - kappa) * (total - 1) / total, rel=1e-12)
    assert agreeing_pairs(answers) == pytest.approx(agreement, rel=1e-12)


def test_full_agreement_and_nothing_to_compare() -> None:
    assert krippendorff_alpha([[1, 1], [0, 0]]) == 1
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert krippendorff_alpha([[1], [0]]) is None
    assert agreeing_pairs([[1], [0]]) is None
    assert krippendorff_alpha([[1, 0], [0, 1]]) == pytest.approx(1 - 3 * 2 / 4)
