"""Public weight files: where they are looked for, if they are whole; and what is known of those of the face networks.

None of them comes with lit_restore. A file counts only if its checksum is that of the known public file.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lit_restore.errors import UserError

WEIGHTS_VARIABLE = "LIT_RESTORE_WEIGHTS"
_FACES = "weights of the face networks"


@dataclass(frozen=True)
class WeightFile:
    """A public weight file."""

    name: str
    """Its usual file name."""
    what: str
    licence: str
    source: str
    """Where it comes from, for a person who wants to fetch it."""
    sha256: str
    """Hex digest; only its first digits where the publisher gives no more (as part of the file name), '' = unknown."""
    size_bytes: int | None = None


RETINAFACE = WeightFile(
    name="mobilenet0.25_Final.pth",
    what="RetinaFace MobileNet-0.25",
    licence="MIT",
    source="https://github.com/biubug6/Face-Detector-1MB-with-landmark/raw/master/weights/mobilenet0.25_Final.pth",
    sha256="ed6fa7d45a5179f03cb5ce82c73b0c6711372968e53782e88395acee88d319e1",
    size_bytes=1_789_735,
)
_FACE_API = "https://github.com/justadudewhohacks/face-api.js/raw/a86f011d72124e5fb93e59d5c4ab98f699dd5c9c/weights"
LANDMARKS68 = WeightFile(
    name="face_landmark_68_model-shard1",
    what="68-point network of face-api.js",
    licence="MIT",
    source=f"{_FACE_API}/face_landmark_68_model-shard1 and face_landmark_68_model-weights_manifest.json beside it",
    sha256="4611ef65c87d836d03d684b30eec4d195d8b219fa1dd58fc58945831c6b9299b",
    size_bytes=356_840,
)
LANDMARKS68_MANIFEST = WeightFile(
    name="face_landmark_68_model-weights_manifest.json",
    what="its table of tensors",
    licence="MIT",
    source=f"{_FACE_API}/face_landmark_68_model-weights_manifest.json",
    sha256="d30f6cc341009ea4f8223876959289b96576fc54a2615f92da9741ab9c5f0bbc",
    size_bytes=7_889,
)
LANDMARKS68_CONVERTED = WeightFile(
    name="face_landmark68.safetensors",
    what="the same network in PyTorch's order",
    licence="MIT",
    source="converted from face_landmark_68_model-shard1 of face-api.js",
    sha256="cc54a37eb2d56370590bbaf7d2cfef5e6407155585969ffa6cfa28e6dfaa236f",
    size_bytes=1_431_608,
)
SFD = WeightFile(
    name="s3fd-619a316812.pth",
    what="S3FD",
    licence="BSD-3-Clause as the package",
    source="https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
    sha256="619a316812",
)
FAN = WeightFile(
    name="2DFAN4-11f355bf06.pth.tar",
    what="FAN",
    licence="BSD-3-Clause as the package",
    source="https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
    sha256="11f355bf06",
)


def search_folders(folder: str | Path | None = None) -> list[Path]:
    """Folders that may hold weight files, most specific first.

    ``folder`` (an explicit choice), the folders in the environment variable LIT_RESTORE_WEIGHTS,
    ``./weights`` and the user's cache ``~/.cache/lit_restore``.

    Raises:
        UserError: ``folder`` or a folder in the variable does not exist.
    """
    named = [] if folder is None else [(Path(folder).expanduser(), "weights folder")]
    for entry in os.environ.get(WEIGHTS_VARIABLE, "").split(os.pathsep):
        if entry:
            named.append((Path(entry).expanduser(), f"folder in {WEIGHTS_VARIABLE}"))
    for path, what in named:
        if not path.is_dir():
            raise UserError(f"{what} does not exist", where=path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lit_restore"
    return [path for path, _ in named] + [Path("weights"), cache]


def locate(file: WeightFile, folder: str | Path | None = None) -> Path | None:
    """Path of the first copy of ``file`` in the search folders or one level below them, or None.

    Raises:
        UserError: the copy is damaged or another file under the same name.
    """
    for parent in search_folders(folder):
        for path in [parent / file.name, *sorted(parent.glob(f"*/{file.name}"))]:
            if path.is_file():
                check(path, file)
                return path
    return None


def fetch(
    file: WeightFile,
    folder: str | Path | None = None,
    *,
    needed: list[WeightFile] | None = None,
    what: str = _FACES,
    instead: list[WeightFile] | None = None,
) -> Path:
    """A checked copy in torch's download folder: from before, or downloaded now.

    Args:
        folder, what, instead: for the error, see `missing`.
        needed: the files that are needed together with it, and it; None = it alone.

    Raises:
        UserError: the copy is damaged, or the download failed.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / file.name
    if path.is_file():
        check(path, file)
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.source, str(path), hash_prefix=file.sha256 or None)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum is a RuntimeError
        reason = f"download failed: {getattr(error, 'reason', None) or error}"
        also_in = [path.parent]
        raise missing(needed or [file], folder, what=what, also_in=also_in, reason=reason, instead=instead) from None
    return path


def obtain(file: WeightFile, given: str | Path | None = None, *, instead: WeightFile | None = None) -> Path:
    """A local copy of a weight file: the one the user names, else `locate`'s, else `fetch`'s.

    Args:
        given: where the user says it is; its name does not matter, and its content is left to the network to refuse.
        instead: another file that does as well.

    Raises:
        UserError: ``given`` is no file; or a copy is damaged; or there is none and it cannot be downloaded.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError("no such weight file", where=path, expected=f"{file.what} ({file.name})")
        return path
    path = locate(file) or (locate(instead) if instead else None)
    return path or fetch(file, what="weights", instead=[instead] if instead else None)


def check(path: Path, file: WeightFile) -> None:
    """Refuse a file that is not, byte for byte, the known one.

    Raises:
        UserError: it cannot be read, was cut short, or has other content.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError("weight file cannot be read", where=path, found=error.strerror) from None
    if digest.startswith(file.sha256):
        return
    fix = f"Delete it and fetch it again: {file.source}."
    if file.size_bytes is not None and size_bytes != file.size_bytes:
        short = size_bytes < file.size_bytes
        what = "weight file is damaged (cut short)" if short else "weight file is damaged or another file"
        raise UserError(what, where=path, expected=f"{file.size_bytes:,} bytes", found=f"{size_bytes:,} bytes", fix=fix)
    raise UserError(
        "weight file is damaged or another file",
        where=path,
        expected=f"sha256 {file.sha256[:16]}…",
        found=f"{digest[:16]}… ({size_bytes:,} bytes)",
        fix=fix,
    )


def missing(
    files: list[WeightFile],
    folder: str | Path | None = None,
    *,
    what: str = _FACES,
    also_in: list[Path] | None = None,
    reason: str | None = None,
    instead: list[WeightFile] | None = None,
) -> UserError:
    """The error that says which files are missing, where they were looked for, and where to get and put them.

    Args:
        folder: as for `search_folders`.
        what: what they are for.
        also_in: further folders that were searched.
        reason: why they could not be fetched.
        instead: files that do as well.
    """
    folders = search_folders(folder)
    found = "not there in " + ", ".join(str(path) for path in [*folders, *(also_in or [])])
    expected = " and ".join(_described(file) for file in files)
    if instead:
        expected += ", or instead " + " and ".join(_described(file) for file in instead)
    return UserError(
        f"{what} not found",
        expected=expected,
        found=f"{found} ({reason})" if reason else found,
        fix=f"Put {'it' if len(files) == 1 else 'them'} into {folders[0]}"
        + ("." if folder else f", or set {WEIGHTS_VARIABLE} to the folder."),
    )


def _described(file: WeightFile) -> str:
    size = f", {file.size_bytes:,} bytes" if file.size_bytes else ""
    checksum = f", sha256 {file.sha256}" if file.sha256 else ""
    return f"{file.name} ({file.what}, {file.licence}{size}{checksum}, from {file.source})"


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a .safetensors or .pth file; code in a .pth file is never run."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


# What torch's unpickler makes of arbitrary bytes knows no bounds.
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
_UNREADABLE += (pickle.UnpicklingError, SafetensorError)


def decode(path: Path, read: Callable[[Path], dict[str, torch.Tensor]] = read_tensors) -> dict[str, torch.Tensor]:
    """What ``read`` finds in a file.

    Raises:
        UserError: the file cannot be decoded.
    """
    try:
        content = read(path)
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError("weight file is damaged or not a weight file", where=path, found=reason) from None
    if not isinstance(content, dict):
        raise UserError("not a weight file", where=path, expected="tensors by name", found=type(content).__name__)
    return content


def fill(network: torch.nn.Module, path: Path, read: Callable[[Path], dict[str, torch.Tensor]] = read_tensors) -> None:
    """Load all tensors of a file into ``network``; names and shapes must be exactly its own.

    Raises:
        UserError: the file cannot be decoded or belongs to another network.
    """
    load(network, decode(path, read), path)


def load(network: torch.nn.Module, state: dict[str, torch.Tensor], where: Path) -> None:
    """Load exactly the tensors of ``state``, found in the file ``where``.

    Raises:
        UserError: names or shapes are not those of the network.
    """
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"weights do not fit {type(network).__name__}", where=where, found=reason) from None
