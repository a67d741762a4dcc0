"""Another program as a method: what it gets, what is kept, what it may do wrong."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
from lit_restore.evaluation.programs import run_program
from lit_restore.image import read_rgb, to_uint8

# Copies its inputs and writes down what it saw.
SCRIPT = """
import pathlib, shutil, sys
given, references, made = map(pathlib.Path, sys.argv[1:])
for photo in given.iterdir():
    shutil.copy(photo, made / photo.name)
print(sorted(p.relative_to(references).as_posix() for p in references.rglob("*.png")))
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    (tmp_path / "copies.py").write_text(SCRIPT)
    return (
        f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'copies.py'))} {{input}} {{references}} {{output}}"
    )


def test_a_program_gets_the_same_inputs_as_every_method(photos: EvaluationSet, tmp_path: Path, command: str) -> None:
    run = run_program(command, photos, tmp_path / "program")
    assert run.num_photos == len(photos)
    assert run.seconds > 0
    for number, target in enumerate(photos.targets):
        made = read_rgb(run.output / f"{target.key.removesuffix('.png').replace('/', '__')}.png")
        assert (made == to_uint8(photos[number]["lq"])).all()
    log = (tmp_path / "program" / "program.log").read_text()
    assert "'anna__0/01.png', 'anna__0/02.png'" in log
    assert log.count("carl__") == 2


def test_a_finished_run_is_not_repeated(
    photos: EvaluationSet, choice: InputChoice, tmp_path: Path, command: str
) -> None:
    first = run_program(command, photos, tmp_path / "program")
    log = tmp_path / "program" / "program.log"
    log.write_text("untouched")
    assert run_program(command, photos, tmp_path / "program") == first
    assert log.read_text() == "untouched"
    run_program(command, EvaluationSet(replace(choice, seed=1)), tmp_path / "program")
    assert log.read_text() != "untouched"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program {input} {output}", "cannot be started: no-such-program"),
        ("cp {input}", "needs {input} and {output}"),
        ("cp {inputs} {output}", "cannot be understood.*found 'inputs'"),
        ("cp '{input} {output}", "cannot be understood.*No closing quotation"),
        ("sh -c 'echo out of memory; exit 3' {input} {output}", "exit code 3.*found out of memory"),
        ("true {input} {output}", "left no picture"),
    ],
)
def test_programs_that_fail(photos: EvaluationSet, tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_program(command, photos, tmp_path / "program")
