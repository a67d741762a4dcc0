"""Landmarks that somebody else made: found by photo, checked, copied into the landmark cache."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from lit_restore.data.landmarks import (
    KNOWN_COUNTS,
    Landmarks,
    check_points,
    discard_stale,
    is_current,
    landmark_path,
    write_landmarks,
)
from lit_restore.data.manifest import Photo, Skipped
from lit_restore.errors import UserError


class ReadyLandmarks:
    """Landmarks that somebody else made, found by photo key.

    Args:
        source: a folder with ``<key without suffix>.npy`` (or ``.npz`` with ``points``), or one ``.npz`` file
            whose entries are called ``68/<path>`` or ``1349/<path>``, the path being the end of the photo's
            path without suffix, at least ``<folder>/<name>``. None = only the files that come with the data
            set (InstantRestore's ``new_landmarks``).

    Raises:
        UserError: missing, or neither a folder nor such a file, or with landmarks of other kinds only.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        self.source = None if source is None else Path(source)
        self._entries: dict[str, list[str]] = {}  # every ending of an entry's path -> names of the entries
        if self.source is None or self.source.is_dir():
            return
        if not self.source.exists():
            raise UserError("no such landmark file or folder", where=self.source)
        try:
            with np.load(self.source, allow_pickle=False) as file:
                names = file.files
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            raise UserError("not an .npz file of landmarks", where=self.source) from None
        for name in names:
            count, _, path = name.partition("/")
            if count in map(str, KNOWN_COUNTS):
                parts = path.split("/")
                for start in range(len(parts)):
                    self._entries.setdefault("/".join(parts[start:]), []).append(name)
        self._file_version = hashlib.sha256(self.source.read_bytes()).hexdigest()[:12]
        if not self._entries:
            raise UserError(
                "no usable landmarks in this file",
                where=self.source,
                expected="entries 68/<photo> or 1349/<photo>",
                found=", ".join(sorted({name.split("/")[0] for name in names})) or "nothing",
            )

    def version(self, photo: Photo) -> str:
        """What the cache calls these landmarks; changes whenever their file changes."""
        if self._entries:
            return f"file {self.source.name} {self._file_version}"
        path = self._own_file(photo)
        return "file" if path is None else f"file {path.name} {path.stat().st_mtime_ns}"

    def find(self, photo: Photo) -> np.ndarray | None:
        """Points (N, 2) of a photo, or None.

        Raises:
            UserError: damaged, or landmarks of another kind.
        """
        if not self._entries:
            path = self._own_file(photo)
            return None if path is None else _read_ready(path, photo)
        name = self._entry(photo)
        if name is None:
            return None
        with np.load(self.source, allow_pickle=False) as file:
            return check_points(file[name], f"{self.source}, {name}")

    def _own_file(self, photo: Photo) -> Path | None:
        """The file of this photo alone, where there is one file per photo."""
        if self.source is None:
            return None if photo.landmarks is None else Path(photo.landmarks)
        stem = PurePosixPath(photo.key).with_suffix("")
        paths = (self.source / f"{stem}{suffix}" for suffix in (".npy", ".npz"))
        return next((path for path in paths if path.is_file()), None)

    def _entry(self, photo: Photo) -> str | None:
        """The entry that agrees with the end of the photo's path; at least folder and file name must
        agree."""
        parts = Path(photo.path).with_suffix("").parts
        for start in range(1, len(parts) - 1):
            names = self._entries.get("/".join(parts[start:]), [])
            if len({name.partition("/")[2] for name in names}) > 1:
                raise UserError("several landmarks fit this photo", where=photo.key, found=", ".join(names))
            if names:
                return max(names, key=lambda name: int(name.partition("/")[0]))
        return None


def _read_ready(path: Path, photo: Photo) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        points = loaded if isinstance(loaded, np.ndarray) else loaded["points"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise UserError("damaged landmark file", where=path) from None
    points = check_points(points, path)
    # InstantRestore's files count pixels of a 512 px image whatever the size of the file (instantrestore.md
    # 10).
    if path.parent.name == "new_landmarks" and (photo.width, photo.height) != (512, 512):
        raise UserError(
            "landmarks are for a 512x512 image",
            where=path,
            found=f"{photo.width}x{photo.height}",
            fix="Resize it.",
        )
    return points


def import_landmarks(photos: Iterable[Photo], cache: str | Path, ready: ReadyLandmarks) -> list[Skipped]:
    """Copy ready landmarks into the cache; returns the photos that got none, with the reason."""
    skipped = []
    for photo in photos:
        detector = ready.version(photo)
        if is_current(cache, photo, detector):
            continue
        try:
            points = ready.find(photo)
            problem = "no ready landmarks for this photo" if points is None else _misplaced(points, photo)
        except UserError as error:
            problem = str(error)
        if problem:
            discard_stale(cache, photo)
            skipped.append(Skipped(photo.key, problem))
            continue
        visible = np.ones(len(points), bool)
        write_landmarks(Landmarks(points, visible, photo.sha256, detector), landmark_path(cache, photo.key))
    return skipped


def _misplaced(points: np.ndarray, photo: Photo) -> str | None:
    """Says so if most points lie outside of the photo: they belong to another size or crop of it."""
    inside = ((points >= -0.5) & (points < np.array([photo.width, photo.height]) - 0.5)).all(axis=1)
    if inside.mean() >= 0.5:
        return None
    return f"landmarks lie outside of the photo ({photo.width}x{photo.height}): made for another size or crop"
