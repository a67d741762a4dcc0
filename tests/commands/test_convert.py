"""``lit_restore convert`` as it is typed."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from official_files import PARITY, official_content, write_official

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.image import read_rgb, write_image
from lit_restore.models.artifact import load_generator
from lit_restore.models.random_base import write_random_base

BASE = PARITY / "base"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("download") / "final_model_ckpt.pt")


@pytest.fixture(autouse=True)
def _elsewhere_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(hub_id: str, *_: object, **__: object) -> None:
        raise UserError("not on this machine and the model hub cannot be reached", where=hub_id)

    monkeypatch.setattr("lit_restore.models.base.download", unreachable)
    monkeypatch.chdir(tmp_path)


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr."""
    capsys.readouterr()
    assert convert(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


def names(folder: Path | str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_there_restore_and_back(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a user would: convert, use the command it prints, convert back; the file is the one that was there."""
    assert convert(official, "models/final", "--base", BASE, "--size-px", 128) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"Written: models/final, on the base {BASE}." in out
    assert names("models") == ["final"]
    assert names("models/final") == ["config.json", "unet", "vae"]

    picture = np.random.RandomState(0).randint(0, 256, (128, 128, 3)).astype(np.uint8)
    write_image(picture, "PHOTO.png")
    for number in range(2):
        write_image(picture[::-1] if number else picture[:, ::-1], f"FOLDER/{number}.png")
    command = shlex.split(out.split("Use it:  lit_restore ")[1].splitlines()[0].replace("PHOTO", "PHOTO.png"))
    assert main([*command, "--aligned", "yes", "--device", "cpu"]) == 0
    restored = read_rgb("OUT.png")
    assert restored.shape == (128, 128, 3)
    assert restored.std() > 5

    assert convert("models/final", "back.pt") == 0
    assert "Written: back.pt" in capsys.readouterr().out
    expected, back = official_content(), torch.load("back.pt", weights_only=True)
    assert back["cfg"] == expected["cfg"]
    assert set(back["state_dict"]) == set(expected["state_dict"])
    assert all(torch.equal(back["state_dict"][name], value) for name, value in expected["state_dict"].items())


def test_a_dry_run_writes_nothing_and_needs_no_base(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(official, "model", "--dry-run", "--write-base", "base") == 0
    out = capsys.readouterr().out
    assert "final_model_ckpt.pt: official InstantRestore checkpoint" in out
    assert "LoRA of rank 4, alpha 2, on 256 layers" in out
    assert "Would write model and the base base." in out
    assert names() == []


def test_a_dry_run_still_describes_a_file_that_does_not_say_everything(capsys: pytest.CaptureFixture[str]) -> None:
    write_official(Path("silent.pt"), train_input=...)
    assert convert("silent.pt", "model", "--dry-run") == 2
    captured = capsys.readouterr()
    assert "train_input not said" in captured.out
    assert captured.err.count("\n") == 1
    assert "Say it with --keep-own-keys yes or --keep-own-keys no (the published configurations: no" in captured.err
    assert convert("silent.pt", "model", "--dry-run", "--keep-own-keys", "no") == 0


def test_without_any_base_at_hand(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the way out, and the way out works with the small files only."""
    message = refused(capsys, official, "model")
    assert "stabilityai/sd-turbo" in message
    assert "--base FOLDER, or take it out of the checkpoint itself with --write-base FOLDER" in message
    assert names() == []
    shutil.copytree(BASE, "small", ignore=shutil.ignore_patterns("*.safetensors"))
    assert convert(official, "model", "--write-base", "own_base", "--base", "small", "--size-px", 128) == 0
    assert names("own_base") == ["scheduler", "text_encoder", "tokenizer", "unet", "vae"]
    assert load_generator("model").config.base == str(Path("own_base").resolve())
    assert load_generator("model", base=str(BASE)).base_fingerprint  # the same base as the one that was trained on
    assert "has another shape than its configuration" in refused(capsys, official, "x", "--write-base", "other")
    assert names() == ["model", "own_base", "small"]


def test_what_is_there_is_not_replaced_by_accident(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--base", BASE, "--size-px", 128)
    Path("mine").mkdir()
    Path("mine/photo.jpg").write_text("mine")
    for extra in ((), ("--overwrite",)):
        assert "the output exists: mine; found photo.jpg" in refused(capsys, official, "mine", *options, *extra)
        Path("file.txt").write_text("mine")
        assert "the output exists: file.txt" in refused(capsys, official, "file.txt", *options, *extra)
    assert names("mine") == ["photo.jpg"]
    assert convert(official, "model", *options) == 0
    assert "add --overwrite" in refused(capsys, official, "model", *options)
    assert convert(official, "model", *options, "--overwrite") == 0
    assert convert("model", "back.pt", "--dtype", "float32") == 0
    assert "the output exists: back.pt" in refused(capsys, "model", "back.pt")
    assert convert("model", "back.pt", "--overwrite") == 0
    assert {value.dtype for value in torch.load("back.pt", weights_only=True)["state_dict"].values()} == {
        torch.bfloat16
    }
    assert names() == ["back.pt", "file.txt", "mine", "model"]


def test_the_way_back_can_be_tried_first(official: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(official, "model", "--base", BASE) == 0
    capsys.readouterr()
    assert convert("model", "back.pt", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "unet: 514 trained tensors" in out
    assert f"Would write back.pt, with the base {BASE}." in out
    assert names() == ["model"]


def test_mistakes_are_one_line(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (("none.pt", "model"), "no such checkpoint or folder: none.pt"),
        ((official, "back.pt"), "found an official InstantRestore checkpoint. Convert it first: lit_restore convert"),
        ((tmp_path, "model"), "a folder can only be converted into a checkpoint of the official code"),
        ((tmp_path, "model.pt"), f"not a model folder: {tmp_path}"),
        ((official, "model", "--dtype", "float32"), "--dtype has no meaning from the official format"),
        ((official, "model", "--force"), "--force has no meaning from the official format"),
        ((tmp_path, "model.pt", "--keep-own-keys", "no"), "--keep-own-keys has no meaning to the official format"),
        ((official, "model", "--use-adain", "perhaps"), "expected yes or no, found 'perhaps'"),
        ((official, "model", "--bas", BASE), "unknown option '--bas'. Did you mean '--base'?"),
        ((official, "model", "--base", "nowhere"), "no such base folder: nowhere"),
        ((official, "model", "--use-adain", "no", "--base", BASE), "the file says use_adain True"),
        ((official, "model", "--size-px", 100, "--base", BASE), "the base cannot work at this size"),
        ((official,), "the following arguments are required: output"),
    ):
        assert message in refused(capsys, *arguments), arguments
    other = write_random_base(tmp_path / "other")
    assert "the checkpoint's VAE is not that of" in refused(capsys, official, "model", "--base", other)
    message = refused(capsys, official, "model", "--base", other, "--vae", BASE)
    assert "the checkpoint was trained on another base" in message
    assert names() == ["other"]


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            import os

            return (os.system, (f"touch {tmp_path}/sprung",))

    torch.save(official_content() | {"optimizer": Trap()}, "trap.pt")
    for arguments in (("trap.pt", "model"), ("trap.pt", "model", "--dry-run"), ("trap.pt", "back.pt")):
        message = refused(capsys, *arguments)
        assert "wants to run code while it is read, which was not done: trap.pt" in message
        assert ".system" in message
    assert names() == ["trap.pt"]
