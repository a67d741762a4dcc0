"""The commands the README prints must be commands the program understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lit_restore.cli import COMMANDS
from lit_restore.commands import convert, demo, evaluate, export, prepare, restore, study, tables

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "data/README.md",
    "CONTRIBUTING.md",
    "docs/instantrestore.md",
    "docs/evaluation.md",
    "docs/export.md",
    "docs/restore.md",
    "docs/user_study.md",
)


def code_lines(page: str) -> list[str]:
    """Lines of fenced or indented code, continuation lines joined, comments cut."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    indented = re.findall(r"^    (\S.*)$", text, flags=re.M)
    return [line.split("  #")[0].strip() for block in [*fenced, *indented] for line in block.splitlines()]


def commands() -> list[tuple[str, str]]:
    found = [(page, line) for page in PAGES for line in code_lines(page)]
    inline = [
        (page, code)
        for page in PAGES
        for code in re.findall(r"`(lit_restore [a-z]+ --config [^`]+)`", (ROOT / page).read_text())
    ]
    return [(page, line) for page, line in [*found, *inline] if line.startswith("lit_restore ")]


@pytest.mark.parametrize(("page", "line"), commands())
def test_printed_commands_are_understood(page: str, line: str) -> None:
    _, command, *options = shlex.split(line)
    assert command in COMMANDS
    if command == "restore":
        restore._parser().parse_args(options)
    elif command == "demo":
        demo.parser().parse_args(options)
    elif command == "evaluate":
        evaluate.parser().parse_args(options)
    elif command == "tables":
        tables._parser().parse_args(options)
    elif command == "study":
        parser = {"make": study.make_parser, "score": study.score_parser}[options[0]]
        parser().parse_args(options[1:])
    elif command == "export":
        export._parser().parse_args(options)
    elif command == "convert":
        convert._parser().parse_args(options)
    elif command == "prepare" and "--help" not in options:
        prepare._parser().parse_args(options)
    else:
        for option in options:
            if option.endswith(".yaml") and option.startswith("configs/"):
                assert (ROOT / option).is_file()


def test_printed_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.split()[1] for page in PAGES for line in code_lines(page) if line.startswith("make ")}
    targets |= {t for page in PAGES for t in re.findall(r"`make ([\w-]+)`", (ROOT / page).read_text())}
    assert {"quickstart", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_printed_files_exist() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_the_readmes_python_example_is_the_real_interface() -> None:
    import inspect

    from lit_restore.inference import Restorer

    code = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.S | re.M).group(1)
    compile(code, "README.md", "exec")
    inspect.signature(Restorer.restore).bind(None, "degraded.png", references="person/")
    inspect.signature(Restorer.from_pretrained).bind("runs/quickstart")


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
