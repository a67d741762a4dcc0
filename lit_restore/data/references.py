"""Which photos of a person serve as references for a target: pure rules on manifest entries.

Training draws a random number of random photos (instantrestore.md 12); evaluation always takes the same ones,
and the set of one reference is the beginning of the set of two. The target itself, or a copy of it in
another file, is never among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lit_restore.data.manifest import Manifest, Photo
from lit_restore.data.photo_files import natural_key

DOMAIN = "lit-restore/references/v1"


def random_state(domain: str, seed: int, key: str, epoch: int) -> np.random.RandomState:
    """A generator that depends on nothing but its arguments, built as in degradations.md 6.2.

    ``RandomState`` because NumPy freezes its stream; SHA-256 because Python's ``hash`` changes between
    processes.
    """
    digest = hashlib.sha256(f"{domain}\0{seed}\0{key}\0{epoch}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest[:16], dtype="<u4"))


class ReferencePools:
    """Candidate references of every target of a manifest, best first."""

    def __init__(self, manifest: Manifest) -> None:
        self._by_key: Mapping[str, Photo] = {photo.key: photo for photo in manifest.photos}
        people: dict[str, list[Photo]] = {}
        for photo in sorted(manifest.photos, key=lambda photo: natural_key(photo.key)):
            if photo.role != "lq":
                people.setdefault(photo.identity, []).append(photo)
        self._people = people

    def candidates(self, target: Photo) -> list[Photo]:
        """The listed references, else the person's other photos in natural order; no copy of the target, no
        copies."""
        if target.references is None:
            pool: Iterable[Photo] = self._people.get(target.identity, [])
        else:
            pool = (self._by_key[key] for key in target.references if key in self._by_key)
        seen, unique = {target.pixels_sha256}, []
        for photo in pool:
            if photo.key != target.key and photo.pixels_sha256 not in seen:
                seen.add(photo.pixels_sha256)
                unique.append(photo)
        return unique


def training_references(
    candidates: Sequence[Photo],
    max_references: int,
    *,
    seed: int,
    key: str,
    epoch: int,
    zero_probability: float = 0.0,
) -> list[Photo]:
    """A number uniform in 1..``max_references``, capped by availability, of different candidates in random
    order.

    With ``zero_probability`` there are none, so that one model also learns to restore without references. All
    draws are always made, in fixed slots, so changing one setting leaves the others' draws as they were.
    """
    state = random_state(DOMAIN, seed, key, epoch)
    none, number = state.random_sample(), state.random_sample()
    order = np.argsort(state.random_sample(len(candidates)), kind="stable")
    if max_references == 0 or none < zero_probability:
        return []
    num_references = 1 + int(number * max_references)
    return [candidates[index] for index in order[:num_references]]


def evaluation_references(candidates: Sequence[Photo], num_references: int) -> list[Photo]:
    """The first candidates: the same in every epoch, and nested for growing numbers."""
    return list(candidates[:num_references])
