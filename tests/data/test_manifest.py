from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_restore.data import scan
from lit_restore.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Photo,
    Split,
    check_files,
    read_manifest,
    read_previous,
    write_manifest,
)
from lit_restore.data.references import ReferencePools
from lit_restore.data.scan import build_manifest
from lit_restore.data.splits import assign_splits, check_leaks
from lit_restore.errors import UserError


def reasons(manifest: Manifest) -> dict[str, str]:
    return {item.key: item.reason for item in manifest.skipped}


def crowd(num_people: int, prefix: str = "p") -> Manifest:
    """A manifest without files: two photos of each person."""
    photos = [
        Photo(f"{name}/{k}.png", f"{name}/{k}", name, "hq", "", None, f"{name}{k}", f"{name}{k}", 99, 99, 1, 1)
        for name in (f"{prefix}{n:04d}" for n in range(num_people))
        for k in range(2)
    ]
    return Manifest(tuple(photos), roots=("root",))


def split_of(manifest: Manifest) -> dict[str, str]:
    return {photo.identity: photo.split for photo in manifest.photos}


def test_sizes_hashes_and_identities(people_folder: Callable[..., Path]) -> None:
    root = people_folder(anna=2, bert=3)
    manifest = build_manifest(root)
    assert [photo.key for photo in manifest.photos] == [f"anna/{n}.png" for n in range(2)] + [
        f"bert/{n}.png" for n in range(3)
    ]
    for photo in manifest.photos:
        content = Path(photo.path).read_bytes()
        assert photo.sha256 == hashlib.sha256(content).hexdigest()
        assert (photo.width, photo.height, photo.num_bytes) == (96, 96, len(content))
    assert manifest.layouts == ("people",)
    assert manifest.identities() == ["anna", "bert"]
    assert manifest.skipped == ()


def test_unusable_photos_are_skipped_with_the_reason(
    people_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_restore.image.MAX_PIXELS", 20_000)
    root = people_folder(anna=4, bert=2, lone=1)
    good = (root / "anna/0.png").read_bytes()
    (root / "anna/cut.png").write_bytes(good[: len(good) // 2])
    (root / "anna/empty.jpg").write_bytes(b"")
    (root / "anna/text.png").write_text("not an image")
    (root / "anna/copy.png").write_bytes(good)
    Image.open(root / "anna/0.png").save(root / "anna/again.webp", lossless=True)
    (root / "bert/theirs.png").write_bytes(good)
    Image.new("L", (1, 1), 128).save(root / "anna/dot.png")
    Image.new("RGB", (200, 200)).save(root / "anna/huge.png")
    manifest = build_manifest(root)
    why = reasons(manifest)
    assert set(why) == {
        *(f"anna/{name}" for name in ("cut.png", "empty.jpg", "text.png", "copy.png", "dot.png", "huge.png")),
        "anna/again.webp",
        *("bert/theirs.png", "lone/0.png"),
    }
    assert "truncated or not an image" in why["anna/cut.png"]
    assert "empty file" in why["anna/empty.jpg"]
    assert "truncated or not an image" in why["anna/text.png"]
    assert why["anna/copy.png"] == "duplicate of anna/0.png"
    assert why["anna/again.webp"] == "duplicate of anna/0.png"  # other bytes, the same picture
    assert why["bert/theirs.png"] == "duplicate of anna/0.png, but under another person (bert)"
    assert why["anna/dot.png"] == "too small (1x1, at least 64 px wanted)"
    assert "too large" in why["anna/huge.png"]
    assert "only usable photo of lone" in why["lone/0.png"]
    assert len(manifest.photos) == 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16", "CMYK", "P"])
def test_unusual_colour_modes_are_photos_like_others(people_folder: Callable[..., Path], mode: str) -> None:
    root = people_folder(anna=2)
    ramp = np.arange(96 * 64).reshape(64, 96)
    if mode == "I;16":
        image = Image.fromarray((ramp * 10).astype(np.uint16))
    else:
        image = Image.fromarray((ramp % 256).astype(np.uint8)).convert(mode)
    path = root / ("anna/x.jpg" if mode == "CMYK" else "anna/x.png")
    image.save(path)
    manifest = build_manifest(root)
    assert manifest.skipped == ()
    assert (manifest.photos[-1].width, manifest.photos[-1].height) == (96, 64)


def test_rotated_by_exif_has_its_upright_size(people_folder: Callable[..., Path]) -> None:
    root = people_folder(anna=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 64), (9, 99, 9)).save(root / "anna/x.jpg", exif=exif)
    assert (build_manifest(root).photos[-1].width, build_manifest(root).photos[-1].height) == (64, 96)


def test_nothing_usable_is_an_error(people_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"no usable photo.*only usable photo of anna"):
        build_manifest(people_folder(anna=1))


def test_unreadable_file_is_skipped(people_folder: Callable[..., Path]) -> None:
    root = people_folder(anna=3)
    (root / "anna/broken.png").symlink_to(root / "anna/nowhere.png")
    (root / "anna/2.png").chmod(0)
    manifest = build_manifest(root)
    if os.geteuid() == 0:  # root reads everything
        assert len(manifest.photos) == 3
    else:
        assert "permission denied" in reasons(manifest)["anna/2.png"]
    assert reasons(manifest)["anna/broken.png"] == "file cannot be read (no such file or directory)"


def test_fixed_pair_with_a_broken_input_is_skipped(tmp_path: Path, people_folder: Callable[..., Path]) -> None:
    people_folder(tmp_path / "set/hq", anna=2)
    people_folder(tmp_path / "set/lq", anna=2)
    (tmp_path / "set/lq/anna/1.png").write_bytes(b"oops")
    manifest = build_manifest(tmp_path / "set")
    assert [photo.key for photo in manifest.photos] == ["hq/anna/0.png"]
    assert "truncated or not an image" in reasons(manifest)["hq/anna/1.png"]


def test_json_round_trip_and_moving_a_prepared_folder(tmp_path: Path, people_folder: Callable[..., Path]) -> None:
    root = people_folder(tmp_path / "old", anna=2, bert=2)
    manifest = build_manifest(root)
    write_manifest(manifest, root / MANIFEST_NAME)
    assert read_manifest(root / MANIFEST_NAME) == manifest
    shutil.move(root, tmp_path / "new")
    moved = read_manifest(tmp_path / "new" / MANIFEST_NAME)
    assert check_files(moved) == []
    assert moved.photos[0].path == str(tmp_path / "new/anna/0.png")


def test_unchanged_files_are_not_read_again(
    people_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = people_folder(anna=2, bert=2)
    first = build_manifest(root)
    read = []
    monkeypatch.setattr(scan, "read_rgb", lambda path, real=scan.read_rgb: (read.append(path), real(path))[1])
    assert build_manifest(root, previous=first) == first
    assert read == []
    shutil.copyfile(root / "anna/0.png", root / "bert/1.png")
    again = build_manifest(root, previous=first)
    assert read == [root / "bert/1.png"]
    assert reasons(again)["bert/1.png"].startswith("duplicate of anna/0.png")


def test_changed_and_lost_files_are_noticed(people_folder: Callable[..., Path]) -> None:
    root = people_folder(anna=2, bert=2)
    manifest = build_manifest(root)
    assert check_files(manifest) == []
    (root / "anna/1.png").unlink()
    (root / "bert/0.png").write_bytes(b"short")
    problems = check_files(manifest)
    assert len(problems) == 2
    assert "anna/1.png is gone" in problems[0]
    assert "bert/0.png has changed" in problems[1]


def test_a_photo_saved_again_is_no_reference_for_itself(people_folder: Callable[..., Path]) -> None:
    """Also where copies stay in the set, because each is part of a published pair."""
    root = people_folder(anna=2)
    for side in ("lq", "hq"):
        shutil.copytree(root / "anna", root / side / "anna")
    shutil.rmtree(root / "anna")
    Image.open(root / "hq/anna/0.png").save(root / "hq/anna/again.png", compress_level=0)
    shutil.copy(root / "lq/anna/0.png", root / "lq/anna/again.png")
    manifest = build_manifest(root)
    first = next(photo for photo in manifest.photos if photo.key == "hq/anna/0.png")
    assert [photo.key for photo in manifest.photos] == [f"hq/anna/{name}.png" for name in ("0", "1", "again")]
    assert [photo.key for photo in ReferencePools(manifest).candidates(first)] == ["hq/anna/1.png"]


def test_a_manifest_of_an_older_version_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    assert read_previous(path) is None
    path.write_text(json.dumps({"version": 1, "photos": []}))
    assert read_previous(path) is None
    for content in ('{"version": 99}', "something else of the user's"):
        path.write_text(content)
        with pytest.raises(UserError, match="manifest"):
            read_previous(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "photos": [{}]}'])
def test_damaged_manifest(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest.*prepare"):
        read_manifest(tmp_path / "manifest.json")


def test_manifest_of_another_version_and_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match=r"another version.*expected 2; found 99"):
        read_manifest(tmp_path / "manifest.json")
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(tmp_path / "missing.json")


def test_several_roots_keep_people_apart_but_in_one_split(tmp_path: Path, people_folder: Callable[..., Path]) -> None:
    names = [f"p{n}" for n in range(8)]
    roots = [people_folder(tmp_path / side, **dict.fromkeys(names, 2)) for side in ("left", "right")]
    for path in roots[1].glob("*/*.png"):  # other content, same names
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    manifest = build_manifest(roots, split=Split(val=2, test=2))
    assert len(manifest.photos) == 32
    assert manifest.photos[0].key == "left/p0/0.png"
    splits = split_of(manifest)
    assert all(splits[f"left/{name}"] == splits[f"right/{name}"] for name in names)
    assert check_leaks(manifest) == []


def test_split_sizes() -> None:
    for people, split, expected in [
        (10, Split(), (8, 1, 1)),
        (100, Split(0.1, 0.2), (70, 10, 20)),
        (20, Split(val=3, test=5), (12, 3, 5)),
        (3, Split(), (1, 1, 1)),
        (2, Split(), (1, 0, 1)),
        (1, Split(), (1, 0, 0)),
        (7, Split(val=0, test=0), (7, 0, 0)),
    ]:
        counts = Counter(split_of(assign_splits(crowd(people), split)).values())
        assert tuple(counts[name] for name in ("train", "val", "test")) == expected


def test_split_is_by_person_and_seeded() -> None:
    manifest = assign_splits(crowd(50), Split(0.2, 0.2))
    assert all(len({p.split for p in manifest.photos if p.identity == name}) == 1 for name in manifest.identities())
    assert assign_splits(crowd(50), Split(0.2, 0.2)) == manifest
    assert split_of(assign_splits(crowd(50), Split(0.2, 0.2, seed=1))) != split_of(manifest)


def test_a_new_person_moves_hardly_anybody() -> None:
    before = split_of(assign_splits(crowd(200), Split(0.1, 0.1)))
    for n in range(20):
        more = crowd(200)
        more = replace(more, photos=more.photos + crowd(1, prefix=f"new{n}-").photos)
        after = split_of(assign_splits(more, Split(0.1, 0.1)))
        assert sum(before[name] != after[name] for name in before) <= 2


def test_layouts_own_split_wins_unless_told_otherwise() -> None:
    photos = crowd(30).photos
    named = tuple(replace(photo, layout_split="test") if photo.identity < "p0003" else photo for photo in photos)
    splits = split_of(assign_splits(Manifest(named, roots=("root",)), Split(val=4, test=9)))
    assert Counter(splits.values()) == {"train": 23, "val": 4, "test": 3}
    assert {name for name, split in splits.items() if split == "test"} == {"p0000", "p0001", "p0002"}
    free = split_of(assign_splits(Manifest(named, roots=("root",)), Split(val=4, test=9, keep_layout=False)))
    assert Counter(free.values()) == {"train": 17, "val": 4, "test": 9}


def test_bad_splits() -> None:
    with pytest.raises(UserError, match=r"expected a share below 1 or a whole number.*found 1\.5"):
        Split(val=1.5)
    with pytest.raises(UserError, match="found -1"):
        Split(test=-1)
    with pytest.raises(UserError, match=r"split needs more people than there are: test; .*found 5 of 5"):
        assign_splits(crowd(5), Split(val=0, test=5))


def test_a_data_set_that_is_all_test_has_nobody_to_divide() -> None:
    photos = tuple(replace(photo, layout_split="test") for photo in crowd(5).photos)
    splits = assign_splits(Manifest(photos, roots=("root",)), Split(val=2, test=1))
    assert set(split_of(splits).values()) == {"test"}


def test_leaks_are_found() -> None:
    clean = assign_splits(crowd(30), Split())
    assert check_leaks(clean) == []
    train = next(photo for photo in clean.photos if photo.split == "train")
    test = next(photo for photo in clean.photos if photo.split == "test")
    person = replace(clean, photos=(*clean.photos, replace(train, split="val", key="x", pixels_sha256="x")))
    assert check_leaks(person) == [f"same person in train and val: {train.key}, x"]
    content = replace(clean, photos=(*clean.photos, replace(test, identity="twin", split="train", key="y")))
    assert check_leaks(content) == [f"same picture in test and train: {test.key}, y"]


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.3, 0.9)])
def test_shares_that_leave_nobody_to_train(val: float, test: float) -> None:
    with pytest.raises(UserError, match=rf"nobody is left to train with.*found val {val:g} and test {test:g}"):
        Split(val=val, test=test)
    assert Split(val=1, test=0.9).val == 1  # one person, not a share
