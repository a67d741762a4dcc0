"""How sure is a mean over trainings and photos? The bootstrap over seeds and people (Owen 2007: pigeonhole bootstrap).

A study trains S times with other seeds and tests each training on the same photos of K people. Another study would have
other seeds and other people, so both are drawn, independently and with replacement, and

    mean_b = sum_s sum_k w_bs c_bk S_sk / sum_s sum_k w_bs c_bk n_sk,
    (w_b1 .. w_bS) ~ Multinomial(S; 1/S ... 1/S),    (c_b1 .. c_bK) ~ Multinomial(K; 1/K ... 1/K),

where S_sk is the sum and n_sk the number of the values of training s on person k. The interval runs from the 2.5 % to
the 97.5 % quantile of the means. Two variants are compared photo by photo and seed by seed: the same with differences,
in which everything that both have in common is gone.

Few seeds give too narrow intervals: the spread of a mean over 3 comes out too small by a factor of sqrt(2/3), over 5 by
sqrt(4/5).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lit_restore.evaluation.bootstrap import LEVEL, NUM_DRAWS, Estimate

Values = Mapping[int, Mapping[tuple[str, str], float]]
"""Seed -> (person, photo) -> value."""


def estimate(values: Values, *, seed: int = 0, num_draws: int = NUM_DRAWS, level: float = LEVEL) -> Estimate | None:
    """Mean over all trainings and photos, with its interval.

    Args:
        values: NaN does not count.
        seed: the same seed gives the same interval.

    Returns:
        None if there is no value; without an interval if there is a single seed and a single person.
    """
    known = {s: {key: v for key, v in one.items() if not np.isnan(v)} for s, one in values.items()}
    seeds = [s for s, one in known.items() if one]
    people = sorted({person for one in known.values() for person, _ in one})
    if not seeds:
        return None
    place = {person: column for column, person in enumerate(people)}
    sums, counts = np.zeros((2, len(seeds), len(people)))
    for row, s in enumerate(seeds):
        for (person, _), value in known[s].items():
            sums[row, place[person]] += value
            counts[row, place[person]] += 1
    mean, num = float(sums.sum() / counts.sum()), int(counts.sum())
    if (len(seeds) < 2 and len(people) < 2) or not np.isfinite(mean):
        return Estimate(mean, None, None, num, len(people))
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn_seeds = generator.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=num_draws)
    drawn_people = generator.multinomial(len(people), np.full(len(people), 1 / len(people)), size=num_draws)
    above = ((drawn_seeds @ sums) * drawn_people).sum(1)
    below = ((drawn_seeds @ counts) * drawn_people).sum(1)
    means = above[below > 0] / below[below > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), num, len(people))


def difference(values: Values, baseline: Values) -> Values:
    """``values - baseline`` wherever both have the same seed and photo."""
    return {
        s: {key: value - baseline[s][key] for key, value in values[s].items() if key in baseline[s]}
        for s in values
        if s in baseline
    }
