"""Uniform numbers -> parameters, shared by the first- and the second-order draws (degradations.md 1.3, 6.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from lit_restore.data.degradation.profile_types import AnyProfile, Range

Choice = TypeVar("Choice")


def uniform(bounds: Range, u: float) -> float:
    """``lo + (hi - lo) u``."""
    return bounds[0] + (bounds[1] - bounds[0]) * u


def pick(choices: Sequence[Choice], u: float) -> Choice:
    """Each choice equally likely."""
    return choices[int(len(choices) * u)]


def pick_family(families: Mapping[str, float], u: float) -> str:
    """By cumulative probability, in the order given."""
    total = 0.0
    for family, share in families.items():
        total += share
        if u < total:
            return family
    # The sum of the shares may fall an ulp short of 1.
    return [family for family, share in families.items() if share > 0][-1]


def shape_exponent(profile: AnyProfile, family: str, u_side: float, u: float) -> float | None:
    """``beta``: with probability 1/2 below 1, otherwise above; None for the families that have none."""
    if family.startswith("generalized"):
        low, high = profile.beta_generalized
    elif family.startswith("plateau"):
        low, high = profile.beta_plateau
    else:
        return None
    return uniform((low, 1.0), u) if u_side < 0.5 else uniform((1.0, high), u)
