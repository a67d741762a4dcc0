"""ReF-LDM's FFHQ-Ref: lists of targets and references over FFHQ's photos (degradations.md 5.1)."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterable
from pathlib import Path

from lit_restore.data.photo_files import Found, FoundPhoto, images_below, photo_key
from lit_restore.errors import UserError


def ffhq_ref(root: Path) -> Found:
    """ReF-LDM's FFHQ-Ref lists over FFHQ photos; the degraded input is made on the fly."""
    return _ffhq_ref(root, None)


def ffhq_ref_moderate(root: Path) -> Found:
    """FFHQ-Ref with the published moderate test inputs, ``test_images/moderate_degrad``."""
    return _ffhq_ref(root, "moderate_degrad")


def ffhq_ref_severe(root: Path) -> Found:
    """FFHQ-Ref with the published severe test inputs, ``test_images/severe_degrad``."""
    return _ffhq_ref(root, "severe_degrad")


def _ffhq_ref(root: Path, lq_folder: str | None) -> Found:
    """``reference_mapping/{train,val,test}_references.csv`` (gt_image, [lq_image,] ref_image = list of
    names).

    FFHQ's photos lie in ``images512x512`` or ``images1024x1024``, flat or in the thousand-folders of the
    download. A person is a connected group of targets and references, named after its first photo.
    """
    images = next(
        (root / name for name in ("images512x512", "images1024x1024", "images") if (root / name).is_dir()),
        None,
    )
    if images is None:
        raise UserError(
            "FFHQ's photos are not there",
            where=root,
            expected="images512x512/ or images1024x1024/ beside the lists",
        )
    by_stem = {path.stem: path for path in images_below(images)}
    lq_by_stem = _published_inputs(root, lq_folder) if lq_folder else {}
    photos, skipped, listed = [], [], dict[str, str]()
    rows = [
        (split, *row)
        for split in ("train", "val", "test")
        for row in _reference_rows(root / "reference_mapping" / f"{split}_references.csv")
    ]
    identities = _connected((target, *references) for _, target, references in rows)
    for split, target, references in rows:
        if target not in by_stem or (split == "test" and lq_folder and target not in lq_by_stem):
            skipped.append((f"{images.name}/{target}.png", "listed, but the file is not there"))
            continue
        present = [by_stem[name] for name in references if name in by_stem]
        keys = tuple(photo_key(root, path) for path in present)
        path, identity = by_stem[target], identities[target]
        lq = lq_by_stem[target] if split == "test" and lq_folder else None
        photos.append(FoundPhoto(path, photo_key(root, path), identity, "hq", lq, keys, split))
        listed.update({name: split for name in references if name in by_stem})
    targets = {target for _, target, _ in rows}
    photos += [
        FoundPhoto(by_stem[name], photo_key(root, by_stem[name]), identities[name], "reference", split=split)
        for name, split in listed.items()
        if name not in targets
    ]
    return Found(photos, skipped)


def _published_inputs(root: Path, lq_folder: str) -> dict[str, Path]:
    folder = root / "test_images" / lq_folder
    if not folder.is_dir():
        raise UserError(
            "the published test inputs are not there", where=folder, fix="Use layout ffhq_ref without them."
        )
    return {path.stem: path for path in images_below(folder)}


def _reference_rows(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(target stem, reference stems) of each row; a missing list gives none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"gt_image", "ref_image"} <= set(reader.fieldnames or ()):
            raise UserError(
                "not a reference list",
                where=path,
                expected="columns gt_image, ref_image",
                found=reader.fieldnames,
            )
        rows = []
        for row in reader:
            try:
                names = ast.literal_eval(row["ref_image"])
            except (ValueError, SyntaxError):
                raise UserError(
                    "bad reference list",
                    where=f"{path}, line {reader.line_num}",
                    expected="['a.png', 'b.png']",
                    found=row["ref_image"],
                ) from None
            rows.append((Path(row["gt_image"]).stem, tuple(Path(name).stem for name in names)))
        return rows


def _connected(groups: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Name of the connected component of every member (its smallest member)."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for group in groups:
        roots = sorted({find(name) for name in group})
        for other in roots[1:]:
            parent[other] = roots[0]
    return {name: find(name) for name in parent}
