"""The picture sheet of an evaluation, and its photos one by one for pages that compare methods."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

from lit_restore.data.collate import collate
from lit_restore.evaluation.inputs import EvaluationSet, Unreadable
from lit_restore.evaluation.output_folder import flat_names
from lit_restore.image import read_rgb, to_tensor, to_uint8, write_image
from lit_restore.visualization import column, restoration_rows

SHEET_NAME = "sheet.png"
EXAMPLES_NAME = "examples"
RESTORED_NAME = "restored"


def write_sheet(photos: EvaluationSet, examples: Mapping[str, str], restored: Mapping[str, Path], folder: Path) -> None:
    """Write ``sheet.png``: best, median, worst; degraded | references | restored | truth.

    Args:
        examples: ``best``, ``median``, ``worst`` -> key.
        restored: key -> file of the restored photo.
    """
    rows = []
    for key in examples.values():
        sample = sample_of(photos, key)
        if sample is None:
            continue
        batch = collate([sample])
        rows += restoration_rows(batch, to_tensor(read_rgb(restored[key]))[None])
    if rows:
        write_image(column(rows), folder / SHEET_NAME)


def write_examples(photos: EvaluationSet, examples: Mapping[str, str], folder: Path) -> None:
    """Write what belongs to the best, median and worst photo, ``examples/best/{degraded,truth,reference_1}.png`` ..."""
    shutil.rmtree(folder / EXAMPLES_NAME, ignore_errors=True)
    for name, key in examples.items():
        sample = sample_of(photos, key)
        if sample is None:
            continue
        pictures = {"degraded": sample["lq"]} | ({"truth": sample["hq"]} if sample["has_hq"] else {})
        pictures |= {f"reference_{n}": picture for n, picture in enumerate(sample["references"], start=1)}
        for kind, picture in pictures.items():
            write_image(to_uint8(picture), folder / EXAMPLES_NAME / name / f"{kind}.png")


def restored_files(folder: Path) -> dict[str, Path]:
    """Key -> restored photo of a finished evaluation, those that are there."""
    with (folder / "images.csv").open(newline="", encoding="utf-8") as file:
        names = flat_names(row["key"] for row in csv.DictReader(file))
    files = {key: folder / RESTORED_NAME / f"{name}.png" for key, name in names.items()}
    return {key: path for key, path in files.items() if path.is_file()}


def sample_of(photos: EvaluationSet, key: str) -> dict | None:
    """The sample of a photo; None if it cannot be read."""
    index = next(index for index, target in enumerate(photos.targets) if target.key == key)
    sample = photos[index]
    return None if isinstance(sample, Unreadable) else sample
