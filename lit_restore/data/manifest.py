"""The manifest: every photo of a data set with size, content hash and split; and why others were left out.

It is made from one or several folders (`scan.build_manifest`) and kept as one JSON file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.image import atomic_path

VERSION = 2
MANIFEST_NAME = "manifest.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """How people are divided.

    Attributes:
        val: share of the people (below 1) or their number (1 and more) for validation.
        test: the same for testing. Both get at least one person where the share is above 0 and there are
            enough.
        seed: another seed, another division.
        keep_layout: keep the split that a data set itself names (test sets, published lists); its other
            photos are divided over the remaining splits.
    """

    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    keep_layout: bool = True

    def __post_init__(self) -> None:
        for name, value in (("val", self.val), ("test", self.test)):
            if value < 0 or (value >= 1 and value != int(value)):
                raise UserError(
                    "bad split",
                    where=name,
                    expected="a share below 1 or a whole number of people",
                    found=value,
                )
        if max(self.val, self.test) < 1 <= self.val + self.test:
            raise UserError(
                "bad split: nobody is left to train with",
                expected="shares for validation and testing that add up to less than 1",
                found=f"val {self.val:g} and test {self.test:g}",
            )


@dataclass(frozen=True)
class Photo:
    """One readable photo.

    Attributes:
        key: stable name, see `photo_files.FoundPhoto`; with several roots it starts with the root's name.
        path: absolute path of the file.
        identity: the person; with several roots it starts with the root's name, too.
        role: ``hq``, ``lq`` or ``reference``, see `photo_files.FoundPhoto`.
        split: ``train``, ``val`` or ``test``; empty in a manifest whose splits are not assigned yet.
        layout_split: the split that the data set itself names.
        sha256: of the file's bytes; landmarks and fixed sets know their photo by it.
        pixels_sha256: of the upright picture; the same photo saved again has the same one.
        width, height: pixels, upright.
        num_bytes, mtime_ns: of the file, to notice changes without reading it.
        lq: absolute path of the fixed degraded version.
        references: keys of the photos that may serve as references; None = the person's other photos.
        landmarks: absolute path of a ready landmark file.
    """

    key: str
    path: str
    identity: str
    role: str
    split: str
    layout_split: str | None
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    num_bytes: int
    mtime_ns: int
    lq: str | None = None
    references: tuple[str, ...] | None = None
    landmarks: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A photo that was left out, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All photos of a data set in natural order of their keys."""

    photos: tuple[Photo, ...]
    skipped: tuple[Skipped, ...] = ()
    roots: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    split: Split = Split()

    def identities(self, split: str | None = None) -> list[str]:
        """Sorted names of the people (of one split)."""
        return sorted({photo.identity for photo in self.photos if split in (None, photo.split)})

    def targets(self, split: str) -> list[Photo]:
        """The photos of a split that are restored (everything but pure references)."""
        return [photo for photo in self.photos if photo.split == split and photo.role != "reference"]


def read_prepared(folder: str | Path) -> Manifest:
    """The manifest of a prepared folder, whose photos are as they were then.

    Raises:
        UserError: as `read_manifest`; a photo has gone or changed.
    """
    manifest = read_manifest(Path(folder) / MANIFEST_NAME)
    for problem in check_files(manifest):
        raise UserError(
            "the data set is not as it was prepared",
            where=folder,
            found=problem,
            fix="Run 'lit_restore prepare' again.",
        )
    return manifest


def read_previous(path: str | Path) -> Manifest | None:
    """What an earlier run left, to spare reading unchanged photos again; None if there is nothing, or an older version.

    Raises:
        UserError: the file is no manifest.
    """
    path = Path(path)
    try:
        return read_manifest(path) if path.exists() else None
    except OlderManifest:
        return None


class OlderManifest(UserError):
    """It can be made again from the photos."""


def check_files(manifest: Manifest) -> list[str]:
    """Sentences about photos that have gone or have another size than when they were read."""
    problems = []
    for photo in manifest.photos:
        try:
            found = os.stat(photo.path).st_size
        except OSError:
            problems.append(f"{photo.path} is gone")
            continue
        if found != photo.num_bytes:
            problems.append(f"{photo.path} has changed ({photo.num_bytes} -> {found} bytes)")
    return problems


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write as JSON, complete or not at all. Photos below the manifest's own folder are stored relative to
    it, so that a prepared folder can be moved."""
    path = Path(path).absolute()
    content = {"version": VERSION, **asdict(manifest)}
    for photo in content["photos"]:
        for field in ("path", "lq", "landmarks"):
            photo[field] = _relative(photo[field], path.parent)
    content["roots"] = [_relative(root, path.parent) for root in manifest.roots]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(path: str | Path) -> Manifest:
    """Read what `write_manifest` wrote.

    Raises:
        UserError: missing, not a manifest, or of another version.
    """
    path = Path(path).absolute()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("version")
    except FileNotFoundError:
        raise UserError("no such manifest", where=path, fix="Make it with 'lit_restore prepare'.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise UserError("not a manifest", where=path, fix="Delete it and run 'lit_restore prepare' again.") from None
    if version != VERSION:
        older = isinstance(version, int) and version < VERSION
        raise (OlderManifest if older else UserError)(
            "manifest of another version",
            where=path,
            expected=VERSION,
            found=version,
            fix="Delete it and run 'lit_restore prepare' again.",
        )
    try:
        for photo in content["photos"]:
            for field in ("path", "lq", "landmarks"):
                photo[field] = _absolute(photo[field], path.parent)
            photo["references"] = None if photo["references"] is None else tuple(photo["references"])
        return Manifest(
            photos=tuple(Photo(**photo) for photo in content["photos"]),
            skipped=tuple(Skipped(**item) for item in content["skipped"]),
            roots=tuple(_absolute(root, path.parent) for root in content["roots"]),
            layouts=tuple(content["layouts"]),
            split=Split(**content["split"]),
        )
    except (KeyError, TypeError):
        raise UserError("damaged manifest", where=path, fix="Delete it and run 'lit_restore prepare' again.") from None


def _relative(path: str | None, folder: Path) -> str | None:
    if path is None or not Path(path).is_relative_to(folder):
        return path
    return Path(path).relative_to(folder).as_posix()


def _absolute(path: str | None, folder: Path) -> str | None:
    return None if path is None else os.path.normpath(os.path.join(folder, path))
