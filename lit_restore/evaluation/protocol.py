"""What has to be said beside a number so that somebody else can get the same one.

A protocol is a nested dictionary of plain values with the sections

    data          which photos: hash over keys and contents, split, how many of how many people
    degradation   profile, seed, changed ranges, or: fixed files and their hash
    references    how many and which
    image         side, colour, bits: what every method is given and what is measured
    method        what made the pictures: hash of the weights, noise level, seed, precision, ...
    metrics       for each metric what it says about itself: windows, backbones, networks, crops, hashes of weights
    software      versions

Two numbers may be compared without a word if everything but ``method`` is equal; rows of one evaluation must agree in
everything.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lit_restore import __version__

Protocol = dict[str, Any]

# Libraries that may change a pixel or a metric.
LIBRARIES = ("torch", "torchvision", "torchmetrics", "lpips", "diffusers", "peft", "numpy", "opencv-python", "pillow")


def software_versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, this package and the libraries below it."""
    versions = {"python": platform.python_version(), "lit_restore": __version__}
    for name in (*LIBRARIES, *more):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def flatten(protocol: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> dotted keys."""
    if not isinstance(protocol, dict) or not protocol:
        return {prefix: protocol}
    return {
        key: value
        for name, inner in protocol.items()
        for key, value in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def differences(mine: Protocol, theirs: Protocol) -> list[str]:
    """``key: theirs -> mine`` for everything that differs."""
    mine, theirs = flatten(mine), flatten(theirs)
    return [
        f"{key}: {theirs.get(key, 'not there')} -> {mine.get(key, 'not there')}"
        for key in dict.fromkeys([*theirs, *mine])
        if mine.get(key, KeyError) != theirs.get(key, KeyError)
    ]


def flattered(protocol: Protocol) -> list[str]:
    """Metrics that judge by the network which the method was trained to please: their numbers are no evidence."""
    trained = protocol["method"].get("trained_to_please")
    metrics = protocol["metrics"].items()
    return [name for name, values in metrics if trained is not None and values.get("network") == trained]


def plain(protocol: Protocol) -> Protocol:
    """As it will be after a way through JSON: tuples are lists, paths are texts."""
    return json.loads(json.dumps(protocol, default=str))


def protocol_hash(protocol: Protocol) -> str:
    """Eight hex digits; libraries' versions do not enter."""
    relevant = {name: section for name, section in plain(protocol).items() if name != "software"}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8]


def hash_files(paths: Iterable[str | Path]) -> str:
    """16 hex digits over the contents of files, in this order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def hash_texts(texts: Iterable[str]) -> str:
    """16 hex digits over texts, in this order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]
