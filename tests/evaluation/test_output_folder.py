"""Pictures of other programs: which belongs to which photo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_people import SIZE_PX, picture

from lit_restore.data.collate import collate
from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import EvaluationSet
from lit_restore.evaluation.output_folder import OutputFolder, accepted_names, flat_names
from lit_restore.image import to_tensor, write_image


def fill(folder: Path, photos: EvaluationSet, name: str = "{stem}.png") -> Path:
    for number, target in enumerate(photos.targets):
        stem = target.key.removesuffix(".png")
        write_image(picture(500 + number), folder / name.format(stem=stem, flat=stem.replace("/", "__")))
    return folder


@pytest.mark.parametrize("name", ["{stem}.png", "{flat}.png", "{flat}.webp", "deeper/{stem}.jpg"])
def test_pictures_are_found_by_name(photos: EvaluationSet, tmp_path: Path, name: str) -> None:
    folder = fill(tmp_path / "made", photos, name)
    given = OutputFolder(folder / "deeper" if "deeper" in name else folder, photos.targets, size_px=SIZE_PX)
    assert list(given.files) == [target.key for target in photos.targets]
    assert given.remarks() == []
    if name == "{stem}.png":
        for number in range(len(photos)):
            [restored] = given(collate([photos[number]]))
            assert torch.equal(restored, to_tensor(picture(500 + number)))


def test_a_name_that_fits_two_photos_is_not_taken(photos: EvaluationSet) -> None:
    names = accepted_names(photos.targets)
    assert names["anna/0.png"] == ["anna/0", "anna__0"]  # every person has a 0.png
    assert names["anna/2.png"] == ["anna/2", "anna__2"]


def test_the_only_photo_of_a_person_may_have_the_persons_name(photos: EvaluationSet) -> None:
    first = [next(target for target in photos.targets if target.identity == name) for name in ("anna", "bert")]
    assert accepted_names(first)["anna/0.png"] == ["anna/0", "anna__0", "anna"]
    assert accepted_names(first[:1])["anna/0.png"] == ["anna/0", "anna__0", "0", "anna"]


def test_flat_names_are_never_equal() -> None:
    keys = ["a/b.png", "a/b.jpg", "a__b.png", "hq/c/d.png"]
    names = flat_names(keys)
    assert len(set(names.values())) == len(keys)
    assert names["hq/c/d.png"] == "c__d"


def test_missing_extra_unreadable_and_wrongly_sized_pictures(photos: EvaluationSet, tmp_path: Path) -> None:
    folder = fill(tmp_path / "made", photos)
    (folder / "anna/0.png").unlink()
    (folder / "anna/1.png").write_bytes(b"rubbish")
    write_image(picture(1, 128), folder / "bert/0.png")
    write_image(picture(1), folder / "left_over.png")
    given = OutputFolder(folder, photos.targets, size_px=SIZE_PX)
    outcomes = {target.key: given(collate([photos[number]]))[0] for number, target in enumerate(photos.targets)}
    failed = {key: str(outcome) for key, outcome in outcomes.items() if isinstance(outcome, UserError)}
    assert set(failed) == {"anna/0.png", "anna/1.png", "bert/0.png"}
    assert failed["anna/0.png"] == "no picture for this photo"
    assert "cannot be decoded" in failed["anna/1.png"]
    assert failed["bert/0.png"].endswith("expected 64x64; found 128x128")
    missing, extra = given.remarks()
    assert missing == f"1 photos have no picture in {folder}: anna/0.png"
    assert extra == f"1 pictures in {folder} belong to no photo: left_over.png"


def test_a_folder_of_something_else_is_refused(photos: EvaluationSet, tmp_path: Path) -> None:
    write_image(picture(1), tmp_path / "made" / "holiday.png")
    with pytest.raises(UserError, match=r"no picture in the folder belongs.*anna/0\.png, anna__0\.png.*holiday\.png"):
        OutputFolder(tmp_path / "made", photos.targets, size_px=SIZE_PX)
    with pytest.raises(UserError, match="no such folder of pictures"):
        OutputFolder(tmp_path / "nowhere", photos.targets, size_px=SIZE_PX)


def test_the_hash_follows_the_pictures(photos: EvaluationSet, tmp_path: Path) -> None:
    folder = fill(tmp_path / "made", photos)
    before = OutputFolder(folder, photos.targets, size_px=SIZE_PX).protocol
    assert OutputFolder(folder, photos.targets, size_px=SIZE_PX).protocol == before
    write_image(picture(9), folder / "carl" / "1.png")
    assert OutputFolder(folder, photos.targets, size_px=SIZE_PX).protocol["sha256"] != before["sha256"]
