"""argparse with our kind of errors: one line, and the option that was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from lit_restore.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """Options are written in full; description, examples and everything else as in argparse."""

    def __init__(self, command: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"lit_restore {command}",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """As in argparse, but a misspelt option is named before what is missing because of it."""
        for word in args:
            if word == "--":
                break
            if word.startswith("--") and word.split("=")[0] not in self._option_string_actions:
                self._refuse(word)
        return super().parse_args(args)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage text."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            self._refuse(words.split()[0])
        raise UserError(message, fix=f"See {self.prog} --help.")

    def _refuse(self, word: str) -> NoReturn:
        options = [option for option in self._option_string_actions if option.startswith("--")]
        word = word.split("=")[0]
        raise UserError(f"unknown option '{word}'", fix=nearest(word, options))


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from ``lowest`` on."""

    def whole_number(text: str) -> int:
        if text.isdecimal() and int(text) >= lowest:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected a whole number, {lowest} or more, found '{text}'")

    return whole_number
