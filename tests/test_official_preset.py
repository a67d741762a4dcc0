"""The two presets of InstantRestore: they differ where docs/instantrestore.md says so, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from official_files import PARITY, write_official

from lit_restore.cli import main

ROOT = Path(__file__).resolve().parent.parent
PRESETS = {"paper": "configs/instantrestore.yaml", "official": "configs/instantrestore_official.yaml"}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``, without ``init_args``; FreeU's four numbers are one value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        found |= flat(value, name) if isinstance(value, dict) and key != "freeu" else {name: value}
    return found


def words(value: Any) -> str:
    """As the table writes it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


@pytest.fixture(scope="module")
def presets() -> dict[str, dict[str, Any]]:
    return {name: yaml.safe_load((ROOT / path).read_text()) for name, path in PRESETS.items()}


def documented() -> dict[str, tuple[str, str]]:
    """Option -> what the table says it is in either preset."""
    text = (ROOT / "docs" / "instantrestore.md").read_text()
    rows = re.findall(r"^\|[^|]*\| `([\w.]+)` \| ([^|]*) \| ([^|]*) \|", text, flags=re.M)
    assert len(rows) > 15
    return {
        option if option.startswith("data.") else f"model.{option}": (paper.strip("* "), official.strip("* "))
        for option, paper, official in rows
    }


def test_they_differ_only_where_the_table_says(presets: dict[str, dict[str, Any]]) -> None:
    paper, official = (flat(values) for values in presets.values())
    different = {key for key in paper | official if paper.get(key, "absent") != official.get(key, "absent")}
    said = {key for key, (one, other) in documented().items() if one != other}
    assert different - {"trainer.default_root_dir"} == said


def test_the_table_tells_the_truth(presets: dict[str, dict[str, Any]]) -> None:
    in_words = {  # where the table says it otherwise
        "model.generator.vae": {"null": "null: SD-Turbo's"},
        "model.losses.ms_ssim": {"1.0": "1 - MS-SSIM"},
        "model.losses.adversarial.augmentation": {"[color, translation, cutout]": "all three"},
    }
    for option, said in documented().items():
        for preset, text in zip(presets.values(), said, strict=True):
            value = words(flat(preset)[option])
            assert in_words.get(option, {}).get(value, value) == text, option


def test_it_trains_a_small_model_from_a_converted_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All keys of the preset, with networks a test can afford: generator, discriminator and landmark supervision."""
    monkeypatch.chdir(tmp_path)
    write_official(tmp_path / "official.pt")
    assert main(["convert", "official.pt", "model", "--base", str(PARITY / "base"), "--size-px", "64"]) == 0
    small = {
        "model": {
            "generator": {"base": PARITY / "base", "vae": PARITY / "base", "size_px": 64},
            "init": "model",
            "losses": {"lpips": 0, "ms_ssim": 0, "l1": 1, "identity.network": "bundled:synthetic128/recognition"},
        },
        "data": {"root": "null", "num_workers": 0, "cache_dir": "cache", "split": "{val: 1, test: 1}"},
        "trainer": {"fast_dev_run": "true", "accelerator": "cpu"},
    }
    options = [word for key, value in flat(small).items() for word in (f"--{key}", str(value))]
    options += ["--model.generator.lora_rank_unet", "4", "--model.generator.lora_rank_vae", "5"]
    options += ["--model.losses.adversarial.backbone", "bundled:synthetic128/recognition"]
    options += ["--data.synthetic", "{identities: 6, images_per_identity: 3, seed: 7}"]
    assert main(["fit", "--config", str(ROOT / PRESETS["official"]), *options]) == 0
