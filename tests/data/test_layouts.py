from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_restore.data.layouts import CELEBREF_HQ_TEST, find_photos
from lit_restore.data.photo_files import FoundPhoto, natural_key
from lit_restore.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_key(photos: list[FoundPhoto]) -> dict[str, FoundPhoto]:
    return {photo.key: photo for photo in photos}


def test_people_takes_all_four_suffixes_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "anna/10.png", "anna/2.JPG", "anna/.hidden.png", "anna/notes.txt", "bert/a.jpeg", "bert/b.webp")
    name, found = find_photos(tmp_path)
    assert name == "people"
    assert [photo.key for photo in found.photos] == ["anna/2.JPG", "anna/10.png", "bert/a.jpeg", "bert/b.webp"]
    assert {photo.identity for photo in found.photos} == {"anna", "bert"}
    assert all(photo.role == "hq" and photo.references is None and photo.split is None for photo in found.photos)
    assert found.skipped == []


def test_people_reports_what_it_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "anna/1.png", "anna/2.heic", "loose.png", "anna/more/3.png")
    _, found = find_photos(tmp_path, "people")
    assert [key for key, _ in found.skipped] == ["anna/2.heic", "anna/more", "loose.png"]
    assert "not in a person's folder" in dict(found.skipped)["loose.png"]
    assert "too deep" in dict(found.skipped)["anna/more"]


def test_keys_are_normalised(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "José")
    touch(tmp_path, f"{decomposed}/ä.png")
    _, found = find_photos(tmp_path, "people")
    assert found.photos[0].key == unicodedata.normalize("NFC", "José/ä.png")
    assert found.photos[0].identity == unicodedata.normalize("NFC", "José")


def test_celebref_hq_is_recognised_and_keeps_the_papers_test_people(tmp_path: Path) -> None:
    assert len(CELEBREF_HQ_TEST) == 17
    touch(tmp_path, *(f"{name}/0.png" for name in CELEBREF_HQ_TEST), "00002/0.png", "00002/1.png")
    name, found = find_photos(tmp_path)
    assert name == "celebref_hq"
    assert {photo.identity for photo in found.photos if photo.split == "test"} == CELEBREF_HQ_TEST
    assert all(photo.split is None for photo in found.photos if photo.identity == "00002")


def test_instantrestore_train_finds_landmarks(tmp_path: Path) -> None:
    touch(tmp_path, "a/cropped_images/1.png", "a/cropped_images/2.png", "a/new_landmarks/1.npy")
    name, found = find_photos(tmp_path)
    photos = by_key(found.photos)
    assert name == "instantrestore_train"
    assert photos["a/cropped_images/1.png"].landmarks == tmp_path / "a/new_landmarks/1.npy"
    assert photos["a/cropped_images/2.png"].landmarks is None
    assert photos["a/cropped_images/1.png"].identity == "a"


def test_instantrestore_test(tmp_path: Path) -> None:
    touch(tmp_path, *(f"a/conditioning/{n}.png" for n in (1, 10, 2)), "a/degraded.png", "a/gt.png")
    touch(tmp_path, "b/degraded.png", "b/conditioning/1.png", "c/gt.png")
    name, found = find_photos(tmp_path)
    photos = by_key(found.photos)
    assert name == "instantrestore_test"
    target = photos["a/gt.png"]
    assert (target.role, target.lq, target.split) == ("hq", tmp_path / "a/degraded.png", "test")
    assert target.references == tuple(f"a/conditioning/{n}.png" for n in (1, 2, 10))
    assert photos["a/conditioning/2.png"].role == "reference"
    assert photos["b/degraded.png"].role == "lq"  # no ground truth, but references
    assert photos["b/degraded.png"].references == ("b/conditioning/1.png",)
    assert found.skipped == [("c/gt.png", "no degraded image beside it")]


def test_pairs_with_people_and_own_references(tmp_path: Path) -> None:
    touch(tmp_path, "lq/anna/1.png", "hq/anna/1.jpg", "lq/anna/2.png", "hq/anna/2.png", "hq/anna/3.png")
    touch(tmp_path, "lq/x.png", "hq/x.png", "ref/anna/2/9.png")
    name, found = find_photos(tmp_path)
    photos = by_key(found.photos)
    assert name == "pairs"
    assert photos["hq/anna/1.jpg"].lq == tmp_path / "lq/anna/1.png"
    assert (photos["hq/anna/1.jpg"].identity, photos["hq/anna/1.jpg"].references) == ("anna", None)
    assert photos["hq/anna/2.png"].references == ("ref/anna/2/9.png",)
    assert (photos["hq/x.png"].identity, photos["hq/x.png"].references) == ("x", ())
    assert found.skipped == [("hq/anna/3.png", "no lq file of the same name")]


def test_pairs_say_what_they_leave_out(tmp_path: Path) -> None:
    touch(tmp_path, "lq/1.png", "hq/1.jpg", "hq/1.png", "lq/2.bmp", "hq/2.bmp")
    _, found = find_photos(tmp_path)
    assert [photo.key for photo in found.photos] == ["hq/1.jpg"]
    assert dict(found.skipped) == {
        "hq/1.png": "same name as 1.jpg, which is taken",
        "hq/2.bmp": "format .bmp is not read (convert it to PNG or JPEG)",
        "lq/2.bmp": "format .bmp is not read (convert it to PNG or JPEG)",
    }


def test_instantrestore_test_says_what_it_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "a/degraded.png", "a/gt.png", "a/conditioning/1.png", "a/conditioning/2.heic")
    touch(tmp_path, "b/gt.png", "c/conditioning/1.png")
    _, found = find_photos(tmp_path)
    assert [photo.key for photo in found.photos] == ["a/conditioning/1.png", "a/gt.png"]
    assert dict(found.skipped) == {
        "a/conditioning/2.heic": "format .heic is not read (convert it to PNG or JPEG)",
        "b/gt.png": "no degraded image beside it",
        "c": "no degraded image in it",
    }


def test_lq_only(tmp_path: Path) -> None:
    name, found = find_photos(touch(tmp_path, "1.png", "2.jpg"))
    assert name == "lq_only"
    assert [(p.role, p.references, p.split) for p in found.photos] == [("lq", (), "test")] * 2


def write_lists(root: Path) -> Path:
    lists = root / "reference_mapping"
    lists.mkdir(parents=True)
    (lists / "train_references.csv").write_text(
        "gt_image,ref_image\n00001.png,\"['00002.png', '00003.png']\"\n00002.png,\"['00001.png']\"\n"
        "00009.png,\"['00001.png']\"\n"
    )
    (lists / "test_references.csv").write_text("gt_image,lq_image,ref_image\n00005.png,00005.png,\"['00006.png']\"\n")
    names = ("00001", "00002", "00003", "00005", "00006", "00007")
    return touch(root, *(f"images512x512/00000/{name}.png" for name in names))


def test_ffhq_ref_lists(tmp_path: Path) -> None:
    name, found = find_photos(write_lists(tmp_path))
    photos = {Path(photo.key).stem: photo for photo in found.photos}
    assert name == "ffhq_ref"
    assert photos["00001"].references == ("images512x512/00000/00002.png", "images512x512/00000/00003.png")
    assert {photos[stem].identity for stem in ("00001", "00002", "00003")} == {"00001"}
    assert (photos["00003"].role, photos["00003"].split) == ("reference", "train")
    assert (photos["00005"].split, photos["00005"].lq) == ("test", None)
    assert "00007" not in photos  # not in any list
    assert found.skipped == [("images512x512/00009.png", "listed, but the file is not there")]


def test_ffhq_ref_with_published_inputs_must_be_named(tmp_path: Path) -> None:
    touch(write_lists(tmp_path), "test_images/severe_degrad/00005.png")
    with pytest.raises(UserError, match="ffhq_ref_moderate, ffhq_ref_severe"):
        find_photos(tmp_path)
    _, found = find_photos(tmp_path, "ffhq_ref_severe")
    photos = {Path(photo.key).stem: photo for photo in found.photos}
    assert photos["00005"].lq == tmp_path / "test_images/severe_degrad/00005.png"
    assert photos["00001"].lq is None  # training is degraded on the fly
    with pytest.raises(UserError, match="moderate_degrad"):
        find_photos(tmp_path, "ffhq_ref_moderate")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [("image,refs", "a,b", "columns gt_image, ref_image"), ("gt_image,ref_image", "1.png,[oops", "line 2")],
)
def test_ffhq_ref_bad_list(tmp_path: Path, header: str, row: str, message: str) -> None:
    touch(tmp_path, "images512x512/1.png", "reference_mapping/train_references.csv")
    (tmp_path / "reference_mapping/train_references.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(UserError, match=message):
        find_photos(tmp_path)


def test_bad_folders(tmp_path: Path, people_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"no such data folder: .*missing"):
        find_photos(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"the data folder is empty: .*empty; expected a folder of people"):
        find_photos(tmp_path / "empty")
    with pytest.raises(UserError, match="Did you mean 'people'"):
        find_photos(people_folder(a=2), "peopel")
    with pytest.raises(UserError, match=r"no photos found.*lq/\* and hq/\*.*found a/"):
        find_photos(people_folder(a=2), "pairs")
    with pytest.raises(UserError, match="found a file"):
        find_photos(touch(tmp_path, "file.png") / "file.png")


def test_two_layouts_at_once_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "a/degraded.png", "a/cropped_images/1.png")
    with pytest.raises(UserError, match="instantrestore_train and instantrestore_test"):
        find_photos(tmp_path)


def test_natural_key() -> None:
    assert sorted(["b10", "b9", "a", "10", "9"], key=natural_key) == ["9", "10", "a", "b9", "b10"]
