"""Who is in which split: pure rules on manifests, by person."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from lit_restore.data.manifest import Manifest, Split
from lit_restore.errors import UserError


def assign_splits(manifest: Manifest, split: Split) -> Manifest:
    """Divide the people anew.

    People are ordered by SHA-256 of (seed, name); the first go to test, the next to val, the rest to train.
    So a person added or removed moves at most one other person across each border. People of the same name in
    different roots stay together, because they may be the same person.
    """
    if not split.keep_layout:
        manifest = replace(manifest, photos=tuple(replace(photo, layout_split=None) for photo in manifest.photos))
    named = {_person(photo.identity, manifest): photo.layout_split for photo in manifest.photos if photo.layout_split}
    taken = {photo.layout_split for photo in manifest.photos} - {None}
    free = sorted({_person(photo.identity, manifest) for photo in manifest.photos} - named.keys())
    order = sorted(free, key=lambda name: hashlib.sha256(f"{split.seed}\0{name}".encode()).digest())
    # Where the data set names the split of everybody there is nobody to divide.
    num_test = 0 if "test" in taken or not order else _number("test", split.test, len(order), keep=1)
    num_val = 0 if "val" in taken or not order else _number("val", split.val, len(order), keep=1 + num_test)
    place = dict.fromkeys(order[:num_test], "test")
    place |= dict.fromkeys(order[num_test : num_test + num_val], "val")
    place |= dict.fromkeys(order[num_test + num_val :], "train")
    photos = tuple(
        replace(photo, split=photo.layout_split or named.get(name) or place[name])
        for photo in manifest.photos
        for name in [_person(photo.identity, manifest)]
    )
    return replace(manifest, photos=photos, split=split)


def _person(identity: str, manifest: Manifest) -> str:
    return identity.split("/", 1)[1] if len(manifest.roots) > 1 else identity


def _number(name: str, wanted: float, total: int, keep: int) -> int:
    """People for one held-out split, leaving at least ``keep`` for the others."""
    if wanted >= 1:
        if wanted > total - keep:
            raise UserError(
                "split needs more people than there are",
                where=name,
                expected=f"at most {max(0, total - keep)} held out here",
                found=f"{int(wanted)} of {total} people",
            )
        return int(wanted)
    return min(max(1, round(wanted * total)) if wanted > 0 else 0, max(0, total - keep))


def check_leaks(manifest: Manifest) -> list[str]:
    """Sentences about every person and every picture that is in two splits; empty if there is no leak."""
    problems = []
    for what, name in (("person", "identity"), ("picture", "pixels_sha256")):
        splits: dict[str, dict[str, str]] = {}
        for photo in manifest.photos:
            splits.setdefault(getattr(photo, name), {}).setdefault(photo.split, photo.key)
        problems += [
            f"same {what} in {' and '.join(sorted(keys))}: {', '.join(keys[split] for split in sorted(keys))}"
            for keys in splits.values()
            if len(keys) > 1
        ]
    return problems
