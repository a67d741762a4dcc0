from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
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
