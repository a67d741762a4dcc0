"""``lit_restore study``: which method do people prefer? A blinded page, and the count of its answers."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser
from lit_restore.commands.evaluate import add_photo_options, count, input_choice, pair, positive
from lit_restore.errors import UserError, nearest
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.evaluation.inputs import InputChoice

PAGE_NAME, KEY_NAME = "study.html", "key.json"
QUESTIONS = ("identity", "quality")
ACTIONS = {"make": "write the page and its key", "score": "count the answers"}

HELP = """usage: lit_restore study make | score

Which method do people prefer, pair by pair?

  make    write a page that shows pairs of pictures without saying whose they are, and the key to it
  score   count the answers that raters saved with the page

examples:
  lit_restore study make --data data/test_set --method Ours=runs/evaluations/ours Theirs=theirs/ --output study/
  lit_restore study score answers/*.json --key study/key.json

lit_restore study make --help, lit_restore study score --help; docs/user_study.md"""

MAKE_EXAMPLES = """examples:
  lit_restore study make --data data/test_set --method Ours=runs/evaluations/ours Theirs=theirs/ --output study/
      study/study.html goes to the raters; study/key.json stays with you
  lit_restore study make --data data/test_set --limit 10 --against InstantRestore --output study/ \\
      --method InstantRestore=a/ GFPGAN=b/ CodeFormer=c/ DiffBIR=d/ DMDNet=e/
      as in the paper: 10 photos of different people, each method against one

Photos are chosen and degraded as by lit_restore evaluate. A folder holds one picture per photo, or is that of a
finished evaluation."""

SCORE_EXAMPLES = """examples:
  lit_restore study score answers/*.json --key study/key.json
  lit_restore tables 2 --study study/score/score.json
      beside the paper's numbers, if the methods are named as there"""


def main(argv: list[str]) -> int:
    """Make or score; 0 when done, 1 when photos were left out."""
    action, options = (argv[1] if len(argv) > 1 else "--help"), argv[2:]
    if action in ("-h", "--help"):
        print(HELP)
        return 0
    if action not in ACTIONS:
        raise UserError(f"unknown action '{action}' of lit_restore study", fix=nearest(action, ACTIONS))
    return _make(make_parser().parse_args(options)) if action == "make" else _score(score_parser().parse_args(options))


def _make(options: Namespace) -> int:
    import secrets

    output = Path(options.output)
    for name in (PAGE_NAME, KEY_NAME):
        if (output / name).exists():
            raise UserError(
                "there is a study already",
                where=output / name,
                fix="Choose another --output; without its key a study's answers are worth nothing.",
            )
    with quiet_libraries():
        from lit_restore.evaluation.inputs import EvaluationSet
        from lit_restore.evaluation.study.make import make_study
        from lit_restore.evaluation.study.page import page
        from lit_restore.image import atomic_path, check_writable

        hide_loading_bars()
        photos = EvaluationSet(_choice(options))
        check_writable(output)
        study = make_study(
            photos,
            _folders(options.method),
            secret=secrets.token_hex(16),
            questions=options.questions,
            against=options.against,
            num_repeats=options.repeats,
        )
        study.key.write(output / KEY_NAME)
        with atomic_path(output / PAGE_NAME) as temporary:
            temporary.write_text(page(study), encoding="utf-8")
    for key, reason in study.left_out.items():
        print(f"lit_restore: left out: {key}: {reason}", file=sys.stderr)
    num_photos = len({trial.photo for trial in study.key.trials.values()})
    size = (output / PAGE_NAME).stat().st_size / 1e6
    print(
        f"{len(study.key.trials)} pairs of {num_photos} photos, {study.key.num_repeats} of them shown twice\n"
        f"For the raters: {output / PAGE_NAME}, {size:,.1f} MB\n"
        f"For you alone:  {output / KEY_NAME}"
    )
    return int(bool(study.left_out))


def _choice(options: Namespace) -> InputChoice:
    from lit_restore.evaluation.assemble import MethodChoice

    choice = input_choice(options, MethodChoice("outputs", ""))
    return choice if options.references is None else replace(choice, num_references=options.references)


def _folders(methods: list[tuple[str, str]]) -> dict[str, str]:
    folders = dict(methods)
    if len(folders) < len(methods):
        raise UserError("two methods of one name", found=", ".join(name for name, _ in methods))
    return folders


def _score(options: Namespace) -> int:
    from rich.console import Console

    from lit_restore.evaluation.study.answers import read_answers
    from lit_restore.evaluation.study.key import read_key
    from lit_restore.evaluation.study.report import score, show, write

    key = read_key(options.key)
    result = score(read_answers(options.answers, key), key)
    output = Path(options.output) if options.output else Path(options.key).parent / "score"
    write(result, output)
    show(result, Console(soft_wrap=True, highlight=False))
    print(f"Markdown, CSV and JSON: {output}")
    return 0


def make_parser() -> Parser:
    """Options of ``study make``."""
    parser = Parser("study make", "Write a blinded page of pairs of pictures, and its key.", MAKE_EXAMPLES)
    parser.add_argument(
        "--method", type=pair, nargs="+", required=True, metavar="NAME=DIR", help="two or more, with their pictures"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="for study.html and key.json")
    parser.add_argument("--against", metavar="NAME", help="only pairs with this method (default: all pairs)")
    parser.add_argument(
        "--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="asked for every pair (both)"
    )
    parser.add_argument("--repeats", type=count, metavar="N", help="pairs shown twice (a tenth of them)")
    photos = add_photo_options(parser)
    photos.add_argument("--references", type=positive, metavar="N", help="shown with each photo (4, or the run's)")
    return parser


def score_parser() -> Parser:
    """Options of ``study score``."""
    parser = Parser("study score", "Count the answers of a study.", SCORE_EXAMPLES)
    parser.add_argument("answers", nargs="+", metavar="ANSWERS", help="files that raters saved, or folders of them")
    parser.add_argument("--key", required=True, metavar="FILE", help="key.json of the study")
    parser.add_argument("--output", metavar="DIR", help="for the files (score/ beside the key)")
    return parser
