"""Files of a cache: tensors that say what they are of and whether they are still whole.

    safetensors with the metadata  key: everything that decides the values,  about: text of the owner,  checksum

A file of another key, or one whose values have changed, is as good as none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.models.tensor_file import State, write_safetensors


@dataclass
class CacheNotes:
    """What happened to the entries of one or more calls."""

    found: int = 0
    computed: int = 0
    rebuilt: dict[str, str] = field(default_factory=dict)
    """Damaged file -> what was wrong with it; it has been computed anew."""
    not_stored: str | None = None
    """Why results could not be kept (disk full, folder not accessible); they were used all the same."""


def find_entry(path: Path, key: str, notes: CacheNotes) -> tuple[State, str] | None:
    """What `read_checked` gives; None where there is no such file, or none that is whole."""
    try:
        if not path.is_file():
            return None
        entry = read_checked(path, key)
    except PermissionError as error:
        notes.not_stored = f"cannot read: {path}; found {(error.strerror or str(error)).lower()}"
        return None
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        notes.rebuilt[str(path)] = " ".join(str(error).split())[:120] or type(error).__name__
        return None
    notes.found += 1
    return entry


def keep_entry(path: Path, state: State, key: str, notes: CacheNotes, about: str = "") -> None:
    """`write_checked` for what was just computed; where nothing can be written, go on without."""
    notes.computed += 1
    try:
        write_checked(path, state, key, about)
    except UserError as error:
        notes.not_stored = str(error)


def write_checked(path: Path, state: State, key: str, about: str = "") -> None:
    """Write a file that appears whole or not at all.

    Raises:
        UserError: the disk is full or the place cannot be written.
    """
    with atomic_path(path) as temporary:
        write_safetensors(temporary, state, {"key": key, "about": about, "checksum": _checksum(state, about)})


def read_checked(path: Path, key: str) -> tuple[State, str]:
    """The tensors and the owner's text.

    Raises:
        OSError, SafetensorError, KeyError, ValueError: it cannot be read, is not whole, or was written for another key.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if metadata.get("key") != key:
        raise ValueError("it belongs to something else")
    if metadata.get("checksum") != _checksum(state, metadata["about"]):
        raise ValueError("its values have changed")
    return state, metadata["about"]


def _checksum(state: State, about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(state):
        digest.update(f"{name}{tuple(state[name].shape)}{state[name].dtype}".encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
