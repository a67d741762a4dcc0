"""What wandb wrote while offline: the records of a ``.wandb`` file.

The file is a LevelDB log: after a head of 7 bytes (``:W&B``, a magic number, a version) blocks of 32 KiB, in them
pieces of

    checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data

where the checksum is a CRC-32 of kind and data (zlib's, where LevelDB has a turned CRC-32C). A record is a protocol
buffer of wandb's own, put together from pieces. A run that was killed leaves a file that ends in the middle of one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

from lit_restore.errors import UserError

HEAD = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK = 32 * 1024
PIECE = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def offline_files(folder: Path) -> list[Path]:
    """Of a run folder, oldest first; a run that was continued has several."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def read_records(path: Path) -> Iterator[Record]:
    """All complete records.

    Raises:
        UserError: another kind of file, or a piece whose checksum is wrong.
    """
    content = path.read_bytes()
    if content[: len(HEAD)] != HEAD:
        raise UserError("not a file that wandb wrote offline", where=path, found=content[: len(HEAD)].hex())
    place, collected = len(HEAD), b""
    while place + PIECE.size <= len(content):
        left = BLOCK - place % BLOCK
        if left < PIECE.size:
            place += left
            continue
        checksum, length, kind = PIECE.unpack_from(content, place)
        data = content[place + PIECE.size : place + PIECE.size + length]
        if kind == 0 or len(data) < length:
            return  # not written to its end
        if zlib.crc32(bytes([kind]) + data) != checksum:
            raise UserError("damaged file of wandb", where=path, found=f"a wrong checksum at byte {place}")
        place += PIECE.size + length
        collected = data if kind in (WHOLE, FIRST) else collected + data
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(collected)
            yield record


def last_value(folder: Path, metric: str) -> float | None:
    """The last logged value of a metric, of a run folder; None = none."""
    value = None
    for path in offline_files(folder):
        for record in read_records(path):
            for item in record.history.item if record.HasField("history") else ():
                if metric in (item.key, ".".join(item.nested_key)):
                    found = json.loads(item.value_json)
                    value = float(found) if isinstance(found, (int, float)) else value
    return value
