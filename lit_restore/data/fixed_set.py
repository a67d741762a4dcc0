"""Fixed evaluation sets: degraded once, written as 8-bit PNG with the records they can be re-created from.

``hq/<person>/<photo>.png`` and ``lq/<person>/<photo>.png`` (layout ``pairs``), references that a data set
lists by name under ``ref/<person>/<photo>/``, and ``records.json`` with library versions and checksums
(degradations.md 6.4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.manifest import Manifest, Photo
from lit_restore.data.parallel import parallel_map
from lit_restore.data.photo_files import refuse_others
from lit_restore.data.references import ReferencePools
from lit_restore.image import atomic_path, fit_square, read_rgb, write_image

VERSION = 1
RECORDS_NAME = "records.json"


@dataclass(frozen=True)
class _Job:
    photo: Photo
    references: tuple[Photo, ...]
    name: str
    """``<person>/<photo>`` in the new set."""
    record: dict[str, Any]
    known: dict[str, Any] | None
    """What an earlier run wrote down for this photo."""
    size_px: int
    folder: Path


def write_fixed_set(
    manifest: Manifest,
    targets: Sequence[Photo],
    degradation: Degradation,
    size_px: int,
    folder: str | Path,
    *,
    num_workers: int = 1,
) -> int:
    """Degrade ``targets`` as in epoch 0 and write the set. What an earlier run has finished is kept.

    Returns:
        Number of photos written by this call.

    Raises:
        UserError: the folder holds photos of another set.
    """
    folder = Path(folder)
    known = read_records(folder)
    refuse_others(folder / "hq", [f"{name}.png" for name in _names(targets)])
    pools = ReferencePools(manifest)
    jobs = [
        _Job(
            photo=photo,
            references=() if photo.references is None else tuple(pools.candidates(photo)),
            name=name,
            record=degradation.record(photo.key, 0, (size_px, size_px)),
            known=known.get(name),
            size_px=size_px,
            folder=folder,
        )
        for photo, name in zip(targets, _names(targets), strict=True)
    ]
    done, num_written = dict(known), 0
    try:
        results = parallel_map(_write_one, jobs, num_workers=num_workers, title="Degrading photos")
        for job, entry in zip(jobs, results, strict=True):
            num_written += entry != job.known
            done[job.name] = entry
    finally:
        _write_records(folder, done)
    return num_written


def read_records(folder: str | Path) -> dict[str, Any]:
    """The records of a fixed set by ``<person>/<photo>``; empty if there are none or they cannot be read."""
    try:
        content = json.loads((Path(folder) / RECORDS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content["photos"] if isinstance(content, dict) and content.get("version") == VERSION else {}


def _write_records(folder: Path, photos: dict[str, Any]) -> None:
    libraries = {"numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__}
    content = {"version": VERSION, "libraries": libraries, "photos": dict(sorted(photos.items()))}
    with atomic_path(folder / RECORDS_NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _names(targets: Sequence[Photo]) -> list[str]:
    """``<person>/<stem>``; the suffix is kept in the name where two photos differ in it only."""
    people = [photo.identity.replace("/", "-") for photo in targets]
    names = [f"{person}/{Path(photo.key).stem}" for person, photo in zip(people, targets, strict=True)]
    return [
        name if names.count(name) == 1 else f"{person}/{Path(photo.key).name.replace('.', '_')}"
        for name, person, photo in zip(names, people, targets, strict=True)
    ]


def _write_one(job: _Job) -> dict[str, Any]:
    """Write one photo of the set and return its entry in the records."""
    files = {kind: job.folder / kind / f"{job.name}.png" for kind in ("hq", "lq")}
    wanted = {"source": job.photo.key, "source_sha256": job.photo.sha256, "record": job.record}
    known = job.known or {}
    if all(known.get(field) == value for field, value in wanted.items()) and all(
        known.get(f"{kind}_sha256") == _sha256(path) for kind, path in files.items()
    ):
        return known
    hq = fit_square(read_rgb(job.photo.path), job.size_px)
    write_image(hq, files["hq"])
    lq = degrade(hq, job.record)
    write_image(np.rint(np.clip(lq, 0, 1) * 255).astype(np.uint8), files["lq"])
    for number, reference in enumerate(job.references):
        path = job.folder / "ref" / job.name / f"{number:02d}.png"
        write_image(fit_square(read_rgb(reference.path), job.size_px), path)
    return wanted | {f"{kind}_sha256": _sha256(path) for kind, path in files.items()}


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
