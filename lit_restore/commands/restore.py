"""``lit_restore restore``: a photo or a folder of photos of one person, with other photos of that person."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lit_restore.errors import UserError

EXAMPLE = """examples:
  lit_restore restore --input degraded.png --references person/ --checkpoint runs/quickstart --output restored.png
  lit_restore restore --input old_photos/ --references person/ --checkpoint runs/quickstart --output restored/"""


def main(argv: list[str]) -> int:
    """Restore; 0 when all were restored, 1 when some were skipped."""
    options = _parser().parse_args(argv[1:])
    source, output = Path(options.input), Path(options.output)
    jobs = _jobs(source, output)
    if options.dry_run:
        for photo, target in jobs:
            print(f"{photo} -> {target}")
        return 0
    from tqdm import tqdm

    from lit_restore.image import write_image
    from lit_restore.inference import Notes, Restorer

    restorer = Restorer.from_pretrained(
        options.checkpoint,
        base=options.base,
        device=options.device,
        weights=options.weights,
        max_references=options.max_references,
    )
    failures = []
    for photo, target in tqdm(jobs, desc="Restoring", disable=len(jobs) == 1):
        notes = Notes()
        try:
            if source.is_dir() and target.exists() and not options.overwrite:
                continue  # an interrupted run goes on where it was
            restored = restorer.restore(
                photo, options.references or (), aligned=options.aligned, seed=options.seed, notes=notes
            )
            write_image(restored, target)
        except UserError as error:
            if not source.is_dir():
                raise
            failures.append(str(error))
            continue
        for message in notes.messages:
            print(f"note: {message}", file=sys.stderr)
        used = f"{len(notes.references_used)} reference{'s' if len(notes.references_used) != 1 else ''}"
        if len(jobs) == 1:
            print(f"{target}: restored with {used}")
    for failure in failures:
        print(f"skipped: {failure}", file=sys.stderr)
    if source.is_dir():
        print(f"{len(jobs) - len(failures)} of {len(jobs)} photos are in {output}")
    return 1 if failures else 0


def _jobs(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Which file becomes which; an input is never overwritten."""
    if not source.exists():
        raise UserError("no such input", where=source, expected="an image or a folder of images")
    if source.is_dir():
        from lit_restore.inference import list_photos

        if output.is_dir() and output.resolve() == source.resolve():
            raise UserError("input and output are the same folder", where=output, fix="Choose another --output.")
        names: dict[str, Path] = {}
        for photo in list_photos(source):
            # Two inputs that differ only in their suffix must not share an output.
            name = f"{photo.stem}.png"
            names[name if name not in names else f"{photo.stem}_{photo.suffix[1:].lower()}.png"] = photo
        return [(photo, output / name) for name, photo in names.items()]
    target = output / f"{source.stem}.png" if output.is_dir() else output
    if target.resolve() == source.resolve():
        raise UserError("the output would overwrite the input", where=target, fix="Choose another --output.")
    return [(source, target)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lit_restore restore",
        description="Restore the face of a degraded photo with the help of other photos of the same person.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.add_argument("--max-references", type=int, default=4, help="use at most this many references (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    parser.add_argument("--overwrite", action="store_true", help="redo photos whose output exists (folders)")
    parser.add_argument("--dry-run", action="store_true", help="only say which file would become which")
    return parser
