"""Faces in batches: each gets what it would get alone."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_generator

from lit_restore.errors import UserError
from lit_restore.image import write_image
from lit_restore.inference import Restorer, Settings, face_batches
from lit_restore.inference.face_batches import default_batch
from lit_restore.inference.restored import RestoredPhoto
from lit_restore.models.artifact import save_generator

RNG = np.random.default_rng(0)
PHOTOS = [RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(9)]
DEGRADED, REFERENCES = PHOTOS[:5], PHOTOS[5:]


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_generator(tiny_generator(tiny_base, reference_noise=True), folder, iteration=7)
    return folder


@pytest.fixture(scope="module")
def alone(model: Path) -> Restorer:
    return Restorer.from_pretrained(model, device="cpu", cache=False, weights=model)


@pytest.fixture
def together(model: Path, tmp_path: Path) -> Restorer:
    return Restorer.from_pretrained(model, device="cpu", cache=tmp_path / "cache", weights=model, batch=3)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(faces, references of each) of every pass."""
    original, seen = face_batches.restore_faces, []

    def noted(generator: object, lq: torch.Tensor, features: object, *rest: object) -> torch.Tensor:
        seen.append((len(lq), 0 if features is None else features.keys[0].shape[1]))
        return original(generator, lq, features, *rest)

    monkeypatch.setattr(face_batches, "restore_faces", noted)
    return seen


def restored(tool: Restorer, photos: list, references: object = (), **settings: object) -> list[RestoredPhoto]:
    out = list(tool.restore_many(photos, references, **settings))
    assert all(given is photo for given, (photo, _) in zip(photos, out, strict=True))
    return [photo for _, photo in out]


def assert_same(one: list[RestoredPhoto], other: list[RestoredPhoto]) -> None:
    """But for rounding: of values in [0, 255] one in a thousand may fall to the next."""
    for a, b in zip(one, other, strict=True):
        difference = np.abs(a.image.astype(int) - b.image)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


def test_faces_of_a_batch_are_restored_as_each_alone(
    alone: Restorer, together: Restorer, sizes: list[tuple[int, int]]
) -> None:
    for references, settings in ((REFERENCES, {}), ((), {}), (REFERENCES, {"strength": 0.5, "seed": 3})):
        each = [alone.restore(photo, references, **settings) for photo in DEGRADED]
        assert {size for size, _ in sizes} == {1}
        sizes.clear()
        batches = restored(together, DEGRADED, references, **settings)
        assert sizes == [(3, len(references)), (2, len(references))]
        sizes.clear()
        assert_same(batches, each)
        assert (batches[0].image != batches[1].image).mean() > 0.5


def test_one_at_a_time_many_are_to_the_bit_what_each_is_alone(alone: Restorer) -> None:
    each = [alone.restore(photo, REFERENCES).image for photo in DEGRADED[:2]]
    for one, many in zip(each, restored(alone, DEGRADED[:2], REFERENCES), strict=True):
        np.testing.assert_array_equal(one, many.image)


def test_faces_with_different_references_go_in_groups(
    alone: Restorer, together: Restorer, sizes: list[tuple[int, int]]
) -> None:
    """Of the third and fourth photo one reference is the photo itself, which leaves fewer for them."""
    photos = [DEGRADED[0], REFERENCES[0], REFERENCES[1], DEGRADED[1], DEGRADED[2]]
    each = [alone.restore(photo, REFERENCES) for photo in photos]
    sizes.clear()
    together._batches.size = 5
    batches = restored(together, photos, REFERENCES)
    assert sizes == [(3, 4), (2, 3)]
    assert_same(batches, each)
    assert [photo.report.faces[0].num_references for photo in batches] == [4, 3, 3, 4, 4]


def test_references_are_looked_at_once(together: Restorer) -> None:
    first, second, third, *_ = restored(together, DEGRADED, REFERENCES)
    assert (first.report.faces[0].cache.computed, first.report.faces[0].cache.found) == (4, 0)
    for photo in (second, third):
        assert (photo.report.faces[0].cache.computed, photo.report.faces[0].cache.found) == (0, 4)
    other_noise = together.restore(DEGRADED[0], REFERENCES, seed=1)
    assert other_noise.report.faces[0].cache.computed == 4


def test_what_cannot_be_restored_stays_in_its_place(alone: Restorer, together: Restorer, tmp_path: Path) -> None:
    write_image(DEGRADED[0], tmp_path / "0.png")
    (tmp_path / "1.png").write_text("no image")
    write_image(DEGRADED[1], tmp_path / "2.png")
    files = [tmp_path / f"{number}.png" for number in range(3)]
    first, second, third = restored(together, files)
    assert str(second).startswith("image cannot be decoded")
    assert_same([first, third], [alone.restore(photo) for photo in DEGRADED[:2]])
    (only,) = restored(together, [REFERENCES[0]], REFERENCES[:1])
    assert "none of the references can be used; found photo 0: the photo itself" in str(only)


def test_attention_is_each_faces_own(alone: Restorer, together: Restorer) -> None:
    batches = restored(together, DEGRADED[:3], REFERENCES, attention=True)
    for photo, one in zip(DEGRADED, batches, strict=False):
        expected = alone.restore(photo, REFERENCES, attention=True).faces[0].shares
        np.testing.assert_allclose(one.faces[0].shares.drawn, expected.drawn, atol=1e-4)


def test_too_little_memory_makes_batches_smaller(
    alone: Restorer, together: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen, room = face_batches.restore_faces, [], 2

    def small(generator: object, lq: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(lq))
        if len(lq) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(generator, lq, *rest)

    monkeypatch.setattr(face_batches, "restore_faces", small)
    together._batches.size = 5
    assert_same(restored(together, DEGRADED), [alone.restore(photo) for photo in DEGRADED])
    assert seen[:4] == [5, 2, 2, 1]
    room = 0
    (failed,) = restored(together, DEGRADED[:1])
    assert str(failed).startswith("the memory of the device does not suffice for one face: cpu. Try --low-memory tiles")
    with pytest.raises(UserError, match="does not suffice for one face"):
        together.restore(DEGRADED[0])


def test_defaults() -> None:
    assert [default_batch(torch.device(kind)) for kind in ("cpu", "mps", "cuda")] == [1, 1, 8]
    said = inspect.signature(Restorer.restore).parameters
    for setting in fields(Settings):
        assert said[setting.name].default == setting.default, setting.name
