"""``lit_restore restore``: photos in, photos with restored faces out, helped by good photos of the same people."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser, at_least
from lit_restore.commands.restorer_options import add_restorer_options, load_restorer, share
from lit_restore.errors import UserError
from lit_restore.quiet import quiet_libraries

if TYPE_CHECKING:
    from lit_restore.commands.restore_jobs import Jobs
    from lit_restore.inference import Photo, ReportPage, Restorer

EXAMPLES = """\
A photo comes back whole, with every pixel outside of the faces as it was; a photo that is an aligned face already, or
--crop, gives the face alone in the resolution of the restorer.

examples:
  lit_restore restore --input old.jpg --references anna/ --checkpoint runs/quickstart --output restored.png
  lit_restore restore --input group.jpg --people people/ --checkpoint runs/quickstart --output restored.png
      people/ has a folder per person; faces of others are left as they are
  lit_restore restore --input old_photos/ --people people/ --checkpoint runs/quickstart --output restored/
      the same command again goes on where it was interrupted

exit codes: 0 all restored, 1 finished but some photos were skipped (each with its reason), 2 cannot be done as asked,
130 interrupted"""


def main(argv: list[str]) -> int:
    """Restore; 0 when all were restored, 1 when some were skipped."""
    options = _parser().parse_args(argv[1:])
    source, output = Path(options.input), Path(options.output)
    if not source.exists():
        raise UserError("no such input", where=source, expected="an image or a folder of images")
    if options.people and options.references:
        raise UserError(
            "--people and --references exclude each other", fix="Put the references into a folder of people."
        )
    with quiet_libraries():
        from lit_restore.commands.restore_jobs import find_jobs, people_in, protect
        from lit_restore.image import check_writable
        from lit_restore.inference import list_photos

        references = [] if options.references in (None, "0") else list_photos(options.references)
        people = people_in(Path(options.people)) if options.people else {}
        jobs = find_jobs(source, output, options.format)
        report = _report_path(options.report)
        protect(
            [*jobs, *report], [*jobs.values(), *references, *(photo for photos in people.values() for photo in photos)]
        )
        if options.dry_run:
            for target, photo in jobs.items():
                print(f"{photo} -> {target}")
            for person, photos in people.items():
                print(f"{person}: {len(photos)} photos")
            print(f"{len(references)} references, at most {options.max_references} are used for a face")
            return 0
        for target in (next(iter(jobs)), *report):
            check_writable(target.parent)
        restorer = load_restorer(options, max_references=options.max_references)
        _enroll(restorer, people, options)
        page = _page(restorer, options) if report else None
        given = options.references if references else ()
        if source.is_dir():
            return _restore_folder(restorer, jobs, given, options, page)
        return _restore_photo(restorer, jobs, given, options, page)


def _report_path(text: str | None) -> list[Path]:
    if text is None:
        return []
    if Path(text).suffix.lower() not in (".html", ".htm"):
        raise UserError("the report is an HTML page", where=text, expected="a name that ends in .html")
    return [Path(text)]


def _page(restorer: Restorer, options: Namespace) -> ReportPage:
    from lit_restore.inference import ReportPage

    return ReportPage(restorer, checkpoint=options.checkpoint)


def _enroll(restorer: Restorer, people: dict[str, list[Path]], options: Namespace) -> None:
    from lit_restore.commands.restore_words import people_lines

    if not people:
        return
    if restorer.no_identity is not None:
        raise restorer.no_identity
    for name, photos in people.items():
        try:
            person = restorer.enroll(name, photos, aligned=options.aligned)
        except UserError as error:
            print(f"note: {error}", file=sys.stderr)
        else:
            for line in people_lines(person):
                print(line, file=sys.stderr)
    if not restorer.people:
        raise UserError("nobody in the people's folders can be used", where=options.people)


def _settings(options: Namespace) -> dict[str, object]:
    names = ("aligned", "crop", "face", "strangers", "trust_references", "strength", "fidelity", "match_colour", "seed")
    return {name: getattr(options, name) for name in names} | {"attention": options.report is not None}


def _restore_photo(
    restorer: Restorer, jobs: Jobs, references: Photo | tuple[()], options: Namespace, page: ReportPage | None
) -> int:
    from lit_restore.commands.restore_words import Notes, face_lines, summary

    notes = Notes(restorer)
    ((target, photo),) = jobs.items()
    restored = restorer.restore(photo, references, **_settings(options))
    restored.save(target)
    if page is not None:
        page.add(restored)
        page.write(options.report)
    notes.add(restored.report, target)
    for line in face_lines(restored.report):
        print(line)
    notes.show(sys.stderr)
    print(f"{target}: {summary(restored.report)}")
    return 0


def _restore_folder(
    restorer: Restorer, jobs: Jobs, references: Photo | tuple[()], options: Namespace, page: ReportPage | None
) -> int:
    from tqdm import tqdm

    from lit_restore.commands.restore_words import Notes, summary
    from lit_restore.inference import write_behind

    notes = Notes(restorer)
    there_already = 0
    failures: dict[str, list[str]] = {}
    targets = {photo: target for target, photo in jobs.items()}
    bar = tqdm(total=len(jobs), desc="Restoring", unit="photo")

    def to_do() -> Iterator[Path]:
        nonlocal there_already
        for target, photo in jobs.items():
            if options.overwrite or not target.exists():
                yield photo
                continue
            there_already += 1  # an interrupted run goes on where it was
            bar.update()
            if page is not None:
                page.skip(photo.name, "its output was there before; --overwrite redoes it")

    results = restorer.restore_many(to_do(), references, **_settings(options))
    try:
        for target, restored in write_behind((targets[photo], result) for photo, result in results):
            photo = jobs[target]
            bar.update()
            if isinstance(restored, UserError):
                failures.setdefault(str(restored), []).append(photo.name)
                if page is not None:
                    page.skip(photo.name, str(restored))
                continue
            if page is not None:
                page.add(restored)
            notes.add(restored.report, target)
            tqdm.write(f"{photo.name}: {summary(restored.report)}")
    finally:
        bar.close()
        if page is not None:
            page.write(options.report)
    notes.show(sys.stderr)
    for reason, names in failures.items():
        print(f"skipped {', '.join(names)}: {reason}", file=sys.stderr)
    num_failed = sum(map(len, failures.values()))
    print(f"{len(jobs) - num_failed} of {len(jobs)} photos are restored in {next(iter(jobs)).parent}", end="")
    print(f", {there_already} of them before; --overwrite redoes these." if there_already else ".")
    return 1 if failures else 0


def _face(text: str) -> str | int:
    if text in ("all", "largest"):
        return text
    if text.isdecimal():
        return int(text)
    raise ArgumentTypeError(f"expected 'all', 'largest' or a number, found '{text}'")


def _parser() -> Parser:
    parser = Parser("restore", "Restore the faces of photos with the help of good photos of the same people.", EXAMPLES)
    add = parser.add_argument
    add("--input", required=True, help="photo, or a folder of photos (JPEG, PNG, WebP, TIFF; 8 or 16 bits)")
    add("--output", required=True, help="image file (.png .jpg .webp .tif), or folder for a folder")
    people = parser.add_argument_group("people")
    people.add_argument(
        "--references", help="folder of good photos of the person, or one photo; without it, or 0: none"
    )
    people.add_argument("--people", help="folder with a folder of good photos per person, for photos of several people")
    people.add_argument(
        "--strangers",
        choices=["leave", "blind"],
        default="leave",
        help="faces of nobody known stay as they are (default), or are restored without references",
    )
    people.add_argument(
        "--trust-references", action="store_true", help="use --references even if they look like another"
    )
    people.add_argument(
        "--max-references", type=at_least(1), default=4, help="use at most this many references for a face (default 4)"
    )
    result = parser.add_argument_group("result")
    result.add_argument("--strength", type=share, default=1.0, help="of the references' identity: 0 to 1 (default 1)")
    result.add_argument(
        "--fidelity", type=share, default=0.0, help="to the photo's coarse shapes and colours: 0 to 1 (default 0)"
    )
    result.add_argument(
        "--match-colour", action="store_true", help="give each face the photo's mean colour and contrast"
    )
    result.add_argument("--crop", action="store_true", help="write the aligned face alone, not the whole photo")
    result.add_argument(
        "--face",
        type=_face,
        default="all",
        help="which faces of a photo: all (default), largest, or a number; 0 is largest",
    )
    result.add_argument(
        "--aligned",
        choices=["auto", "yes", "no"],
        default="auto",
        help="are the photos already aligned square faces? (default: look)",
    )
    result.add_argument("--seed", type=int, default=0, help="of the noise; the same seed gives the same picture")
    result.add_argument(
        "--format",
        choices=["png", "tif", "webp", "jpg", "same"],
        default="png",
        help="of the files in an output folder (default png, which like tif and webp keeps every pixel)",
    )
    result.add_argument(
        "--report", help="HTML page with before and after, identity, and which reference each region drew from"
    )
    result.add_argument("--overwrite", action="store_true", help="redo photos whose output exists (folders)")
    result.add_argument("--dry-run", action="store_true", help="only say which file would become which")
    add_restorer_options(parser)
    return parser
