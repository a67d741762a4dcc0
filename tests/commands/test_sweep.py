"""``lit_restore sweep`` and ``ablate``: what is refused before anything runs, what is listed, a whole study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lit_restore.cli import main
from lit_restore.experiments.offline_files import last_value, offline_files, read_records

SWEEP_RUN = Path(__file__).resolve().parents[2] / "experiments" / "sweep_run.yaml"

CONFIG = """\
seed_everything: 7
model:
  class_path: RestorationModule
  init_args:
    generator: {{base: {base}, size_px: 64, lora_rank_unet: 4, lora_rank_vae: 4}}
    losses: {{l1: 1.0, ms_ssim: 0.0, lpips: 0.0}}
    max_iterations: 4
data:
  size_px: 64
  synthetic: {{identities: 6, images_per_identity: 3, seed: 7}}
  split: {{val: 1, test: 3}}
  scale_degradation: true
  max_references: 2
  batch_size: 2
  num_workers: 0
  cache_dir: {cache}
checkpoints: {{every_iterations: 1}}
trainer: {{accelerator: cpu, limit_val_batches: 0, log_every_n_steps: 1, logger: false}}
"""
RANK = "model.init_args.generator.lora_rank_unet"
SEED = "model.init_args.seed"


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a sweep over the tiny training; runs go into the test's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(base="no_base_needed", cache=tmp_path / "cache"))

    def write(parameters: dict, **content: object) -> Path:
        command = ["lit_restore", "fit", "--config", "tiny.yaml", "--config", str(SWEEP_RUN), "${args}"]
        values = {"program": "lit_restore", "command": command, "method": "grid"} | content
        path = tmp_path / "rank.yaml"
        path.write_text(yaml.safe_dump(values | {"parameters": parameters}, sort_keys=False))
        return path

    return write


def lit(*options: object) -> int:
    return main([str(option) for option in options])


def test_a_dry_run_lists_every_run_and_its_state(
    sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file({RANK: {"values": [4, 8]}, SEED: {"values": [1, 2]}})
    assert lit("sweep", path, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rank: grid, 4 runs in runs/sweeps/rank"
    values = [f"lora_rank_unet={rank} seed={seed}" for rank in (4, 8) for seed in (1, 2)]
    assert lines[1:5] == [f"  to do       {value}" for value in values]
    assert lines[5].endswith(f"--config {SWEEP_RUN} --{RANK}=4 --{SEED}=1")
    assert not Path("runs").exists()

    assert lit("sweep", path, "--dry-run", "--count", 1, "--data.batch_size", 3, "--output", "other") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rank: grid, 1 runs in other"
    assert f"--data.batch_size 3 --{RANK}=4" in lines[2]


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        (
            {"model.init_args.generator.lora_rank_unt": {"values": [4]}},
            [],
            "unknown key 'model.init_args.generator.lora_rank_unt': {file}, line 12. "
            "Did you mean 'model.init_args.generator.lora_rank_unet'?",
        ),
        (
            {RANK: {"values": [4, "many"]}},
            [],
            f"wrong value for '{RANK}': {{file}}, line 12; expected a whole number; found 'many'",
        ),
        (
            {RANK: {"values": [4]}},
            ["--data.batch_sise", 3],
            "unknown key 'data.batch_sise': command line. Did you mean 'data.batch_size'?",
        ),
        ({RANK: {"values": [4]}}, ["--ofline"], "unknown option '--ofline'. Did you mean '--offline'?"),
    ],
)
def test_wrong_keys_are_refused_before_anything_runs(
    sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], parameters: dict, options: list, message: str
) -> None:
    path = sweep_file(parameters)
    assert lit("sweep", path, *(["--offline"] if "--ofline" not in options else []), *options) == 2
    assert message.format(file=path) in capsys.readouterr().err
    assert not Path("runs").exists()


def test_runs_need_a_folder_each(sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file({RANK: {"values": [4]}}, command=["lit_restore", "fit", "--config", "tiny.yaml", "${args}"])
    assert lit("sweep", path, "--offline") == 2
    error = capsys.readouterr().err
    assert "the runs of the sweep would not have a folder each" in error
    assert "Put --config experiments/sweep_run.yaml before ${args}." in error


def test_a_run_of_another_configuration_is_not_taken_for_this_one(
    sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file({RANK: {"values": [4]}})
    assert lit("fit", "--config", "tiny.yaml", f"--{RANK}=4", "--print_config") == 0
    [name] = [f"lora_rank_unet=4-{digest(RANK, 4)}"]
    folder = Path("runs/sweeps/rank") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(capsys.readouterr().out)
    assert lit("sweep", path, "--dry-run") == 0
    assert lit("sweep", path, "--dry-run", "--data.num_workers", 1) == 0  # no matter for what is learned
    assert lit("sweep", path, "--dry-run", "--data.batch_size", 3) == 2
    error = capsys.readouterr().err
    assert f"a run of the sweep is there already, of another configuration: {folder}" in error
    assert "found different data.batch_size. Choose another --output" in error


def digest(key: str, value: object) -> str:
    from lit_restore.experiments.expansion import planned

    return planned({key: value}).name.rpartition("-")[2]


def test_bayes_offline_says_what_it_needs(
    sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_restore.experiments.bayes.PACKAGES", ("no_such_engine",))
    metric = {"name": "val/psnr", "goal": "maximize"}
    path = sweep_file({RANK: {"min": 2, "max": 8}}, method="bayes", metric=metric, run_cap=3)
    assert lit("sweep", path, "--offline") == 2
    error = capsys.readouterr().err
    assert "bayes needs wandb's server, or offline its engine" in error
    assert "found no package no_such_engine. pip install --no-deps sweeps" in error


def test_a_sweep_of_the_server_cannot_be_joined_offline(
    sweep_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert lit("sweep", sweep_file({RANK: {"values": [4]}}), "--join", "me/faces/abc") == 2
    error = capsys.readouterr().err
    assert "a sweep on wandb's server cannot be joined now: me/faces/abc; found WANDB_MODE is offline" in error


def test_agents_share_the_runs() -> None:
    from lit_restore.experiments.online_sweep import agent_command, shares

    assert shares(7, 3) == [3, 2, 2]
    assert shares(None, 2) == [-1, -1]
    assert agent_command("me/faces/abc", 3)[1:] == ("-m", "wandb", "agent", "--forward-signals", "--count", "3",
                                                    "me/faces/abc")  # fmt: skip
    assert "--count" not in agent_command("me/faces/abc", -1)


def test_unknown_studies_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert lit("ablate", "adian", "--studies", SWEEP_RUN.parent / "ablations") == 2
    assert "no study 'adian'" in (error := capsys.readouterr().err)
    assert "Did you mean 'adain'?" in error


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_study_that_is_killed_goes_on_and_ends_in_a_table(
    sweep_file: Callable[..., Path], tiny_base: Path, tmp_path: Path
) -> None:
    """Sweep and run are killed at once; the run continues from its checkpoint, the finished one is not touched."""
    path = sweep_file({RANK: {"values": [2, 4]}, SEED: {"values": [1, 2]}}, metric={"name": "train/loss"})
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(base=tiny_base, cache=tmp_path / "cache"))
    (tmp_path / "study.yaml").write_text(f"title: Rank\nsweep: {path}\nreferences: [0, 2]\nmetrics: [psnr]\n")
    folder = tmp_path / "runs" / "sweeps" / "rank"
    command = [sys.executable, "-m", "lit_restore", "ablate", "study.yaml"]
    process = subprocess.Popen(command)
    second: Path | None = None
    while second is None or not (second / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
        second = next(folder.glob("lora_rank_unet=2_seed=2-*"), None)
    process.kill()
    process.wait()
    kill_run(second)
    records = {run["name"]: run["state"] for run in json.loads((folder / "sweep.json").read_text())["runs"]}
    assert sorted(records.values()) == ["finished", "running"]
    first = next(name for name, state in records.items() if state == "finished")
    before = (folder / first / "checkpoints" / "last.ckpt").stat().st_mtime_ns

    done = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / first / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert len(offline_files(folder / first)) == 1
    assert "Continuing from iteration" in (second / "log.txt").read_text()
    for run in json.loads((folder / "sweep.json").read_text())["runs"]:
        assert run["state"] == "finished"
        assert run["metric"] == pytest.approx(last_value(folder / run["name"], "train/loss"))
        kinds = [record.WhichOneof("record_type") for record in read_records(offline_files(folder / run["name"])[-1])]
        assert (kinds[0], kinds[-1]) == ("header", "exit")

    table = (tmp_path / "runs" / "ablations" / "study" / "table.md").read_text()
    for row in ("lora_rank_unet=2, 0 references", "lora_rank_unet=4, 2 references"):
        assert f"| {row} | ours | " in table
    assert "bootstrap over seeds and people" in table
    assert "Published" not in table


def kill_run(folder: Path) -> None:
    """The process that trains there, by its environment; a run outlives the sweep that started it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        values = dict(variable.decode(errors="replace").split("=", 1) for variable in environment if b"=" in variable)
        if values.get("WANDB_RUN_ID") == folder.name and Path.cwd() / values["LIT_RESTORE_SWEEP"] == folder.parent:
            os.kill(int(place.name), signal.SIGKILL)
