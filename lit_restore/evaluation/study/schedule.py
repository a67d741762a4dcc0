"""What a rater is shown, in which order and on which side: a function of study and rater that page and score share.

    h(text)  = FNV-1a (32 bits) of the text, then the finaliser of MurmurHash3, which mixes its low bits
    order    : trials sorted by h(study/rater/order/trial)
    sides    : swapped where h(study/rater/side/trial) is odd
    repeats  : the first trials of the order come a second time, sides swapped, spread evenly over the second half

``study.js`` holds the same few lines. They shuffle; they keep no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Shown:
    """One look at a pair.

    Attributes:
        left, right: pictures.
        is_repeat: whether the same pair was shown before, with sides swapped.
    """

    trial: str
    left: str
    right: str
    is_repeat: bool = False


def schedule(study: str, rater: str, trials: Mapping[str, tuple[str, str]], num_repeats: int) -> list[Shown]:
    """All looks of a rater, in order.

    Args:
        trials: trial -> its two pictures.
        num_repeats: at most half as many as trials.
    """
    seed = f"{study}/{rater}"
    order = [_shown(seed, trial, trials[trial]) for trial in sorted(trials, key=lambda trial: _rank(seed, trial))]
    half = (len(order) + 1) // 2
    second = len(order) - half
    looks = order[:half]
    done = 0
    for number in range(num_repeats):
        until = (number + 1) * second // num_repeats
        first = order[number]
        looks += [*order[half + done : half + until], Shown(first.trial, first.right, first.left, is_repeat=True)]
        done = until
    return looks + order[half + done :]


def checksum(text: str) -> str:
    """32 hex digits of an ASCII text, from four different `scramble`: notices accidents and casual edits, no more."""
    return "".join(f"{scramble(f'{number}:{text}'):08x}" for number in range(4))


def fnv1a(text: str) -> int:
    """FNV-1a, 32 bits, of an ASCII text."""
    value = 0x811C9DC5
    for byte in text.encode("ascii"):
        value = (value ^ byte) * 0x01000193 & MASK
    return value


def scramble(text: str) -> int:
    """FNV-1a finished as MurmurHash3 does: all bits depend on all of the text."""
    value = fnv1a(text)
    value = (value ^ value >> 16) * 0x85EBCA6B & MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & MASK
    return value ^ value >> 16


def _rank(seed: str, trial: str) -> tuple[int, str]:
    return scramble(f"{seed}/order/{trial}"), trial


def _shown(seed: str, trial: str, pictures: tuple[str, str]) -> Shown:
    left, right = reversed(pictures) if scramble(f"{seed}/side/{trial}") & 1 else pictures
    return Shown(trial, left, right)
