"""One kind of exception for everything a user can put right.

The command line prints it as a single line and exits with code 2; from Python it is an ordinary exception.
Anything that is not a `UserError` is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What went wrong, where, what was expected, what was found and what to do about it.

    Args:
        what: the problem in a few words, e.g. ``"not an image"``.
        where: file, folder, config key or URL it is about.
        expected: what would have been right.
        found: what was there instead.
        fix: the next step for the user, as an imperative sentence.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        fix: str | None = None,
    ) -> None:
        parts = [what if where is None else f"{what}: {where}"]
        if expected is not None:
            parts.append(f"expected {expected}")
        if found is not None:
            parts.append(f"found {found}")
        message = "; ".join(parts)
        super().__init__(f"{message}. {fix}" if fix else message)


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that names the known word closest to ``word``, or lists what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(known)}."


def check_at_least(lowest: float, where: str, **numbers: float) -> None:
    """Refuse numbers below ``lowest``.

    Args:
        where: the part of the configuration they stand in.

    Raises:
        UserError: one is smaller, or not a number at all.
    """
    for name, number in numbers.items():
        if not number >= lowest:
            raise UserError("number too small", where=f"{where}.{name}", expected=f"{lowest} or more", found=number)
