"""What every method is given, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_people import PHOTOS, picture

from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.synthetic_folder import SyntheticPeople
from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import (
    EvaluationSet,
    InputChoice,
    Unreadable,
    choice_of_run,
    collate_readable,
    with_options,
)
from lit_restore.image import read_rgb, to_uint8, write_image


def test_input_is_the_degraded_photo_in_eight_bits(photos: EvaluationSet, people: Path) -> None:
    sample = photos[0]
    degradation = Degradation("diffbir_face", scale_to_resolution=True)
    hq = read_rgb(people / sample["key"])
    lq = degrade(hq, degradation.record(sample["key"], 0, hq.shape[:2]))
    levels = (sample["lq"].numpy().transpose(1, 2, 0) + 1) * 127.5
    assert np.abs(levels - np.rint(levels)).max() < 1e-4
    assert np.abs(levels - lq * 255).max() <= 0.5 + 1e-3


def test_all_people_take_part_and_references_are_others_of_the_person(photos: EvaluationSet) -> None:
    assert len(photos) == sum(PHOTOS.values())
    assert photos.num_people == len(PHOTOS)
    sample = photos[0]
    truth = to_uint8(sample["hq"])
    assert len(sample["references"]) == 2
    assert all((to_uint8(reference) != truth).any() for reference in sample["references"])


def test_the_hash_follows_the_photos_not_where_they_are(choice: InputChoice, people: Path, tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        return EvaluationSet(replace(choice, root=(str(root),))).protocol["data"]["manifest_sha256"]

    before = digest(people)
    elsewhere = tmp_path / "elsewhere" / people.name
    people.parent.joinpath("elsewhere").mkdir()
    people.rename(elsewhere)
    assert digest(elsewhere) == before
    write_image(picture(7), elsewhere / "anna" / "0.png")
    assert digest(elsewhere) != before


def test_protocol_says_which_degradation(choice: InputChoice) -> None:
    changed = replace(choice, profile="sr_x4", profile_overrides={"sigma_px": (0.1, 3.0)}, seed=5, scale_profile=False)
    protocol = EvaluationSet(changed).protocol
    assert protocol["degradation"] == {
        "profile": "sr_x4",
        "changed": {"sigma_px": (0.1, 3.0)},
        "scaled_to_resolution": False,
        "seed": 5,
    }
    assert protocol["references"]["used_on_average"] == pytest.approx((6 * 2 + 2 * 1) / 8)


def test_fixed_degraded_files_are_hashed(tmp_path: Path, choice: InputChoice) -> None:
    root = tmp_path / "pairs"
    for number in range(2):
        write_image(picture(number), root / "hq" / "anna" / f"{number}.png")
        write_image(picture(50 + number), root / "lq" / "anna" / f"{number}.png")
    fixed = replace(choice, root=(str(root),), split="test")
    photos = EvaluationSet(fixed)
    before = photos.protocol["degradation"]
    assert before["fixed_files"]["photos"] == 2
    assert "profile" not in before
    assert (to_uint8(photos[0]["lq"]) == picture(50)).all()
    write_image(picture(60), root / "lq" / "anna" / "0.png")
    assert EvaluationSet(fixed).protocol["degradation"] != before


def test_limit_takes_photos_of_many_people(choice: InputChoice) -> None:
    photos = EvaluationSet(replace(choice, limit=3))
    assert {target.identity for target in photos.targets} == set(PHOTOS)
    assert photos.protocol["data"]["only_the_first"]
    assert not EvaluationSet(replace(choice, limit=8)).protocol["data"]["only_the_first"]


def test_an_unreadable_photo_is_reported_not_raised(photos: EvaluationSet, people: Path) -> None:
    key = photos.targets[0].key
    (people / key).write_bytes(b"rubbish")
    broken = photos[0]
    assert isinstance(broken, Unreadable)
    assert broken.key == key
    assert "cannot be decoded" in broken.reason
    batch, unreadable = collate_readable([broken, photos[1]])
    assert (batch["key"], unreadable) == ([photos.targets[1].key], [broken])
    assert collate_readable([broken]) == (None, [broken])


def test_empty_split_is_an_error(choice: InputChoice, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    for kind in ("hq", "lq"):
        write_image(picture(1), root / kind / "anna" / "0.png")
        write_image(picture(2), root / kind / "anna" / "1.png")
    with pytest.raises(UserError, match=r"no photos in split 'val'.*'all' takes everybody"):
        EvaluationSet(replace(choice, root=(str(root),), split="val"))


def test_data_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "data: {root: null, layout: auto, synthetic: {identities: 5, images_per_identity: 3, seed: 2}, size_px: 64,\n"
        "  max_references: 3, degradation: ffhqref_severe, degradation_overrides: null, scale_degradation: true,\n"
        "  split: {val: 1, test: 2, seed: 0, keep_layout: true}, seed: 9, cache_dir: pool, batch_size: 4}\n"
    )
    choice = choice_of_run(tmp_path)
    assert choice.synthetic == SyntheticPeople(5, 3, 2)
    assert (choice.profile, choice.scale_profile, choice.seed) == ("ffhqref_severe", True, 9)
    assert (choice.size_px, choice.num_references, choice.people.test) == (64, 3, 2)
    assert choice.name == "synthetic"


@pytest.mark.parametrize("content", [None, "model: {}", "data: {root: null}", "data: ["])
def test_a_run_without_data_is_an_error(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"no such configuration|does not say which data"):
        choice_of_run(tmp_path)


def test_options_replace_values_and_none_keeps_them(choice: InputChoice) -> None:
    changed = with_options(choice, {"size_px": 128, "split": None})
    assert (changed.size_px, changed.split) == (128, choice.split)
    with pytest.raises(UserError, match=r"unknown data option 'sise_px'.*size_px"):
        with_options(choice, {"sise_px": 1})
