"""Models on the hub, with a stand-in for it: a folder per repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from helpers import NOISE, pictures, tiny_generator

from lit_restore.errors import UserError
from lit_restore.models.artifact import load_generator, save_generator
from lit_restore.models.generator import OneStepGenerator


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base)


@pytest.fixture
def asked(generator: OneStepGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the hub was asked for; it knows ``anna/old-photos``, and of it the revision ``v1``."""
    save_generator(generator, tmp_path / "hub" / "v1", iteration=7)
    save_generator(generator, tmp_path / "hub" / "main" / "model", iteration=8)  # a whole run was uploaded
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    asked = []

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision))
        if repo_id != "anna/old-photos":
            raise error(huggingface_hub.errors.RepositoryNotFoundError)
        if revision not in (None, "v1"):
            raise error(huggingface_hub.errors.RevisionNotFoundError)
        folder = tmp_path / "hub" / (revision or "main")
        names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        assert all(any(name.match(pattern) for pattern in allow_patterns) for name in names)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def error(kind: type[Exception]) -> Exception:
    made = kind.__new__(kind)  # what its constructor wants depends on the library's version
    Exception.__init__(made, "404 Client Error")
    return made


@torch.no_grad()
def test_a_model_is_fetched_by_its_id_and_revision(generator: OneStepGenerator, asked: list[tuple]) -> None:
    lq = pictures(0, 1, 3, 64, 64)
    for source, iteration in (
        ("anna/old-photos", 8),
        ("anna/old-photos@v1", 7),
        ("hf://anna/old-photos@v1", 7),
    ):
        loaded = load_generator(source)
        assert loaded.origin == {"iteration": iteration}
        assert torch.equal(loaded(lq, draw=NOISE), generator(lq, draw=NOISE))
    assert asked == [("anna/old-photos", None), ("anna/old-photos", "v1"), ("anna/old-photos", "v1")]


def test_what_exists_is_a_path(generator: OneStepGenerator, asked: list[tuple]) -> None:
    save_generator(generator, Path("anna/old-photos"), iteration=3)
    assert load_generator("anna/old-photos").origin == {"iteration": 3}
    assert asked == []
    assert load_generator("hf://anna/old-photos").origin == {"iteration": 8}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("photos/quickstrat", "no such checkpoint: photos/quickstrat; .* on the hub. Did you mean photos/quickstart?"),
        ("photos/old", "'photos' is a folder here, so this is a path; the hub's model is hf://photos/old."),
        ("photos/quickstart/checkpoints/last.ckpt", "no such checkpoint.* Train one with"),
        ("photos/quickstart/last.cpt", r"Did you mean photos/quickstart/last.ckpt\?"),
        ("runs/quickstart", "no such checkpoint: runs/quickstart; .* Train one with: lit_restore fit"),
        ("old/last.ckpt", "no such checkpoint: old/last.ckpt; .* Train one with"),
        ("nowhere", "no such checkpoint: nowhere; expected a model folder, a run folder, a .ckpt file, or owner/name"),
        ("./a/b", "no such checkpoint: ./a/b"),
        ("/no/where", "no such checkpoint: /no/where"),
        ("my photos/model", "no such checkpoint: my photos/model"),
        ("a/b/c", "no such checkpoint: a/b/c"),
    ],
)
def test_a_misspelt_path_is_never_asked_for_on_the_hub(source: str, said: str, asked: list[tuple]) -> None:
    Path("photos/quickstart").mkdir(parents=True)
    Path("photos/quickstart/last.ckpt").touch()
    with pytest.raises(UserError, match=said) as caught:
        load_generator(source)
    assert "\n" not in str(caught.value)
    assert asked == []


def test_what_the_hub_does_not_know(asked: list[tuple]) -> None:
    with pytest.raises(
        UserError, match=r"no such checkpoint: anna/new; .* nothing of this name in /.*/here, and the hub"
    ):
        load_generator("anna/new")
    with pytest.raises(UserError, match=r"no such revision of this model: anna/old-photos@v9; .*; found v9"):
        load_generator("anna/old-photos@v9")


def test_offline_the_real_client_gives_one_line(tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its settings once."""
    code = "from lit_restore.models.artifact import load_generator; load_generator('anna/old-photos')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "UserError: no such file or folder, and the model hub cannot be reached: anna/old-photos; found" in last
    assert "hf download anna/old-photos --local-dir FOLDER" in last
    assert "During handling" not in result.stderr
