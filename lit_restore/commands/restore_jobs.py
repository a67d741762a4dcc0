"""Which file becomes which, and which must never be written."""

from __future__ import annotations

import sys
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.inference.picture_file import OUTPUT_SUFFIXES
from lit_restore.inference.sources import PHOTO_SUFFIXES, entries, list_photos

Jobs = dict[Path, Path]
"""Output -> input; every output has one input."""


def find_jobs(source: Path, output: Path, kind: str) -> Jobs:
    """The job of a photo, or those of a folder.

    Args:
        kind: format of files in an output folder, or "same" as the input's.

    Raises:
        UserError: nothing to do, or no such place to write.
    """
    return _of_folder(source, output, kind) if source.is_dir() else _of_photo(source, output, kind)


def people_in(folder: Path) -> dict[str, list[Path]]:
    """Name -> photos; a folder per person. Folders without photos, or that cannot be read, are named and passed over.

    Raises:
        UserError: there is no such folder, or nobody in it.
    """
    if not folder.is_dir():
        raise UserError("no such folder of people", where=folder)
    people: dict[str, list[Path]] = {}
    for inner in entries(folder):
        if inner.is_dir() and not inner.name.startswith("."):
            try:
                people[inner.name] = [Path(photo) for photo in list_photos(inner)]
            except UserError as error:
                print(f"note: passed over: {error}", file=sys.stderr)
    if not people:
        raise UserError("no people", where=folder, expected="a folder of photos per person")
    return people


def protect(outputs: list[Path], inputs: list[Path]) -> None:
    """Refuse to overwrite a photo that is read.

    Raises:
        UserError: an output is an input.
    """
    precious = {path.resolve() for path in inputs}
    for target in outputs:
        if target.resolve() in precious:
            raise UserError("the output would overwrite an input", where=target, fix="Choose another --output.")


def _of_photo(source: Path, output: Path, kind: str) -> Jobs:
    target = output / f"{source.stem}{_suffix(source, kind)}" if output.is_dir() else output
    if target.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UserError(
            "the output needs an image suffix, or must be a folder that exists",
            where=output,
            expected=" ".join(OUTPUT_SUFFIXES),
        )
    return {target: source}


def _of_folder(source: Path, output: Path, kind: str) -> Jobs:
    """``NAME.png`` for every image; with the old suffix in its name where two images differ only in that."""
    if output.exists() and not output.is_dir():
        raise UserError("the input is a folder, the output a file", where=output, expected="a folder")
    photos = [Path(photo) for photo in list_photos(source)]
    stems = [photo.stem.casefold() for photo in photos]
    jobs: Jobs = {}
    for photo, stem in zip(photos, stems, strict=True):
        suffix = _suffix(photo, kind)
        unique = photo.stem if stems.count(stem) == 1 else f"{photo.stem}_{photo.suffix[1:].lower()}"
        while output / f"{unique}{suffix}" in jobs:
            unique += "_"
        jobs[output / f"{unique}{suffix}"] = photo
    ignored = [file for file in entries(source) if file.is_file() and not file.name.startswith(".")]
    ignored = [file for file in ignored if file.suffix.lower() not in PHOTO_SUFFIXES]
    if ignored:
        suffixes = ", ".join(sorted({file.suffix.lower() or "no suffix" for file in ignored}))
        print(f"note: not looked at: {len(ignored)} of no known image kind ({suffixes})", file=sys.stderr)
    return jobs


def _suffix(photo: Path, kind: str) -> str:
    if kind != "same":
        return f".{kind}"
    suffix = photo.suffix.lower()
    return suffix if suffix in OUTPUT_SUFFIXES else ".png"
