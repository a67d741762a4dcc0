"""Any other program as a method: it gets a folder of inputs, is run once, timed, and leaves a folder of pictures.

A command is a line with placeholders, e.g. ``python inference.py -i {input} -r {references} -o {output}``:

    {input}        folder of degraded photos, NAME.png
    {references}   folder with NAME/01.png, NAME/02.png, ... for every photo
    {output}       folder for the restored photos, NAME.png

It is run without a shell from the current folder; what it prints goes to ``program.log``.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import EvaluationSet, Unreadable
from lit_restore.evaluation.output_folder import flat_names
from lit_restore.image import atomic_path, to_uint8, write_image

PLACEHOLDERS = ("input", "references", "output")
FINISHED_NAME = "finished.json"


@dataclass(frozen=True)
class ProgramRun:
    """A finished run: where the pictures are and how long they took, start of the program included."""

    output: Path
    seconds: float
    num_photos: int


def run_program(command: str, photos: EvaluationSet, folder: Path) -> ProgramRun:
    """Write the inputs, run the program; a finished run of the same command on the same photos is not repeated.

    Args:
        command: the line with placeholders.
        folder: gets ``input/``, ``references/``, ``output/`` and ``program.log``.

    Raises:
        UserError: a placeholder is wrong, the program cannot be started, fails, or leaves nothing.
    """
    words = _words(command)
    wanted = {"command": command, "photos": photos.protocol}
    finished = _finished(folder)
    if finished is not None and finished["of"] == wanted:
        return ProgramRun(folder / "output", finished["seconds"], finished["num_photos"])
    shutil.rmtree(folder, ignore_errors=True)  # nothing of another or a failed run may pass for this one's
    num_photos = write_inputs(photos, folder)
    places = {name: str((folder / name).absolute()) for name in PLACEHOLDERS}
    (folder / "output").mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    log = folder / "program.log"
    with log.open("w") as file:
        try:
            arguments = [word.format(**places) for word in words]
            code = subprocess.run(arguments, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        except OSError as error:
            raise UserError(
                "the program cannot be started", where=words[0], found=(error.strerror or str(error)).lower()
            ) from None
    seconds = time.perf_counter() - start
    if code:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise UserError(
            f"the program failed with exit code {code}",
            where=command,
            found=last[0][:200] if last else "no message",
            fix=f"Everything it printed is in {log}.",
        )
    if not any((folder / "output").rglob("*.*")):
        raise UserError("the program left no picture", where=folder / "output", fix=f"See {log}.")
    with atomic_path(folder / FINISHED_NAME) as path:
        path.write_text(json.dumps({"of": wanted, "seconds": seconds, "num_photos": num_photos}, indent=1) + "\n")
    return ProgramRun(folder / "output", seconds, num_photos)


def write_inputs(photos: EvaluationSet, folder: Path) -> int:
    """Write ``input/NAME.png`` and ``references/NAME/01.png ...``; returns how many photos."""
    names = flat_names(target.key for target in photos.targets)
    num_written = 0
    for index in range(len(photos)):
        sample = photos[index]
        if isinstance(sample, Unreadable):
            continue
        name = names[sample["key"]]
        write_image(to_uint8(sample["lq"]), folder / "input" / f"{name}.png")
        for number, reference in enumerate(sample["references"], start=1):
            write_image(to_uint8(reference), folder / "references" / name / f"{number:02d}.png")
        num_written += 1
    (folder / "references").mkdir(exist_ok=True)  # also where there is none to show
    return num_written


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
        used = " ".join(words).format(**{name: f"<{name}>" for name in PLACEHOLDERS})
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(
            "the command cannot be understood",
            where=command,
            expected="placeholders {input}, {references}, {output}; other braces doubled",
            found=str(error) or type(error).__name__,
        ) from None
    if "<input>" not in used or "<output>" not in used:
        raise UserError("the command needs {input} and {output}", where=command)
    return words


def _finished(folder: Path) -> dict | None:
    try:
        return json.loads((folder / FINISHED_NAME).read_text())
    except (OSError, ValueError):
        return None
