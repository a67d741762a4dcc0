"""Folders -> manifest: find the photos, read each once, leave out what cannot be used, divide the people."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from lit_restore.data.layouts import find_photos
from lit_restore.data.manifest import Manifest, Photo, Skipped, Split
from lit_restore.data.parallel import bar
from lit_restore.data.photo_files import Found, FoundPhoto
from lit_restore.data.splits import assign_splits
from lit_restore.errors import UserError
from lit_restore.image import pixels_sha256, read_rgb


def build_manifest(
    roots: str | Path | Sequence[str | Path],
    layout: str = "auto",
    split: Split | None = None,
    *,
    min_side_px: int = 64,
    previous: Manifest | None = None,
    num_workers: int = 4,
) -> Manifest:
    """Find, read and divide the photos below one or several roots.

    Args:
        min_side_px: photos whose shorter side is smaller are skipped (degraded inputs are exempt).
        previous: an older manifest; its entries are taken over for files with the same size and time.
        num_workers: threads that read files.

    Raises:
        UserError: a root is missing or empty, or no photo is left.
    """
    roots = [roots] if isinstance(roots, (str, Path)) else list(roots)
    found, names = _find_all([Path(root).absolute() for root in roots], layout)
    known = {photo.path: photo for photo in previous.photos} if previous else {}
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        results = pool.map(lambda photo: _read(photo, known.get(str(photo.path)), min_side_px), found.photos)
        results = list(bar(results, len(found.photos), "Reading photos"))
    photos = [result for result in results if isinstance(result, Photo)]
    skipped = [Skipped(*item) for item in found.skipped] + [item for item in results if isinstance(item, Skipped)]
    for rule in (_skip_duplicates, _skip_single):
        photos, dropped = rule(photos)
        skipped += dropped
    if not photos:
        reasons = "; ".join(f"{item.key}: {item.reason}" for item in skipped[:3])
        raise UserError(
            "no usable photo",
            where=", ".join(map(str, roots)),
            expected="people with two or more photos each",
            found=f"{len(skipped)} skipped ({reasons}{', ...' if len(skipped) > 3 else ''})",
        )
    manifest = Manifest(tuple(photos), tuple(skipped), tuple(str(Path(r).absolute()) for r in roots), tuple(names))
    return assign_splits(manifest, split or Split())


def _find_all(roots: list[Path], layout: str) -> tuple[Found, list[str]]:
    """All roots together; with several, keys and identities are prefixed by the root's (unique) folder
    name."""
    results = [find_photos(root, layout) for root in roots]
    names = [name for name, _ in results]
    if len(roots) == 1:
        return results[0][1], names
    labels = [root.name for root in roots]
    labels = [f"{name}-{index}" if labels.count(name) > 1 else name for index, name in enumerate(labels)]
    photos = [
        replace(
            photo,
            key=f"{label}/{photo.key}",
            identity=f"{label}/{photo.identity}",
            references=None if photo.references is None else tuple(f"{label}/{key}" for key in photo.references),
        )
        for label, (_, found) in zip(labels, results, strict=True)
        for photo in found.photos
    ]
    skipped = [
        (f"{label}/{key}", reason)
        for label, (_, found) in zip(labels, results, strict=True)
        for key, reason in found.skipped
    ]
    return Found(photos, skipped), names


def _read(found: FoundPhoto, known: Photo | None, min_side_px: int) -> Photo | Skipped:
    """Decode the whole file once (a truncated file opens without complaint) and hash it."""
    try:
        stat = found.path.stat()
        if known and (known.num_bytes, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            sha256, pixels, width, height = known.sha256, known.pixels_sha256, known.width, known.height
        else:
            image = read_rgb(found.path)
            (height, width), pixels = image.shape[:2], pixels_sha256(image)
            sha256 = hashlib.sha256(found.path.read_bytes()).hexdigest()
        if found.lq is not None and known is None:
            read_rgb(found.lq)
    except UserError as error:
        return Skipped(found.key, str(error).replace(f": {found.path}", "", 1))
    except OSError as error:
        return Skipped(found.key, f"file cannot be read ({(error.strerror or str(error)).lower()})")
    if min(width, height) < (1 if found.role == "lq" else min_side_px):
        return Skipped(found.key, f"too small ({width}x{height}, at least {min_side_px} px wanted)")
    return Photo(
        key=found.key,
        path=str(found.path),
        identity=found.identity,
        role=found.role,
        split="",
        layout_split=found.split,
        sha256=sha256,
        pixels_sha256=pixels,
        width=width,
        height=height,
        num_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        lq=None if found.lq is None else str(found.lq),
        references=found.references,
        landmarks=None if found.landmarks is None else str(found.landmarks),
    )


def _skip_duplicates(photos: list[Photo]) -> tuple[list[Photo], list[Skipped]]:
    """Keep the first of files with the same pixels. Fixed pairs and listed references may repeat, as
    published."""
    first: dict[str, Photo] = {}
    kept, skipped = [], []
    for photo in photos:
        if photo.role == "hq" and photo.lq is None and photo.references is None:
            twin = first.setdefault(photo.pixels_sha256, photo)
            if twin is not photo:
                other = "" if twin.identity == photo.identity else f", but under another person ({photo.identity})"
                skipped.append(Skipped(photo.key, f"duplicate of {twin.key}{other}"))
                continue
        kept.append(photo)
    return kept, skipped


def _skip_single(photos: list[Photo]) -> tuple[list[Photo], list[Skipped]]:
    """Without another photo of the person there is no reference (the official code drops such people,
    too)."""
    count: dict[str, int] = {}
    for photo in photos:
        count[photo.identity] = count.get(photo.identity, 0) + (photo.role != "lq")
    lonely = [p for p in photos if p.role == "hq" and p.references is None and count[p.identity] == 1 and not p.lq]
    dropped = {photo.key for photo in lonely}
    skipped = [Skipped(photo.key, f"only usable photo of {photo.identity}, no reference left") for photo in lonely]
    return [photo for photo in photos if photo.key not in dropped], skipped
