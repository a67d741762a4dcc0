from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.weights import FAN, RETINAFACE, SFD, WeightFile, check, fill, locate, missing, search_folders

CONTENT = b"weights " * 1000
FILE = WeightFile("net.pth", "a net", "MIT", "example.org/net", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE.name
    path.write_bytes(content)
    return path


def test_folders_are_searched_from_explicit_to_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explicit, first, second = (tmp_path / name for name in ("explicit", "first", "second"))
    for folder in (explicit, first, second):
        folder.mkdir()
    monkeypatch.setenv("LIT_RESTORE_WEIGHTS", f"{first}{os.pathsep}{second}")
    cache = tmp_path / "cache" / "lit_restore"
    assert search_folders(explicit) == [explicit, first, second, Path("weights"), cache]

    assert locate(FILE, explicit) is None
    for folder in (cache, Path("weights"), second, first, explicit):
        expected = put(folder)
        assert locate(FILE, explicit) == expected


def test_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert search_folders()[-1] == Path.home() / ".cache" / "lit_restore"


def test_a_file_one_level_below_is_found(tmp_path: Path) -> None:
    expected = put(tmp_path / "all" / "some_net")
    assert locate(FILE, tmp_path / "all") == expected


def test_a_named_folder_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"weights folder does not exist: .*nowhere"):
        locate(FILE, tmp_path / "nowhere")
    monkeypatch.setenv("LIT_RESTORE_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"folder in LIT_RESTORE_WEIGHTS does not exist: .*gone"):
        search_folders()


def test_a_file_cut_in_half_is_named_as_such(tmp_path: Path) -> None:
    put(tmp_path, CONTENT[: len(CONTENT) // 2])
    with pytest.raises(UserError, match=r"cut short.*expected 8,000 bytes; found 4,000 bytes.*example.org/net"):
        locate(FILE, tmp_path)


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_other_content_under_the_same_name_is_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, content)
    with pytest.raises(UserError, match=r"damaged or another file: .*net\.pth"):
        locate(FILE, tmp_path)


def test_a_checksum_may_be_given_by_its_first_digits(tmp_path: Path) -> None:
    short = WeightFile("net.pth", "a net", "MIT", "example.org/net", FILE.sha256[:10])
    check(put(tmp_path), short)
    with pytest.raises(UserError, match="sha256"):
        check(put(tmp_path, b"half"), short)


def test_file_names_of_face_alignment_carry_their_checksum() -> None:
    for file in (SFD, FAN):
        assert f"-{file.sha256}.pth" in file.name
        assert file.source.endswith(file.name)


def test_missing_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    message = str(missing([RETINAFACE], tmp_path, also_in=[Path("hub")], reason="no network", instead=[SFD, FAN]))
    for part in (RETINAFACE.name, "MIT", RETINAFACE.source, SFD.name, FAN.name, "hub (no network)"):
        assert part in message
    assert message.endswith(f"Put it into {tmp_path}.")
    assert str(missing([SFD, FAN])).endswith("Put them into weights, or set LIT_RESTORE_WEIGHTS to the folder.")
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fill_loads_what_fits_exactly(tmp_path: Path, suffix: str) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / f"net{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(source.state_dict(), path)
    fill(target, path)
    torch.testing.assert_close(target.weight, source.weight, rtol=0, atol=0)

    for state in ({"weight": source.weight.detach()}, {**source.state_dict(), "extra": torch.zeros(1)}):
        save(state, path)
        with pytest.raises(UserError, match="weights do not fit Linear"):
            fill(target, path)
    save(source.state_dict(), path)
    with pytest.raises(UserError, match="weights do not fit Conv2d"):
        fill(nn.Conv2d(3, 2, 1), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["empty", "text", "half"])
def test_fill_refuses_what_cannot_be_decoded(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"net{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(nn.Linear(30, 20).state_dict(), path)
    content = {"empty": b"", "text": b"not found", "half": path.read_bytes()[:1500]}[kind]
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged or not a weight file"):
        fill(nn.Linear(30, 20), path)


def test_fill_never_runs_code_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(nn.Linear(3, 2), path)  # a pickled object, not tensors
    with pytest.raises(UserError, match="damaged or not a weight file"):
        fill(nn.Linear(3, 2), path)
