"""Pictures that another program made: which file is which photo's, what is missing, what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from lit_restore.data.manifest import Photo
from lit_restore.errors import UserError
from lit_restore.evaluation.methods import Outcome
from lit_restore.evaluation.protocol import Protocol, hash_files, hash_texts
from lit_restore.image import IMAGE_SUFFIXES, read_rgb, to_tensor
from lit_restore.types import RestorationBatch

ROLES = ("hq", "lq")  # folders of the layout `pairs`


class OutputFolder:
    """A folder with one picture per photo, made by any program.

    A photo ``person/3.jpg`` may be ``person/3.png``, ``person__3.png`` or, where no other photo has it, ``3.png``; the
    only photo of a person may have the person's name. Pictures of another size are failures: scaling them would
    change every metric.

    Args:
        folder: with the pictures, at any depth.
        targets: the photos they are expected for.
        size_px: the side they must have.
        name: of the method; None = the folder's.

    Raises:
        UserError: no picture belongs to any photo.
    """

    def __init__(self, folder: str | Path, targets: Sequence[Photo], *, size_px: int, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.size_px = size_px
        self.name = name or self.folder.absolute().name
        files = _pictures_below(self.folder)
        wanted = accepted_names(targets)
        self.files: dict[str, Path] = {}
        for key, names in wanted.items():
            found = next((files[name] for name in names if name in files), None)
            if found is not None:
                self.files[key] = found
        used = set(self.files.values())
        self.extra = sorted(path for path in files.values() if path not in used)
        if not self.files:
            first = next(iter(wanted.values()))
            raise UserError(
                "no picture in the folder belongs to a photo of the data set",
                where=self.folder,
                expected=f"for the first photo one of {', '.join(f'{name}.png' for name in first)}",
                found=", ".join(path.name for path in self.extra[:3]) or "no pictures",
                fix="Check --data, --split and the names.",
            )
        self.missing = [key for key in wanted if key not in self.files]
        self.protocol: Protocol = {
            "kind": "pictures of another program",
            "files": len(self.files),
            "sha256": hash_files(self.files.values()),
        }

    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        return [self._read(key) for key in batch["key"]]

    def _read(self, key: str) -> Outcome:
        if key not in self.files:
            return UserError("no picture for this photo")
        try:
            image = read_rgb(self.files[key])
        except UserError as error:
            return error
        if image.shape[:2] != (self.size_px, self.size_px):
            return UserError(
                "picture of another size",
                where=self.files[key],
                expected=f"{self.size_px}x{self.size_px}",
                found=f"{image.shape[1]}x{image.shape[0]}",
            )
        return to_tensor(image)

    def to(self, device: torch.device) -> OutputFolder:
        return self

    def remarks(self) -> list[str]:
        """Sentences about what is missing and what is left over."""
        remarks = []
        if self.missing:
            remarks.append(f"{len(self.missing)} photos have no picture in {self.folder}: {_some(self.missing)}")
        if self.extra:
            names = [path.relative_to(self.folder).as_posix() for path in self.extra]
            remarks.append(f"{len(self.extra)} pictures in {self.folder} belong to no photo: {_some(names)}")
        return remarks


def flat_names(keys: Iterable[str]) -> dict[str, str]:
    """Key -> a name without folder and suffix, different for every key."""
    keys = list(keys)
    stems = {key: _stem(key).replace("/", "__") for key in keys}
    count = Counter(stems.values())
    return {key: stem if count[stem] == 1 else f"{stem}-{hash_texts([key])[:6]}" for key, stem in stems.items()}


def accepted_names(targets: Sequence[Photo]) -> dict[str, list[str]]:
    """Key -> names (paths without suffix) under which a picture is accepted, best first."""
    flat = flat_names(target.key for target in targets)
    stems = Counter(_stem(target.key) for target in targets)
    last = Counter(Path(_stem(target.key)).name for target in targets)
    people = Counter(target.identity for target in targets)
    names: dict[str, list[str]] = {}
    for target in targets:
        stem, accepted = _stem(target.key), [flat[target.key]]
        if stems[stem] == 1:
            accepted = [stem, *accepted]
        if last[Path(stem).name] == 1:
            accepted.append(Path(stem).name)
        if people[target.identity] == 1:
            accepted.append(target.identity)
        names[target.key] = list(dict.fromkeys(accepted))
    return names


def _stem(key: str) -> str:
    """A photo's key without suffix and without the folder that only says truth or input."""
    first, _, rest = key.partition("/")
    return Path(rest if rest and first in ROLES else key).with_suffix("").as_posix()


def _pictures_below(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError("no such folder of pictures", where=folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
