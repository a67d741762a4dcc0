"""Every configuration that ships: it parses, its header tells the truth, and it trains."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from lit_restore.cli import COMMANDS, main
from lit_restore.models.base import BUNDLED

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SMALL = ("--data.synthetic", "{identities: 6, images_per_identity: 3, seed: 7}", "--data.split", "{val: 1, test: 1}")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


def fit(config: str, cache: Path, *options: object) -> int:
    common = ("--data.cache_dir", cache, "--data.num_workers", 0, "--trainer.accelerator", "cpu")
    return main([str(option) for option in ("fit", "--config", ROOT / config, *SMALL, *common, *options)])


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_it_parses_and_resolves(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(path), "--print_config"]) == 0
    text = capsys.readouterr().out
    assert "${" not in text
    values = yaml.safe_load(text)
    size_px = values["model"]["init_args"].get("generator", {}).get("size_px", values["data"]["size_px"])
    assert values["data"]["size_px"] == size_px
    assert values["trainer"]["default_root_dir"].startswith("runs/")


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_its_header_has_the_command_that_uses_it(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text()).group().replace("\\\n#", " ")
    commands = re.findall(r"lit_restore [^()\n]+", header)
    assert commands
    assert name(path) in commands[0]
    for command in commands:
        words = shlex.split(command)
        assert words[1] in COMMANDS
        assert all((ROOT / word).is_file() for word in words if word.endswith(".yaml"))


def test_the_full_size_config_trains_a_small_base(tiny_base: Path, cache: Path) -> None:
    """All its keys, on a base and pictures that a test can afford."""
    options = ("--data.root", "null", "--model.generator.base", tiny_base, "--model.generator.size_px", 64)
    options += ("--model.losses.lpips", 0, "--model.losses.ms_ssim", 0, "--model.losses.l1", 1)
    for network in ("identity.network", "adversarial.backbone"):
        options += (f"--model.losses.{network}", "bundled:synthetic128/recognition")
    assert fit("configs/instantrestore.yaml", cache, *options, "--trainer.fast_dev_run", "true") == 0


def test_the_bundled_networks_are_made_by_their_recipes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VAE, UNet on that VAE, recognition network; and the quickstart runs on what they exported."""
    few = ("--data.size_px", 64, "--data.batch_size", 1, "--model.max_iterations", 2, "--trainer.precision", "32")
    assert fit("configs/bundled/vae.yaml", cache, *few) == 0
    assert fit("configs/bundled/base.yaml", cache, *few) == 0
    assert fit("configs/bundled/recognition.yaml", cache, *few) == 0
    recognition = "runs/bundled/recognition/export"
    callbacks = [
        {"class_path": "Metrics", "init_args": {"recognition": recognition}},
        {"class_path": "ImageGrids"},
        {"class_path": "ReferenceStudy", "init_args": {"recognition": recognition}},
    ]
    Path("made.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    options = ("--config", "made.yaml", "--model.generator.base", "runs/bundled/base/export")
    options += ("--model.generator.size_px", 64, "--model.max_iterations", 2, "--data.batch_size", 1)
    capsys.readouterr()
    assert fit("configs/quickstart.yaml", cache, *options) == 0
    check_quickstart(Path("runs/quickstart"), capsys.readouterr().out)


@pytest.mark.skipif(not (BUNDLED / "synthetic128" / "unet").is_dir(), reason="the bundled base is not there")
def test_the_quickstart_runs_as_it_is(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two iterations of it, on fewer people."""
    assert fit("configs/quickstart.yaml", cache, "--model.max_iterations", 2, "--data.batch_size", 2) == 0
    check_quickstart(Path("runs/quickstart"), capsys.readouterr().out)


def check_quickstart(run: Path, text: str) -> None:
    """The table, the pictures, and a restore command that works as it is printed."""
    for row in ("degraded input", "0 references", "2 references", "4 references"):
        assert row in text
    assert all(title in text for title in ("PSNR", "SSIM", "ID"))
    assert (run / "restored.png").is_file()
    assert list((run / "images").glob("iteration_*.png"))
    command = re.search(r"lit_restore (restore .*)", text).group(1)
    assert main(shlex.split(command)) == 0
    assert (run / "example" / "restored.png").is_file()
