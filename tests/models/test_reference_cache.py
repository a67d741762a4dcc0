from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import NOISE, pictures, tiny_generator
from safetensors.torch import load_file

from lit_restore.image import to_tensor
from lit_restore.models.artifact import load_generator, save_generator
from lit_restore.models.generator import FreeU, OneStepGenerator, fixed_noise
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.models.reference_cache import CacheNotes, ReferenceCache


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


PHOTOS = [photo(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base)


def asked(cache: ReferenceCache, generator: OneStepGenerator, photos: list, **options) -> tuple:
    notes = CacheNotes()
    return cache.features(generator, photos, notes=notes, **options), notes


def same(one: ReferenceFeatures, other: ReferenceFeatures) -> bool:
    pairs = zip(one.keys + one.values, other.keys + other.values, strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@torch.inference_mode()
def test_a_hit_restores_to_the_bit_what_a_miss_restores(generator: OneStepGenerator, tmp_path: Path) -> None:
    lq = pictures(0, 1, 3, 64, 64)
    missed, notes = asked(ReferenceCache(tmp_path), generator, PHOTOS)
    assert (notes.found, notes.computed, notes.rebuilt, notes.not_stored) == (0, 3, {}, None)
    hit, notes = asked(ReferenceCache(tmp_path), generator, PHOTOS)
    assert (notes.found, notes.computed) == (3, 0)
    assert same(hit, missed)
    assert torch.equal(generator(lq, hit, draw=NOISE), generator(lq, missed, draw=NOISE))


@torch.inference_mode()
def test_the_values_are_those_of_the_reference_pass(generator: OneStepGenerator, tmp_path: Path) -> None:
    cached = ReferenceCache(tmp_path).features(generator, PHOTOS)
    together = torch.stack([to_tensor(one) for one in PHOTOS])[None]
    direct = generator.reference_features(together, draw=fixed_noise(0))
    for one, other in zip(cached.keys + cached.values, direct.keys + direct.values, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)  # three at once round otherwise than one by one


def test_any_choice_of_photos_comes_from_one_file_each(generator: OneStepGenerator, tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    all_three = cache.features(generator, PHOTOS)
    two, notes = asked(cache, generator, [PHOTOS[2], PHOTOS[0]])
    assert (notes.found, notes.computed) == (2, 0)
    assert torch.equal(two.keys[3], all_three.keys[3][:, [2, 0]])
    assert len(list(tmp_path.iterdir())) == 3


def test_size_is_that_of_the_numbers(generator: OneStepGenerator, tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path / "does not exist yet")
    assert cache.size_bytes() == 0
    features = cache.features(generator, PHOTOS[:1])
    numbers = sum(tensor.numel() for tensor in features.keys + features.values)
    assert 0 < cache.size_bytes() - 4 * numbers < 10_000  # the header


def test_whatever_decides_the_values_decides_the_file(
    tiny_base: Path, generator: OneStepGenerator, tmp_path: Path
) -> None:
    """Another model, prompt embedding, setting, precision or photo never gets the stored ones."""
    cache = ReferenceCache(tmp_path)
    cache.features(generator, PHOTOS[:1])
    others = [
        tiny_generator(tiny_base, trained=False),
        tiny_generator(tiny_base, reference_timestep=0),
        tiny_generator(tiny_base, freeu=FreeU()),
        tiny_generator(tiny_base).to(torch.bfloat16),
    ]
    others.append(tiny_generator(tiny_base))
    others[-1].prompt_embedding[0, 0, 0] += 0.5
    for other in others:
        assert asked(cache, other, PHOTOS[:1])[1].computed == 1
    changed = PHOTOS[0].copy()
    changed[0, 0, 0] ^= 1
    assert asked(cache, generator, [changed])[1].computed == 1
    assert asked(cache, generator, PHOTOS[:1])[1].found == 1


def test_the_seed_counts_where_references_are_noised(
    tiny_base: Path, generator: OneStepGenerator, tmp_path: Path
) -> None:
    cache = ReferenceCache(tmp_path)
    assert same(cache.features(generator, PHOTOS[:1], seed=0), cache.features(generator, PHOTOS[:1], seed=1))
    noisy = tiny_generator(tiny_base, reference_noise=True)
    assert not same(cache.features(noisy, PHOTOS[:1], seed=0), cache.features(noisy, PHOTOS[:1], seed=1))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other", "text"])
def test_damaged_files_are_noticed_computed_anew_and_named(
    generator: OneStepGenerator, tmp_path: Path, damage: str
) -> None:
    cache = ReferenceCache(tmp_path)
    expected = cache.features(generator, PHOTOS[:1])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if damage == "other":
        cache.features(generator, PHOTOS[1:2])
        other = next(path for path in tmp_path.iterdir() if path != file)
        other.replace(file)
    else:
        flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        file.write_bytes({"truncated": whole[:-100], "flipped": flipped, "empty": b"", "text": b"no tensors"}[damage])
    again, notes = asked(cache, generator, PHOTOS[:1])
    assert list(notes.rebuilt) == [str(file)]
    assert notes.rebuilt[str(file)]
    assert same(again, expected)
    assert file.read_bytes() == whole
    assert asked(cache, generator, PHOTOS[:1])[1].rebuilt == {}


def test_no_photos_or_no_use_for_them(tiny_base: Path, generator: OneStepGenerator, tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    assert cache.features(generator, []) is None
    assert cache.features(tiny_generator(tiny_base, use_references=False), PHOTOS) is None
    assert cache.size_bytes() == 0


def test_where_nothing_can_be_written_the_values_are_used_all_the_same(
    generator: OneStepGenerator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    features, notes = asked(ReferenceCache(tmp_path / "file"), generator, PHOTOS[:1])
    assert features.keys[0].shape[:2] == (1, 1)
    assert "file" in notes.not_stored


WRITER = """
import sys, numpy as np
from lit_restore.models.artifact import load_generator
from lit_restore.models.reference_cache import CacheNotes, ReferenceCache
model, folder = sys.argv[1:]
generator, cache, notes = load_generator(model), ReferenceCache(folder), CacheNotes()
photos = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(3)]
print("ready", flush=True)
sys.stdin.readline()
cache.features(generator, photos, notes=notes)
print(notes.found + notes.computed, len(notes.rebuilt), notes.not_stored)
"""


@pytest.mark.timeout(600)
def test_two_processes_write_the_same_files_at_once(generator: OneStepGenerator, tmp_path: Path) -> None:
    model, folder = tmp_path / "model", tmp_path / "cache"
    save_generator(generator, model, iteration=0)
    command = [sys.executable, "-c", WRITER, str(model), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert all(writer.stdout.readline() == "ready\n" for writer in writers)
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.communicate()[0] for writer in writers] == ["3 0 None\n"] * 2
    assert len(list(folder.iterdir())) == 3  # and nothing half-written
    assert all(len(load_file(path)) == 18 for path in folder.iterdir())
    _, notes = asked(ReferenceCache(folder), load_generator(model), PHOTOS)
    assert notes.found == 3
