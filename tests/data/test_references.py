from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lit_restore.data.manifest import Manifest, Photo
from lit_restore.data.references import (
    ReferencePools,
    evaluation_references,
    random_state,
    training_references,
)
from lit_restore.data.scan import build_manifest


def photo(key: str, identity: str = "anna", pixels: str | None = None, **fields: object) -> Photo:
    values = {"path": key, "role": "hq", "split": "train", "layout_split": None, "width": 9, "height": 9}
    values |= {"num_bytes": 1, "mtime_ns": 1, "sha256": key, "pixels_sha256": pixels or key}
    return Photo(key=key, identity=identity, **(values | fields))


def keys(photos: list[Photo]) -> list[str]:
    return [photo.key for photo in photos]


def test_candidates_are_other_photos_of_the_person_without_copies() -> None:
    photos = [photo("a/10.png"), photo("a/2.png"), photo("a/3.png", pixels="a/2.png"), photo("a/1.png")]
    photos += [photo("a/4.png", pixels="a/1.png"), photo("b/1.png", "bert"), photo("a/l.png", role="lq")]
    pools = ReferencePools(Manifest(tuple(photos)))
    assert keys(pools.candidates(photos[3])) == ["a/2.png", "a/10.png"]  # no self, no own copy, no bert, no lq


def test_listed_references_keep_their_order_but_never_the_target() -> None:
    listed = ("a/3.png", "a/1.png", "a/gone.png", "a/2.png")
    photos = [photo("a/1.png", references=listed), photo("a/2.png"), photo("a/3.png", role="reference")]
    pools = ReferencePools(Manifest(tuple(photos)))
    assert keys(pools.candidates(photos[0])) == ["a/3.png", "a/2.png"]
    assert pools.candidates(replace(photos[0], references=())) == []


def test_no_target_ever_refers_to_itself_or_another_person(people_folder: Callable[..., Path]) -> None:
    manifest = build_manifest(people_folder(anna=4, bert=3, cara=2))
    pools = ReferencePools(manifest)
    for target in manifest.photos:
        for epoch in range(20):
            chosen = training_references(pools.candidates(target), 4, seed=0, key=target.key, epoch=epoch)
            assert 1 <= len(chosen) <= 3
            assert target.key not in keys(chosen)
            assert {reference.identity for reference in chosen} == {target.identity}
            assert len({reference.pixels_sha256 for reference in chosen}) == len(chosen)


def test_training_number_is_uniform_and_capped() -> None:
    pool = [photo(f"a/{n}.png") for n in range(9)]
    counts = Counter(len(training_references(pool, 4, seed=1, key=f"k{n}", epoch=0)) for n in range(4000))
    assert set(counts) == {1, 2, 3, 4}
    assert all(abs(count - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75) for count in counts.values())
    assert {len(training_references(pool[:2], 4, seed=1, key=f"k{n}", epoch=0)) for n in range(50)} == {1, 2}
    assert training_references([], 4, seed=1, key="k", epoch=0) == []
    assert training_references(pool, 0, seed=1, key="k", epoch=0) == []


def test_training_members_are_uniform() -> None:
    pool = [photo(f"a/{n}.png") for n in range(5)]
    counts = Counter(training_references(pool, 1, seed=1, key=f"k{n}", epoch=0)[0].key for n in range(5000))
    assert all(abs(count - 1000) < 5 * np.sqrt(5000 * 0.2 * 0.8) for count in counts.values())


def test_zero_references_leave_the_other_draws_alone() -> None:
    pool = [photo(f"a/{n}.png") for n in range(9)]
    plain = [training_references(pool, 4, seed=1, key=f"k{n}", epoch=2) for n in range(1000)]
    some = [training_references(pool, 4, seed=1, key=f"k{n}", epoch=2, zero_probability=0.3) for n in range(1000)]
    assert 220 < sum(not chosen for chosen in some) < 380
    assert all(chosen == other for chosen, other in zip(some, plain, strict=True) if chosen)


def test_draws_depend_on_seed_key_and_epoch_only() -> None:
    pool = [photo(f"a/{n}.png") for n in range(9)]

    def draw(seed: int = 0, key: str = "k", epoch: int = 0) -> list[str]:
        return keys(training_references(pool, 9, seed=seed, key=key, epoch=epoch))

    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = draw()
    assert draw() == first
    assert len({tuple(draw()), tuple(draw(seed=1)), tuple(draw(key="l")), tuple(draw(epoch=1))}) == 4
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_stream_is_pinned() -> None:
    """Changing the seeding would silently change every training run."""
    assert random_state("lit-restore/references/v1", 0, "anna/1.png", 3).randint(2**31, size=2).tolist() == [
        1438664816,
        1655406755,
    ]


def test_evaluation_references_are_nested() -> None:
    pool = [photo(f"a/{n}.png") for n in range(6)]
    sets = [keys(evaluation_references(pool, n)) for n in range(6)]
    assert all(len(chosen) == n for n, chosen in enumerate(sets))
    assert all(larger[: len(smaller)] == smaller for smaller, larger in pairwise(sets))
