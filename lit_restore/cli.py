"""The front of the command line: find the command, hand over, turn what a user can put right into one line.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
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
    "demo": ("demo", "a page in the browser to restore photos with, on this machine"),
    "evaluate": ("evaluate", "measure a method on a set of photos"),
    "tables": ("tables", "ours beside the published numbers"),
    "sweep": ("sweep", "many trainings from one wandb sweep file, on wandb's server or here"),
    "ablate": ("ablate", "a study: its trainings, their evaluation and a table"),
    "convert": ("convert", "checkpoints of the official InstantRestore code, in and out"),
    "study": ("study", "a blinded user study: the page for raters, and the score of their answers"),
    "export": ("export", "a model as an ONNX graph that other programs can run"),
}

HELP = """lit_restore {version}: reference-guided, single-step diffusion face restoration

usage: lit_restore COMMAND [options]

{commands}

Each command explains itself: lit_restore COMMAND --help
First time here:              lit_restore fit --config configs/quickstart.yaml
Exit codes: 0 done, 1 finished but some photos were skipped, 2 cannot be done as asked, 130 interrupted"""

# What the place that is written to may answer, whoever is writing.
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    # albumentations asks a package index for updates on import unless told not to.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    # GNU's OpenMP lets threads spin for long while they wait for each other. Where a browser or the workers that read
    # photos want the processor too, that costs several times the work (docs/benchmarks.md). Read when torch starts.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        return _run(argv)
    except UserError as error:
        print(f"lit_restore: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nlit_restore: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, e.g. `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in STORAGE_ERRORS:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"lit_restore: cannot write or read{where}; found {(error.strerror or '').lower()}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # from argument parsers: after --help, or with a message on bad options
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _run(argv: list[str]) -> int:
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    if not argv or argv[0] in ("-h", "--help"):
        commands = "\n".join(f"  {name:10}{text}" for name, (_, text) in COMMANDS.items())
        print(HELP.format(version=__version__, commands=commands))
        return 0
    if argv[0] == "--version":
        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        raise UserError(f"unknown command '{argv[0]}'", fix=nearest(argv[0], COMMANDS))
    module = import_module(f"lit_restore.commands.{COMMANDS[argv[0]][0]}")
    return module.main(argv)
