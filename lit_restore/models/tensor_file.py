"""Tensors on disk: safetensors out, files of ``torch.save`` in. Nothing in a file is ever executed.

A file of ``torch.save`` is a zip with a pickle inside, and a pickle is a program. Only torch's restricted reader is
used here (``weights_only``), which knows tensors and plain values; whatever else a file asks for is refused by name.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError

State = dict[str, torch.Tensor]

_DTYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def read_torch_file(path: Path, *, mapped: bool = False) -> Any:
    """What ``torch.save`` wrote: tensors and plain values, on the CPU.

    Args:
        mapped: leave the tensors on disk until they are used, for files of many gigabytes.

    Raises:
        UserError: the file is cut off or something else, or it holds more than tensors and plain values.
    """
    try:
        if not zipfile.is_zipfile(path):  # on other files torch fails in ways that cannot be foreseen
            raise EOFError("not a whole file of torch.save")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)|function (\S+)", str(error))
        if asked is None:
            raise damaged(path, error) from None
        raise UserError(
            "this file wants to run code while it is read, which was not done",
            where=path,
            expected="a checkpoint of tensors and plain values",
            found=next(filter(None, asked.groups())).strip("`'\"."),
            fix="Do not use it unless you know who wrote it; where it can be trusted, let them save plain values only.",
        ) from None
    except Exception as error:  # a reader of strange files: what torch raises depends on where it stumbles
        raise damaged(path, error) from None


def write_safetensors(path: Path, state: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors one after the other, so that memory holds one at a time.

    The library's own writer needs all of them at once and does not say when a disk is full.

    Raises:
        OSError: the disk is full or the place cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"} | (metadata or {})}
    end = 0
    for name, tensor in state.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in state.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def damaged(path: Path, error: Exception) -> UserError:
    """The one line for a file that cannot be read to its end."""
    reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
    return UserError(
        "damaged checkpoint",
        where=path,
        found=reason + (f" ({path.stat().st_size} bytes)" if path.is_file() else ""),
        fix="It may have been cut off while copying; copy it again or use an earlier one.",
    )
