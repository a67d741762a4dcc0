"""Folder layouts of face data sets: which file is which photo of which person.

Each layout is one pure function ``root -> Found``; it looks at names only and opens no image. `find_photos`
picks the function by name or, for ``auto``, by the marks that only one layout has. Where the public sets come
from: data/README.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from lit_restore.data.ffhq_ref import ffhq_ref, ffhq_ref_moderate, ffhq_ref_severe
from lit_restore.data.photo_files import (
    Found,
    FoundPhoto,
    folders_in,
    image_named,
    images_below,
    images_in,
    natural_key,
    photo_key,
    unsupported_in,
)
from lit_restore.errors import UserError, nearest

# The 17 people (252 photos) that InstantRestore keeps for testing on CelebRef-HQ (paper, section 4), by the
# folder numbers in the demo of the official repository. The other 988 train.
CELEBREF_HQ_TEST = {
    *("00001", "00027", "00049", "00052", "00062", "00082", "00116", "00168", "00224", "00232"),
    *("00291", "00435", "00479", "00621", "00737", "00749", "00757"),
}


def find_photos(root: str | Path, layout: str = "auto") -> tuple[str, Found]:
    """List the photos below ``root``.

    Returns:
        The layout's name (useful after ``auto``) and what it found, in natural order of the keys.

    Raises:
        UserError: the folder is missing or empty, the layout is unknown, does not fit, or cannot be told.
    """
    root = Path(root)
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise UserError(
            "no such data folder",
            where=root,
            expected="a folder of people",
            found=found,
            fix="Check the path.",
        )
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError("unknown layout", where=layout, fix=nearest(layout, ["auto", *LAYOUTS]))
    name = detect_layout(root) if layout == "auto" else layout
    found = LAYOUTS[name](root)
    if not found.photos:
        raise UserError(
            "no photos found",
            where=root,
            expected=f"layout {name}: {EXPECTED[name]}",
            found=_contents(root),
            fix="Name the layout that fits, or move the photos.",
        )
    photos = sorted(found.photos, key=lambda photo: natural_key(photo.key))
    return name, Found(photos, sorted(found.skipped, key=lambda item: natural_key(item[0])))


def detect_layout(root: Path) -> str:
    """Name of the one layout whose marks are present.

    Raises:
        UserError: none or several layouts fit.
    """
    folders = folders_in(root)
    names = {folder.name for folder in folders}
    marks = {
        "ffhq_ref": (root / "reference_mapping").is_dir(),
        "pairs": {"lq", "hq"} <= names,
        "instantrestore_train": any((folder / "cropped_images").is_dir() for folder in folders),
        "instantrestore_test": any(image_named(folder, "degraded") for folder in folders),
    }
    fitting = [name for name, present in marks.items() if present]
    if len(fitting) > 1:
        raise UserError(
            "the layout is ambiguous",
            where=root,
            found=" and ".join(fitting),
            fix="Name it with the layout option.",
        )
    if fitting == ["ffhq_ref"] and (root / "test_images").is_dir():
        raise UserError(
            "FFHQ-Ref has two published test inputs",
            where=root / "test_images",
            fix="Name the layout: ffhq_ref_moderate, ffhq_ref_severe, or ffhq_ref to degrade on the fly.",
        )
    if fitting:
        return fitting[0]
    if names >= CELEBREF_HQ_TEST and all(re.fullmatch(r"\d{5}", name) for name in names):
        return "celebref_hq"
    if any(images_in(folder) for folder in folders):
        return "people"
    if images_in(root):
        return "lq_only"
    if not any(root.iterdir()):
        raise UserError("the data folder is empty", where=root, expected="a folder of people", fix="Check the path.")
    raise UserError(
        "no known layout fits",
        where=root,
        expected="; ".join(f"{name}: {shape}" for name, shape in EXPECTED.items()),
        found=_contents(root),
    )


def people(root: Path) -> Found:
    """``root/<identity>/*.{jpg,jpeg,png,webp}``: every photo is a target and a reference for the others."""
    photos = [
        FoundPhoto(path, photo_key(root, path), _identity(folder))
        for folder in folders_in(root)
        for path in images_in(folder)
    ]
    loose = [(photo_key(root, path), "not in a person's folder") for path in images_in(root)]
    loose += [
        (photo_key(root, inner), "photos one folder too deep, expected <person>/<photo>")
        for folder in folders_in(root)
        for inner in folders_in(folder)
        if images_in(inner)
    ]
    return Found(photos, loose + unsupported_in(root, [root, *folders_in(root)]))


def celebref_hq(root: Path) -> Found:
    """CelebRef-HQ as released: ``root/<five digits>/*.png``; the paper's 17 test people become the test
    split."""
    found = people(root)
    photos = [
        FoundPhoto(p.path, p.key, p.identity, split="test" if p.identity in CELEBREF_HQ_TEST else None)
        for p in found.photos
    ]
    return Found(photos, found.skipped)


def instantrestore_train(root: Path) -> Found:
    """``root/<identity>/cropped_images/*`` with optional ``new_landmarks/<stem>.npy`` (instantrestore.md
    12)."""
    photos = []
    for folder in folders_in(root):
        for path in images_in(folder / "cropped_images"):
            landmarks = folder / "new_landmarks" / f"{path.stem}.npy"
            ready = landmarks if landmarks.is_file() else None
            photos.append(FoundPhoto(path, photo_key(root, path), _identity(folder), landmarks=ready))
    return Found(photos, unsupported_in(root, [folder / "cropped_images" for folder in folders_in(root)]))


def instantrestore_test(root: Path) -> Found:
    """``root/<identity>/{degraded.png, gt.png, conditioning/*}`` (instantrestore.md 12); all of it is the
    test split."""
    photos, skipped = [], []
    for folder in folders_in(root):
        degraded, truth = image_named(folder, "degraded"), image_named(folder, "gt")
        skipped += unsupported_in(root, [folder, folder / "conditioning"])
        references = sorted(images_in(folder / "conditioning"), key=lambda path: natural_key(path.name))
        if degraded is None:
            where = "beside it" if truth else "in it"
            skipped.append((photo_key(root, truth or folder), f"no degraded image {where}"))
            continue
        keys = tuple(photo_key(root, path) for path in references)
        target, lq, role = (truth, degraded, "hq") if truth else (degraded, None, "lq")
        identity = _identity(folder)
        photos.append(FoundPhoto(target, photo_key(root, target), identity, role, lq, keys, "test"))
        photos += [
            FoundPhoto(path, key, identity, "reference", split="test")
            for path, key in zip(references, keys, strict=True)
        ]
    return Found(photos, skipped)


def pairs(root: Path) -> Found:
    """``root/lq`` and ``root/hq`` with the same names, at most one folder deep; all of it is the test split.

    ``lq/<identity>/<stem>`` gives the person, whose other photos are the references; for ``lq/<stem>`` every
    photo is its own person. ``ref/<identity>/<stem>/*`` or ``ref/<stem>/*`` overrides the references of one
    photo.
    """
    photos: list[FoundPhoto] = []
    lq_by_stem, lq_skipped = _by_stem(root, "lq")
    hq_by_stem, hq_skipped = _by_stem(root, "hq")
    for stem in lq_by_stem.keys() & hq_by_stem.keys():
        target = hq_by_stem[stem]
        identity = unicodedata.normalize("NFC", stem.split("/")[0])
        own = sorted(images_in(root / "ref" / stem), key=lambda path: natural_key(path.name))
        keys = tuple(photo_key(root, path) for path in own) if own or "/" not in stem else None
        photos.append(FoundPhoto(target, photo_key(root, target), identity, "hq", lq_by_stem[stem], keys, split="test"))
        photos += [FoundPhoto(path, photo_key(root, path), identity, "reference", split="test") for path in own]
    alone = [(path, "no hq file of the same name") for stem, path in lq_by_stem.items() if stem not in hq_by_stem]
    alone += [(path, "no lq file of the same name") for stem, path in hq_by_stem.items() if stem not in lq_by_stem]
    skipped = [(photo_key(root, path), reason) for path, reason in alone]
    return Found(photos, [*skipped, *lq_skipped, *hq_skipped])


def _by_stem(root: Path, kind: str) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Photos of one side of the pairs by person and stem, and (key, reason) of those left out."""
    photos: dict[str, Path] = {}
    skipped = unsupported_in(root, [root / kind, *folders_in(root / kind)])
    for path in images_below(root / kind):
        first = photos.setdefault(path.relative_to(root / kind).with_suffix("").as_posix(), path)
        if first is not path:
            skipped.append((photo_key(root, path), f"same name as {first.name}, which is taken"))
    return photos, skipped


def lq_only(root: Path) -> Found:
    """``root/*``: degraded photos without ground truth or references; all of it is the test split."""
    photos = [
        FoundPhoto(path, photo_key(root, path), path.stem, "lq", references=(), split="test")
        for path in images_in(root)
    ]
    return Found(photos, unsupported_in(root, [root]))


def _identity(folder: Path) -> str:
    return unicodedata.normalize("NFC", folder.name)


def _contents(root: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


LAYOUTS: dict[str, Callable[[Path], Found]] = {
    "people": people,
    "celebref_hq": celebref_hq,
    "instantrestore_train": instantrestore_train,
    "instantrestore_test": instantrestore_test,
    "ffhq_ref": ffhq_ref,
    "ffhq_ref_moderate": ffhq_ref_moderate,
    "ffhq_ref_severe": ffhq_ref_severe,
    "pairs": pairs,
    "lq_only": lq_only,
}

EXPECTED: dict[str, str] = {
    "people": "<person>/*.{jpg,jpeg,png,webp}",
    "celebref_hq": "<five digits>/*.png",
    "instantrestore_train": "<person>/cropped_images/*",
    "instantrestore_test": "<person>/{degraded.png,gt.png,conditioning/*}",
    "ffhq_ref": "reference_mapping/*_references.csv and images512x512/",
    "ffhq_ref_moderate": "as ffhq_ref, with test_images/moderate_degrad/",
    "ffhq_ref_severe": "as ffhq_ref, with test_images/severe_degrad/",
    "pairs": "lq/* and hq/* with the same names",
    "lq_only": "image files directly in the folder",
}
