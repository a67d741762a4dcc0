"""``lit_restore prepare``: read a data set once, so that training can start at once.

Four uses: make a manifest with landmarks; cut out and align faces first; write synthetic people; write a
fixed degraded evaluation set. All of them can be interrupted and repeated: finished work is kept.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser, at_least
from lit_restore.errors import UserError
from lit_restore.image import atomic_path, check_writable

if TYPE_CHECKING:
    from lit_restore.data.manifest import Manifest, Photo, Skipped, Split

EXAMPLES = """\
examples:
  lit_restore prepare photos/ --output data/me --align 512
      cut out and align the faces of photos/<person>/*.jpg, with landmarks
  lit_restore prepare crops/ --output data/crops --landmarks auto
      manifest and landmarks of faces that are aligned already; the photos stay where they are
  lit_restore prepare --synthetic --identities 64 --images 8 --size 128 --output data/synthetic
      render people who do not exist, with exact landmarks
  lit_restore prepare data/me --degrade diffbir_face --only test --size 512 --output data/me_test
      a fixed test set: hq/, lq/ and the records the lq files were made from

Then train with 'lit_restore fit --config ... --data.root DIR'. Layouts: data/README.md.
"""

MIN_SIDE_PX = 16
"""Of written photos: nothing smaller is a face."""


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv[0]`` is its name.

    Returns:
        Exit code: 0, or 1 if it is done but some photos were skipped.

    Raises:
        UserError: anything the user can put right.
    """
    options = _parser().parse_args(argv[1:])
    _check_combination(options)
    if not options.dry_run:
        check_writable(options.output)
    if options.synthetic:
        return _prepare_synthetic(options)
    if options.degrade:
        return _prepare_fixed_set(options)
    if options.align:
        return _prepare_aligned(options)
    if options.dry_run:
        _summarise(_build(options, options.root, options.layout, min_side_px=options.min_side))
        plan = f"from {options.landmarks_from}" if options.landmarks_from else options.landmarks
        print(f"Would write the manifest to {options.output}; landmarks: {plan}.")
        return 0
    return _write_manifest(options, options.root, options.layout, min_side_px=options.min_side)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "prepare",
        "Read a folder of people once: who is who, what is unusable, who is in which split, landmarks.",
        EXAMPLES,
    )
    parser.add_argument("root", nargs="*", help="folder(s) of photos, one sub-folder per person, or a known layout")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the result goes")
    parser.add_argument("--layout", default="auto", help="how ROOT is organised (default: found out)")
    parser.add_argument("--val", type=float, metavar="X", help="people for validation: share or number (0.1)")
    parser.add_argument("--test", type=float, metavar="X", help="people for testing: share or number (0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of split, synthetic people or degradation (0)")
    parser.add_argument("--min-side", type=at_least(1), default=64, metavar="PX", help="skip smaller photos (64)")
    parser.add_argument("--workers", type=at_least(1), metavar="N", help="processes (default: one per core)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    landmarks = parser.add_argument_group("landmarks and alignment")
    landmarks.add_argument(
        "--landmarks",
        default="none",
        choices=("none", "auto", "retinaface", "face-alignment"),
        help="find 68 landmarks per photo, which become 1,349 (none)",
    )
    landmarks.add_argument("--landmarks-from", metavar="PATH", help="ready ones: folder of .npy, or one .npz file")
    landmarks.add_argument("--weights", metavar="DIR", help="folder of the detectors' weight files")
    landmarks.add_argument(
        "--face",
        default="only",
        choices=("only", "largest"),
        help="photos that show several faces: skip them (only), or take the largest face (only)",
    )
    landmarks.add_argument(
        "--align", type=at_least(MIN_SIDE_PX), metavar="PX", help="cut out each photo's face, this size, as PNG"
    )
    synthetic = parser.add_argument_group("synthetic people and fixed test sets")
    synthetic.add_argument("--synthetic", action="store_true", help="render people instead of reading ROOT")
    synthetic.add_argument("--identities", type=int, default=64, metavar="N", help="people (64)")
    synthetic.add_argument("--images", type=int, default=8, metavar="N", help="photos of each (8)")
    synthetic.add_argument("--degrade", metavar="PROFILE", help="write degraded and original photos of ROOT")
    synthetic.add_argument(
        "--scale-degradation", action="store_true", help="adapt PROFILE, stated for 512 px, to --size"
    )
    synthetic.add_argument("--only", choices=("train", "val", "test"), help="degrade one split only (default: all)")
    synthetic.add_argument(
        "--size", type=at_least(MIN_SIDE_PX), default=512, metavar="PX", help="side of written photos (512)"
    )
    return parser


def _check_combination(options: argparse.Namespace) -> None:
    modes = [f"--{name}" for name in ("synthetic", "degrade", "align") if getattr(options, name)]
    if len(modes) > 1:
        raise UserError("these options exclude each other", found=" ".join(modes), fix="Run one after the other.")
    if options.synthetic and options.root:
        raise UserError("--synthetic needs no folder", found=" ".join(options.root), fix="Leave it out.")
    if not options.synthetic and not options.root:
        raise UserError("no folder given", fix="Name a folder of people, or use --synthetic.")
    output = Path(options.output).absolute()
    if output.exists() and not output.is_dir():
        raise UserError("the output is a file", where=output, expected="a folder")
    if options.degrade or options.align:
        for root in options.root:
            if output == Path(root).absolute() or output.is_relative_to(Path(root).absolute()):
                raise UserError("the output lies inside the input", where=output, fix="Choose a folder outside of it.")


def _prepare_synthetic(options: argparse.Namespace) -> int:
    from lit_restore.data.synthetic_folder import SyntheticPeople, write_synthetic_people

    people = SyntheticPeople(options.identities, options.images, options.seed)
    if options.dry_run:
        print(f"Would render {people.identities} people, {people.images_per_identity} photos of each, ", end="")
        print(f"{options.size} px, into {options.output}.")
        return 0
    num = write_synthetic_people(people, options.size, options.output, num_workers=_workers(options))
    print(f"Rendered {num} photos.")
    return _write_manifest(options, [options.output], layout="people", min_side_px=1)


def _prepare_aligned(options: argparse.Namespace) -> int:
    """Cut out the faces first; then they are a people folder like others."""
    from lit_restore.data.aligned_folder import write_aligned_people

    manifest = _scan(options)
    if options.dry_run:
        _summarise(manifest)
        print(f"Would align these photos to {options.align} px into {options.output}.")
        return 0
    backend = "auto" if options.landmarks == "none" else options.landmarks
    skipped = write_aligned_people(
        manifest.photos,
        options.align,
        options.output,
        backend=backend,
        weights=options.weights,
        choose=options.face,
        num_workers=_workers(options),
    )
    more_skipped = [*manifest.skipped, *skipped]
    return _write_manifest(options, [options.output], "people", min_side_px=1, more_skipped=more_skipped)


def _prepare_fixed_set(options: argparse.Namespace) -> int:
    from lit_restore.data.degradation import Degradation
    from lit_restore.data.fixed_set import write_fixed_set

    degradation = Degradation(options.degrade, seed=options.seed, scale_to_resolution=options.scale_degradation)
    manifest = _scan(options)
    targets = [p for p in manifest.photos if p.role == "hq" and options.only in (None, p.split)]
    if not targets:
        raise UserError("no photos to degrade", where=" ".join(options.root), found=f"split {options.only} is empty")
    if options.dry_run:
        print(f"Would degrade {len(targets)} photos by {options.degrade} at {options.size} px into {options.output}.")
        return 0
    num = write_fixed_set(manifest, targets, degradation, options.size, options.output, num_workers=_workers(options))
    print(f"{len(targets)} photos in {options.output} ({num} written now); layout: pairs.")
    _write_skipped(manifest.skipped, [], Path(options.output))
    return _list_skipped("Skipped", manifest.skipped, options.output)


def _scan(options: argparse.Namespace) -> Manifest:
    """The manifest of ROOT: the one in a prepared folder, else a new one."""
    from dataclasses import replace

    from lit_restore.data.manifest import MANIFEST_NAME, read_prepared
    from lit_restore.data.scan import build_manifest
    from lit_restore.data.splits import assign_splits

    if len(options.root) == 1 and (Path(options.root[0]) / MANIFEST_NAME).exists():
        manifest = replace(read_prepared(options.root[0]), skipped=())  # what was skipped then is no news now
        return manifest if options.val is options.test is None else assign_splits(manifest, _split(options))
    return build_manifest(options.root, options.layout, _split(options), min_side_px=options.min_side)


def _split(options: argparse.Namespace) -> Split:
    from lit_restore.data.manifest import Split

    shares = {name: getattr(options, name) for name in ("val", "test") if getattr(options, name) is not None}
    return Split(**shares, seed=options.seed)


def _write_manifest(
    options: argparse.Namespace,
    roots: list[str],
    layout: str,
    *,
    min_side_px: int,
    more_skipped: Sequence[Skipped] = (),
) -> int:
    """Scan, find landmarks, write manifest.json and skipped.csv, print a summary."""
    from dataclasses import replace

    from lit_restore.data.manifest import MANIFEST_NAME, write_manifest
    from lit_restore.data.splits import check_leaks

    path = Path(options.output) / MANIFEST_NAME
    manifest = _build(options, roots, layout, min_side_px=min_side_px)
    manifest = replace(manifest, skipped=(*more_skipped, *manifest.skipped))
    write_manifest(manifest, path)
    without = _find_landmarks(options, [photo for photo in manifest.photos if photo.role != "lq"])
    _write_skipped(manifest.skipped, without, Path(options.output))
    _summarise(manifest, without, options.output)
    for problem in check_leaks(manifest):
        raise UserError("the splits leak", where=path, found=problem, fix="Remove one of the copies.")
    return 1 if manifest.skipped or without else 0


def _build(options: argparse.Namespace, roots: list[str], layout: str, *, min_side_px: int) -> Manifest:
    """Scan anew, but for unchanged photos that an earlier run has read."""
    from lit_restore.data.manifest import MANIFEST_NAME, read_previous
    from lit_restore.data.scan import build_manifest

    previous = read_previous(Path(options.output) / MANIFEST_NAME)
    return build_manifest(roots, layout, _split(options), min_side_px=min_side_px, previous=previous)


def _find_landmarks(options: argparse.Namespace, photos: list[Photo]) -> list[Skipped]:
    """Photos without landmarks, with reasons."""
    from lit_restore.data.landmarks import compute_landmarks, discard_stale
    from lit_restore.data.manifest import Skipped
    from lit_restore.data.ready_landmarks import ReadyLandmarks, import_landmarks
    from lit_restore.data.synthetic_folder import LANDMARKS_NAME

    cache = Path(options.output) / LANDMARKS_NAME
    if options.synthetic or options.align:
        return []
    if options.landmarks_from:
        return import_landmarks(photos, cache, ReadyLandmarks(options.landmarks_from))
    if options.landmarks != "none":
        from lit_restore.data.detect_landmarks import LandmarkDetector

        detector = LandmarkDetector(options.landmarks, options.weights, options.face)
        return compute_landmarks(photos, cache, detector, detector.check(), num_workers=_workers(options))
    if any(photo.landmarks for photo in photos):
        return import_landmarks(photos, cache, ReadyLandmarks())
    stale = [photo for photo in photos if discard_stale(cache, photo)]
    reason = "those of an earlier version of it were removed (--landmarks finds new ones)"
    return [Skipped(photo.key, reason) for photo in stale]


def _write_skipped(skipped: Sequence[Skipped], without: Sequence[Skipped], folder: Path) -> None:
    """All left-out photos and all photos without landmarks, for a spreadsheet: ``skipped.csv``."""
    with atomic_path(folder / "skipped.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("photo", "what", "reason"))
        writer.writerows((item.key, "skipped", item.reason) for item in skipped)
        writer.writerows((item.key, "no landmarks", item.reason) for item in without)


def _summarise(manifest: Manifest, without: Sequence[Skipped] = (), output: str | None = None) -> None:
    """``output``: the folder with skipped.csv, if it has been written."""
    print(f"Layout {', '.join(manifest.layouts)}: {len(manifest.photos)} photos of ", end="")
    print(f"{len(manifest.identities())} people.")
    photos = Counter(photo.split for photo in manifest.photos)
    for split in ("train", "val", "test"):
        print(f"  {split:5s} {len(manifest.identities(split)):5d} people {photos[split]:6d} photos")
    if manifest.layouts == ("lq_only",):
        print("Photos without truth or references, to be restored; to train, give each person a folder of photos.")
    _list_skipped("Skipped", manifest.skipped, output)
    _list_skipped("Without landmarks", without, output)


def _list_skipped(title: str, items: Sequence[Skipped], output: str | None) -> int:
    """Print the first few; the exit code that says whether there are any."""
    if items:
        print(f"{title}: {len(items)}" + (f" (all in {output}/skipped.csv)" if output and len(items) > 10 else ""))
        for item in items[:10]:
            print(f"  {item.key}: {item.reason}")
    return 1 if items else 0


def _workers(options: argparse.Namespace) -> int:
    from lit_restore.data.parallel import num_cores

    return options.workers or num_cores()
