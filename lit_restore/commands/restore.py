"""``lit_restore restore``: a photo or a folder of photos of one person, with other photos of that person."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser, at_least
from lit_restore.errors import UserError
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.inference import Notes, Restorer

EXAMPLES = """examples:
  lit_restore restore --input degraded.png --references person/ --checkpoint runs/quickstart --output restored.png
  lit_restore restore --input old_photos/ --references person/ --checkpoint runs/quickstart --output restored/"""

Jobs = dict[Path, Path]
"""Output -> input; every output has one input."""


def main(argv: list[str]) -> int:
    """Restore; 0 when all were restored, 1 when some were skipped."""
    options = _parser().parse_args(argv[1:])
    source, output = Path(options.input), Path(options.output)
    if not source.exists():
        raise UserError("no such input", where=source, expected="an image or a folder of images")
    with quiet_libraries():
        from lit_restore.image import check_writable
        from lit_restore.inference import list_photos

        references = [] if options.references is None else list_photos(options.references)
        jobs = _jobs_of_folder(source, output) if source.is_dir() else _job_of_photo(source, output)
        _protect(list(jobs), [*jobs.values(), *references])
        if options.dry_run:
            for target, photo in jobs.items():
                print(f"{photo} -> {target}")
            print(f"{len(references)} references, at most {options.max_references} are used")
            return 0
        check_writable(next(iter(jobs)).parent)
        restorer = _load(options)
        if source.is_dir():
            return _restore_folder(restorer, jobs, references, options)
        return _restore_photo(restorer, jobs, references, options)


def _load(options: Namespace) -> Restorer:
    from lit_restore.inference import Restorer, find_device

    device = find_device(options.device)  # before anything large is read
    hide_loading_bars()
    return Restorer.from_pretrained(
        options.checkpoint,
        base=options.base,
        device=device,
        weights=options.weights,
        max_references=options.max_references,
    )


def _restore_photo(restorer: Restorer, jobs: Jobs, references: list[Path], options: Namespace) -> int:
    from lit_restore.image import write_image
    from lit_restore.inference import Notes

    notes = Notes()
    ((target, photo),) = jobs.items()
    restored = restorer.restore(
        photo, references, aligned=options.aligned, face=options.face, seed=options.seed, notes=notes
    )
    write_image(restored, target)
    _show(notes)
    count = len(notes.references_used)
    print(f"{target}: restored with {count} reference{'' if count == 1 else 's'}")
    return 0


def _restore_folder(restorer: Restorer, jobs: Jobs, references: list[Path], options: Namespace) -> int:
    from tqdm import tqdm

    from lit_restore.image import write_image
    from lit_restore.inference import Notes

    notes = Notes()
    there_already = 0
    failures: dict[str, list[str]] = {}
    for target, photo in tqdm(jobs.items(), desc="Restoring", unit="photo"):
        if target.exists() and not options.overwrite:
            there_already += 1  # an interrupted run goes on where it was
            continue
        try:
            restored = restorer.restore(
                photo, references, aligned=options.aligned, face=options.face, seed=options.seed, notes=notes
            )
        except UserError as error:
            failures.setdefault(str(error), []).append(photo.name)
        else:
            write_image(restored, target)
    _show(notes)
    for reason, names in failures.items():
        print(f"skipped {', '.join(names)}: {reason}", file=sys.stderr)
    num_failed = sum(map(len, failures.values()))
    print(f"{len(jobs) - num_failed} of {len(jobs)} photos are restored in {next(iter(jobs)).parent}", end="")
    print(f", {there_already} of them before; --overwrite redoes these." if there_already else ".")
    return 1 if failures else 0


def _show(notes: Notes) -> None:
    """Each note once, however many photos it is about."""
    for text, about in (
        ("left out as references", notes.references_left_out),
        ("taken as aligned faces, being square", notes.taken_as_aligned),
    ):
        for reason in dict.fromkeys(about.values()):
            names = list(dict.fromkeys(Path(name).name for name, why in about.items() if why == reason))
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            print(f"note: {text}: {listed} ({reason})", file=sys.stderr)


def _job_of_photo(source: Path, output: Path) -> Jobs:
    from lit_restore.image import IMAGE_SUFFIXES

    target = output / f"{source.stem}.png" if output.is_dir() else output
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(
            "the output needs an image suffix, or must be a folder that exists",
            where=output,
            expected=" ".join(IMAGE_SUFFIXES),
        )
    return {target: source}


def _jobs_of_folder(source: Path, output: Path) -> Jobs:
    """``NAME.png`` for every image; with the old suffix in its name where two images differ only in that."""
    from lit_restore.image import IMAGE_SUFFIXES
    from lit_restore.inference import list_photos

    if output.exists() and not output.is_dir():
        raise UserError("the input is a folder, the output a file", where=output, expected="a folder")
    photos = [Path(photo) for photo in list_photos(source)]
    stems = [photo.stem.casefold() for photo in photos]
    jobs: Jobs = {}
    for photo, stem in zip(photos, stems, strict=True):
        unique = photo.stem if stems.count(stem) == 1 else f"{photo.stem}_{photo.suffix[1:].lower()}"
        while output / f"{unique}.png" in jobs:
            unique += "_"
        jobs[output / f"{unique}.png"] = photo
    ignored = [file for file in source.iterdir() if file.is_file() and not file.name.startswith(".")]
    ignored = [file for file in ignored if file.suffix.lower() not in IMAGE_SUFFIXES]
    if ignored:
        suffixes = ", ".join(sorted({file.suffix.lower() or "no suffix" for file in ignored}))
        print(f"note: not looked at: {len(ignored)} of no known image kind ({suffixes})", file=sys.stderr)
    return jobs


def _protect(outputs: list[Path], inputs: list[Path]) -> None:
    """Refuse to overwrite a photo that is read."""
    precious = {path.resolve() for path in inputs}
    for target in outputs:
        if target.resolve() in precious:
            raise UserError("the output would overwrite an input", where=target, fix="Choose another --output.")


def _face(text: str) -> str | int:
    if text in ("only", "largest"):
        return text
    if text.isdigit():
        return int(text)
    raise ArgumentTypeError(f"expected 'only', 'largest' or a number, found '{text}'")


def _parser() -> Parser:
    parser = Parser(
        "restore", "Restore the face of a degraded photo with the help of other photos of the same person.", EXAMPLES
    )
    parser.add_argument("--input", required=True, help="degraded photo, or a folder of photos of the same person")
    parser.add_argument("--references", help="folder of good photos of the person, or one photo; without it: blind")
    parser.add_argument("--checkpoint", required=True, help="run folder, model folder or .ckpt file")
    parser.add_argument("--output", required=True, help="image file (.png .jpg .webp), or folder for a folder")
    parser.add_argument("--base", help="where the diffusion base is, if not where the checkpoint says")
    parser.add_argument("--weights", help="folder with the face detector's weight files, for photos not yet aligned")
    parser.add_argument(
        "--aligned",
        choices=["auto", "yes", "no"],
        default="auto",
        help="are the photos already aligned square faces? (default: look)",
    )
    parser.add_argument(
        "--face",
        type=_face,
        default="only",
        help="which face of a photo with several: largest, or its number in the message that lists them",
    )
    parser.add_argument(
        "--max-references", type=at_least(1), default=4, help="use at most this many references (default 4)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--overwrite", action="store_true", help="redo photos whose output exists (folders)")
    parser.add_argument("--dry-run", action="store_true", help="only say which file would become which")
    return parser
