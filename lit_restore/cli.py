"""The front of the command line: find the command, hand over, turn a `UserError` into one line.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from lit_restore import __version__
from lit_restore.errors import UserError, nearest

# command -> (module in lit_restore.commands, one line for --help)
COMMANDS = {
    "fit": ("train", "train a model from a config"),
    "validate": ("train", "measure a checkpoint on the validation people"),
    "test": ("train", "measure a checkpoint on the test people"),
    "predict": ("train", "restore the test photos with a checkpoint"),
    "prepare": ("prepare", "read a folder of people, compute landmarks, make synthetic people or a test set"),
    "restore": ("restore", "restore a photo, or a folder of photos, of a person"),
}

HELP = """lit_restore {version}: reference-guided, single-step diffusion face restoration

usage: lit_restore COMMAND [options]

{commands}

Each command explains itself: lit_restore COMMAND --help
First time here:              lit_restore fit --config configs/quickstart.yaml
Exit codes: 0 done, 1 finished but some photos were skipped, 2 cannot be done as asked, 130 interrupted"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # albumentations asks a package index for updates on import unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if not argv or argv[0] in ("-h", "--help", "help"):
        commands = "\n".join(f"  {name:10}{text}" for name, (_, text) in COMMANDS.items())
        print(HELP.format(version=__version__, commands=commands))
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    try:
        if argv[0] not in COMMANDS:
            raise UserError(f"unknown command '{argv[0]}'", fix=nearest(argv[0], COMMANDS))
        module = import_module(f"lit_restore.commands.{COMMANDS[argv[0]][0]}")
        return module.main(argv)
    except UserError as error:
        print(f"lit_restore: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nlit_restore: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
