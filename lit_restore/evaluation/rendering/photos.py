"""The pictures behind a part of a table: best, median and worst photo of its main row, by the methods of all rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lit_restore.evaluation.pictures import EXAMPLES_NAME, restored_files
from lit_restore.evaluation.table import Part
from lit_restore.image import read_rgb
from lit_restore.pages.document import ComparedPhoto
from lit_restore.pages.embedded import address


def compared_photos(part: Part) -> Mapping[str, ComparedPhoto]:
    """Photos by their rank, with degraded input, truth, references and every row's restoration where it is there.

    The main row is the last one with a published counterpart, in the papers' tables the authors' own method.
    """
    measured = {row.name: row.measured for row in part.rows if row.measured is not None}
    published = [row.name for row in part.rows if any(cell.published is not None for cell in row.cells.values())]
    candidates = [name for name in published if name in measured] or list(measured)
    if not candidates:
        return {}
    main = candidates[-1]
    summary = measured[main].summary
    if not summary.examples:  # a user study
        return {}
    files = {name: restored_files(one.folder) for name, one in measured.items()}
    photos = {}
    for rank, key in summary.examples.items():
        pictures = _inputs(measured[main].folder / EXAMPLES_NAME / rank)
        pictures |= {name: address(read_rgb(known[key])) for name, known in files.items() if key in known}
        if main in pictures and len(pictures) > 1:
            photos[rank] = ComparedPhoto(f"{key}, the {rank} of {main} by {summary.examples_by}", pictures, main)
    return photos


def _inputs(folder: Path) -> dict[str, str]:
    """Degraded, truth and references of a photo, in this order."""
    names = [*("degraded", "truth"), *sorted(path.stem for path in folder.glob("reference_*.png"))]
    return {
        name.replace("_", " "): address(read_rgb(folder / f"{name}.png"))
        for name in names
        if (folder / f"{name}.png").is_file()
    }
