"""Saving and publishing a restorer; the hub is a stand-in that keeps what it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import yaml

from lit_restore.errors import UserError
from lit_restore.inference import Restorer
from lit_restore.inference.model_card import model_card
from lit_restore.models.artifact import load_generator

FILES = {
    "README.md",
    "config.json",
    *(f"{part}/adapter_{file}" for part in ("unet", "vae") for file in ("config.json", "model.safetensors")),
}
FACE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def restorer(model: Path) -> Restorer:
    return Restorer.from_pretrained(model, device="cpu", cache=False, weights=model)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def header(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


class Hub:
    """Takes the place of `huggingface_hub.HfApi`."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.calls: list[tuple] = []

    def __call__(self, **_: object) -> Hub:
        return self

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
        repo_id = repo_id if "/" in repo_id else f"me/{repo_id}"
        self.calls.append(("create", repo_id, private, exist_ok))
        self.repositories.setdefault(repo_id, {})
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, repo_id: str, *, branch: str, exist_ok: bool) -> None:
        self.calls.append(("branch", branch, exist_ok))

    def file_exists(self, repo_id: str, name: str, *, revision: str | None) -> bool:
        return name in self.repositories[repo_id]

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: Path,
        commit_message: str,
        revision: str | None,
        ignore_patterns: list[str] | None,
        delete_patterns: list[str],
    ) -> SimpleNamespace:
        self.calls.append(("upload", commit_message, revision, delete_patterns))
        uploaded = {name: data for name, data in files(folder_path).items() if name not in (ignore_patterns or ())}
        self.repositories[repo_id] |= uploaded
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    return hub


def test_what_was_folded_is_saved_as_it_was_trained(restorer: Restorer, model: Path, tmp_path: Path) -> None:
    restorer.save_pretrained(tmp_path / "saved")
    saved = files(tmp_path / "saved")
    assert set(saved) == FILES
    card = saved.pop("README.md").decode()
    assert saved == files(model)
    again = Restorer.from_pretrained(tmp_path / "saved", device="cpu", cache=False, weights=model)
    np.testing.assert_array_equal(again.restore(FACE).image, restorer.restore(FACE).image)
    assert header(card)["license"] == "other"
    (tmp_path / "saved" / "README.md").write_text("my own words")
    restorer.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "README.md").read_text() == "my own words"


def test_exactly_the_model_is_published(restorer: Restorer, model: Path, tiny_base: Path, hub: Hub) -> None:
    address = restorer.push_to_hub("me/old-photos", private=True, license="cc-by-nc-4.0")
    assert address == "https://hub/me/old-photos/commit/1"
    uploaded = hub.repositories["me/old-photos"]
    assert set(uploaded) == FILES
    for name, content in files(model).items():
        if name.endswith(".safetensors"):
            assert uploaded[name] == content
        else:  # the same but for the path of the base on this machine
            assert uploaded[name].decode() == content.decode().replace(str(tiny_base), tiny_base.name)
    assert not any(str(tiny_base.parent).encode() in content for content in uploaded.values())
    assert hub.calls == [
        ("create", "me/old-photos", True, True),
        ("upload", "Upload a restorer", None, ["unet/*", "vae/*"]),
    ]
    card = uploaded["README.md"].decode()
    assert header(card) == {
        "license": "cc-by-nc-4.0",
        "library_name": "lit_restore",
        "pipeline_tag": "image-to-image",
        "tags": ["face-restoration", "lora", "lit_restore"],
    }
    fingerprint = json.loads(uploaded["config.json"])["base_fingerprint"]
    for part in (
        "# old-photos\n",
        "--checkpoint me/old-photos --base FOLDER\n",
        'Restorer.from_pretrained("me/old-photos", base="FOLDER")',
        f"Its fingerprint must be `{fingerprint}`.",
        "cc-by-nc-4.0 for the files in here.",
        "| size_px | 64 |\n",
        "| iterations | 7 |\n",
    ):
        assert part in card


def test_a_second_time_the_card_is_kept(restorer: Restorer, hub: Hub) -> None:
    restorer.push_to_hub("old-photos", commit_message="first")
    hub.repositories["me/old-photos"]["README.md"] = b"my own words"
    restorer.push_to_hub("me/old-photos", commit_message="second", revision="v2")
    assert hub.repositories["me/old-photos"]["README.md"] == b"my own words"
    assert hub.calls[-2:] == [("branch", "v2", True), ("upload", "second", "v2", ["unet/*", "vae/*"])]


def test_what_is_published_comes_back(
    restorer: Restorer, tiny_base: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer.push_to_hub("me/old-photos")

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision == "v1"
        for name, content in hub.repositories[repo_id].items():
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / name).write_bytes(content)
        return str(tmp_path / "copy")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    options = {"device": "cpu", "cache": False, "weights": tmp_path}
    with pytest.raises(UserError, match="no such base folder: base"):
        Restorer.from_pretrained("me/old-photos", revision="v1", **options)
    again = Restorer.from_pretrained("me/old-photos", revision="v1", base=str(tiny_base), **options)
    np.testing.assert_array_equal(again.restore(FACE).image, restorer.restore(FACE).image)


def test_a_card_says_where_the_base_is(model: Path) -> None:
    generator = load_generator(model)
    bundled = model_card(generator, "me/x", base="bundled:small", licence=None)
    assert header(bundled)["license"] == "apache-2.0"
    assert "Needs `bundled:small`, which comes with lit_restore." in bundled
    assert "--checkpoint me/x\n" in bundled
    on_hub = header(card := model_card(generator, "me/x", base="stabilityai/sd-turbo", licence=None))
    assert (on_hub["base_model"], on_hub["base_model_relation"]) == ("stabilityai/sd-turbo", "adapter")
    assert "Not stated by the author." in card


def test_offline_the_real_client_gives_one_line(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from lit_restore.inference import Restorer\n"
        "tool = Restorer.from_pretrained(sys.argv[1], device='cpu', cache=False, weights=sys.argv[1])\n"
        "tool.push_to_hub('me/old-photos')"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "UserError: the model could not be put on the hub: me/old-photos; found OfflineModeIsEnabled" in last
    assert "hf auth login" in last
    assert "During handling" not in result.stderr
