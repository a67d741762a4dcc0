from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.models.base import BUNDLED
from lit_restore.models.recognition import SmallRecognizer, load_recognizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = SmallRecognizer(widths=(4, 8), embedding=16, size_px=32)
    network(pictures(0, 16, 3, 32, 32))  # moves the running statistics
    network.save(tmp_path / "recognition")
    return tmp_path / "recognition"


@torch.no_grad()
def test_vectors_have_unit_length_at_any_input_size(folder: Path) -> None:
    network = load_recognizer(str(folder))
    assert not network.training
    for side in (32, 64):
        vectors = network(pictures(1, 3, 3, side, side))
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_larger_faces_are_averaged_down_first(folder: Path) -> None:
    network, coarse = load_recognizer(str(folder)), pictures(1, 2, 3, 8, 8)
    small, large = (torch.nn.functional.interpolate(coarse, scale_factor=s, mode="bilinear") for s in (4, 16))
    assert ((network(large) * network(small)).sum(1) > 0.98).all()


@torch.no_grad()
def test_half_precision_on_disk_changes_cosines_by_less_than_a_thousandth(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = SmallRecognizer().eval()
    network.save(tmp_path)
    faces = pictures(0, 6, 3, 64, 64)
    before, after = network(faces), load_recognizer(str(tmp_path))(faces)
    assert (before @ before.T - after @ after.T).abs().max() < 1e-3


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_or_missing_file_is_one_clear_error(folder: Path, file: str) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="no usable recognition network"):
        load_recognizer(str(folder))
    path.unlink()
    with pytest.raises(UserError, match="no usable recognition network") as error:
        load_recognizer(str(folder))
    assert "\n" not in str(error.value)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    SmallRecognizer(widths=(4, 4), embedding=16, size_px=32).save(folder.parent / "other")
    (folder.parent / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(UserError, match="no usable recognition network"):
        load_recognizer(str(folder))


def test_stays_frozen_and_in_eval_mode(folder: Path) -> None:
    network = load_recognizer(str(folder)).train()
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_the_fingerprint_belongs_to_the_weights_and_not_to_the_folder(folder: Path) -> None:
    fingerprint = load_recognizer(str(folder)).fingerprint
    shutil.copytree(folder, folder.parent / "copy")
    assert load_recognizer(str(folder.parent / "copy")).fingerprint == fingerprint
    torch.manual_seed(1)
    SmallRecognizer(widths=(4, 8), embedding=16, size_px=32).save(folder.parent / "other")
    assert load_recognizer(str(folder.parent / "other")).fingerprint != fingerprint


def test_what_stands_beside_a_number(folder: Path) -> None:
    network = load_recognizer(str(folder))
    assert network.protocol("target") == {
        "network": str(folder),
        "weights": network.fingerprint,
        "crop": "whole picture",
    }


@pytest.mark.skipif(
    not (BUNDLED / "synthetic128" / "recognition_train").is_dir(), reason="the second network is not bundled yet"
)
def test_the_bundled_networks_of_training_and_evaluation_are_two() -> None:
    judge, trainer = (load_recognizer(f"bundled:synthetic128/{name}") for name in ("recognition", "recognition_train"))
    assert judge.fingerprint != trainer.fingerprint
    assert judge.network.config != trainer.network.config
