"""argparse with our kind of errors: one line, and the option that was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage text."""
        _, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            word = words.split()[0].split("=")[0]
            options = [option for option in self._option_string_actions if option.startswith("--")]
            raise UserError(f"unknown option '{word}'", fix=nearest(word, options))
        raise UserError(message, fix=f"See {self.prog} --help.")


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from ``lowest`` on."""

    def whole_number(text: str) -> int:
        if text.isdecimal() and int(text) >= lowest:
            return int(text)
        raise argparse.ArgumentTypeError(f"expected a whole number, {lowest} or more, found '{text}'")

    return whole_number
