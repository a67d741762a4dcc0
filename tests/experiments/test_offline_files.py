"""Files that wandb writes offline, read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lit_restore.errors import UserError
from lit_restore.experiments.offline_files import BLOCK, last_value, offline_files, read_records

WRITE = """
import wandb
run = wandb.init(project="p", config={"long": "x" * 80_000}, settings=wandb.Settings(console="off", silent=True))
for step in range(5):
    run.log({"val/psnr": 20.0 + step, "val": {"inner": step}})
run.finish()
"""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_RUN_ID": "some-run", "WANDB_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", WRITE], check=True, env=environment, timeout=100, cwd=folder)
    return folder


def test_every_record_is_read(run_folder: Path) -> None:
    [path] = offline_files(run_folder)
    assert path.stat().st_size > 2 * BLOCK
    records = list(read_records(path))
    kinds = [record.WhichOneof("record_type") for record in records]
    assert (kinds[0], kinds[-1], kinds.count("history")) == ("header", "exit", 5)
    run = next(record.run for record in records if record.HasField("run"))
    assert run.run_id == "some-run"
    assert {item.key: len(item.value_json) for item in run.config.update}["long"] == 80_002
    assert last_value(run_folder, "val/psnr") == 24.0
    assert last_value(run_folder, "val/ssim") is None


def test_a_file_that_was_cut_off_gives_what_is_complete(run_folder: Path, tmp_path: Path) -> None:
    [path] = offline_files(run_folder)
    cut = tmp_path / "wandb" / "offline-run-1-some-run" / "run.wandb"
    cut.parent.mkdir(parents=True)
    whole = path.read_bytes()
    counts = []
    for size in (len(whole), len(whole) - 40, 2 * BLOCK + 3, 50):
        cut.write_bytes(whole[:size])
        counts.append(len(list(read_records(cut))))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] >= 1


def test_a_damaged_or_foreign_file_is_refused(run_folder: Path, tmp_path: Path) -> None:
    [path] = offline_files(run_folder)
    content = bytearray(path.read_bytes())
    content[BLOCK + 1000] ^= 1
    (tmp_path / "damaged.wandb").write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged file of wandb: .*a wrong checksum at byte {BLOCK}"):
        list(read_records(tmp_path / "damaged.wandb"))
    (tmp_path / "other.wandb").write_bytes(b"something else")
    with pytest.raises(UserError, match="not a file that wandb wrote offline"):
        list(read_records(tmp_path / "other.wandb"))
