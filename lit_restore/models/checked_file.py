"""Files of a cache: tensors that say what they are of and whether they are still whole.

    safetensors with the metadata  key: everything that decides the values,  about: text of the owner,  checksum

A file of another key, or one whose values have changed, is as good as none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open

from lit_restore.image import atomic_path
from lit_restore.models.tensor_file import State, write_safetensors


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
