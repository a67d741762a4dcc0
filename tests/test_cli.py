"""The command line as a user meets it: configs, overrides, errors in one line, runs that stop and go on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lit_restore.cli import COMMANDS, main
from lit_restore.image import write_image
from lit_restore.training import command_line

Run = Callable[..., int]

CONFIG = """\
seed_everything: 7
model:
  class_path: RestorationModule
  init_args:
    generator:
      base: {base}
      size_px: 64
      lora_rank_unet: 4
      lora_rank_vae: 4
    losses: {{l1: 1.0, ms_ssim: 0.0, lpips: 0.0}}
    optimizer: {{learning_rate: 1.0e-3, schedule: cosine}}
    max_iterations: 4
    seed: ${{seed_everything}}
data:
  size_px: ${{model.init_args.generator.size_px}}
  synthetic: {{identities: 6, images_per_identity: 3, seed: 7}}
  split: {{val: 1, test: 1}}
  scale_degradation: true
  max_references: 2
  batch_size: 2
  eval_batch_size: 2
  num_workers: 0
  seed: ${{seed_everything}}
  cache_dir: {cache}
checkpoints: {{every_iterations: 2}}
trainer:
  accelerator: cpu
  limit_val_batches: 1
  log_every_n_steps: 1
  logger: false
  callbacks:
    - class_path: Metrics
    - class_path: ReferenceStudy
      init_args: {{num_references: [0, 2]}}
"""


@pytest.fixture(scope="module")
def config(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    path = folder / "tiny.yaml"
    path.write_text(CONFIG.format(base=tiny_base, cache=folder / "cache"))
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs go where the test can look at them; one thread, since sums depend on their number."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lit(*options: object) -> int:
    return main([str(option) for option in options])


def fit(config: Path, *options: object, run: str = "run") -> int:
    return lit("fit", "--config", config, "--trainer.default_root_dir", run, *options)


def printed(config: Path, *options: object, command: str = "fit", capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert lit(command, "--config", config, *options, "--print_config") == 0
    return yaml.safe_load(capsys.readouterr().out)


def weights(run: str = "run") -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An unbroken run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        out, err = (open(folder.parent / name, "w+") for name in ("out", "err"))  # noqa: SIM115
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        assert fit(config, run=str(folder)) == 0
    texts = []
    for file in (out, err):
        file.seek(0)
        texts.append(file.read())
        file.close()
    return folder, *texts


@pytest.fixture
def copied(finished: tuple[Path, str, str]) -> Path:
    """The finished run as ./run."""
    shutil.copytree(finished[0], "run")
    return Path("run")


# --- help ---------------------------------------------------------------------------------------------------------


def test_the_front_page_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert lit("--help") == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", text, re.M) for name in COMMANDS)
    assert lit() == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lit(command, "--help") == 0
    text = capsys.readouterr().out
    assert re.search(rf"^examples?:(.*\n)* *lit_restore {command} \S", text, re.M)
    assert lit("help", command) == 0
    assert capsys.readouterr().out == text


def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    main(["--version"])
    assert "GOMP_SPINCOUNT" not in os.environ


def test_help_takes_less_than_half_a_second() -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lit_restore", "fit", "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    assert min(seconds() for _ in range(5)) < 0.5  # the best: other programs run on the machine


def test_all_keys_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert lit("fit", "--help-all") == 0
    text = capsys.readouterr().out
    assert "--checkpoints.every_iterations EVERY_ITERATIONS" in text
    assert "--data.zero_reference_probability" in text
    assert lit("fit", "--model.help", "RestorationModule") == 0
    assert "--model.generator.lora_rank_unet" in capsys.readouterr().out


# --- configs and overrides ----------------------------------------------------------------------------------------


def test_interpolation_follows_overrides(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = printed(config, "--model.init_args.generator.size_px", 128, "--seed_everything", 3, capsys=capsys)
    assert values["data"]["size_px"] == 128
    assert (values["data"]["seed"], values["model"]["init_args"]["seed"]) == (3, 3)


def test_configs_are_merged_from_left_to_right(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("model: {init_args: {max_iterations: 9, generator: {size_px: 192}}}\ndata: {seed: 5}\n")
    Path("b.yaml").write_text("model:\n  init_args: {max_iterations: 11}\n")
    options = ("--config", "a.yaml", "--config", "b.yaml", "--data.batch_size", 1)
    values = printed(config, *options, capsys=capsys)
    assert values["model"]["init_args"]["max_iterations"] == 11
    assert values["data"]["size_px"] == 192
    assert (values["data"]["seed"], values["data"]["batch_size"], values["seed_everything"]) == (5, 1, 7)


def test_arguments_of_the_model_have_a_short_name(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model.max_iterations", 5, "--model.generator.lora_rank_vae", 2, "--data.synthetic", "{identities: 9}")
    values = printed(config, *options, capsys=capsys)
    assert values["model"]["init_args"]["max_iterations"] == 5
    assert values["model"]["init_args"]["generator"]["lora_rank_vae"] == 2
    assert values["data"]["synthetic"]["identities"] == 9


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_printed_configs_can_be_fed_back(config: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    values = printed(config, "--seed_everything", 3, "--trainer.max_steps", 2, capsys=capsys)
    Path("printed.yaml").write_text(yaml.safe_dump(values))
    again = printed(Path("printed.yaml"), command=command, capsys=capsys)
    assert {key: again[key] for key in values} == values


def test_the_saved_config_is_the_resolved_one(
    finished: tuple[Path, str, str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = finished[0] / "config.yaml"
    assert "${" not in saved.read_text()
    expected = printed(config, "--trainer.default_root_dir", finished[0], capsys=capsys)
    assert yaml.safe_load(saved.read_text()) == expected
    assert printed(saved, capsys=capsys) == expected


# --- what a user can get wrong ------------------------------------------------------------------------------------

MODEL = "model: {class_path: RestorationModule}\n"
WRONG_FILES = {
    "modle:\n  class_path: RestorationModule\n": r"unknown key 'modle': wrong.yaml, line 1. Did you mean 'model'?",
    MODEL + "data:\n  seed: 1\n  batchsize: 3\n": "unknown key 'data.batchsize': wrong.yaml, line 4. Did you mean "
    "'data.batch_size'?",
    "model:\n  class_path: RestorationModule\n  init_args: {max_iteration: 3}\n": "unknown key "
    "'model.init_args.max_iteration': wrong.yaml, line 3. Did you mean 'model.init_args.max_iterations'?",
    "model: {class_path: RestorationModule, init_args: {generator: {siz_px: 3}}}\n": "unknown key "
    "'model.init_args.generator.siz_px': wrong.yaml, line 1. Did you mean 'model.init_args.generator.size_px'?",
    MODEL + "data: {synthetic: {identites: 3}}\n": "Did you mean 'data.synthetic.identities'?",
    MODEL + "data: {split: {vall: 3}}\n": "Did you mean 'data.split.val'?",
    MODEL + "trainer: {max_stps: 3}\n": "Did you mean 'trainer.max_steps'?",
    MODEL + "trainer: {callbacks: [{class_path: ImageGrid}]}\n": "unknown class 'ImageGrid' for "
    "'trainer.callbacks[0].class_path': wrong.yaml, line 2. Did you mean 'ImageGrids'?",
    MODEL + "trainer:\n  callbacks:\n    - class_path: lit_restore.callbacks.images.ImageGrids\n"
    "      init_args: {num_foto: 3}\n": "unknown key 'trainer.callbacks[0].init_args.num_foto': wrong.yaml, line 5. "
    "Did you mean 'trainer.callbacks[0].init_args.num_photos'?",
    MODEL + "trainer: {logger: {class_path: CSVLoger}}\n": "Did you mean 'CSVLogger'?",
    "model: {class_path: RestorationModule, init_args: {generator: {size_px: abc}}}\n": "wrong value for "
    "'model.init_args.generator.size_px': wrong.yaml, line 1; expected a whole number; found 'abc'",
    MODEL + "data: {batch_size: [2]}\n": "wrong value for 'data.batch_size': wrong.yaml, line 2; expected a whole "
    "number; found [2]",
    MODEL + "data: 3\n": "wrong value for 'data': wrong.yaml, line 2; expected keys and values; found 3",
    MODEL + "data:\n": "wrong value for 'data': wrong.yaml, line 2; expected keys and values; found nothing",
    MODEL + "data: {synthetic: [1, 2]}\n": "wrong value for 'data.synthetic'",
    "model: {class_path: RestorationModule, init_args: {generator: 3}}\ndata: {size_px: "
    "'${model.init_args.generator.size_px}'}\n": "wrong value for 'model.init_args.generator': wrong.yaml, line 1",
    "model: {class_path: RestorationModul}\n": "unknown class 'RestorationModul' for 'model.class_path': wrong.yaml, "
    "line 1. Did you mean 'RestorationModule'?",
    "model: {class_path: torch.nn.Linear}\n": "'torch.nn.Linear' is no LightningModule for 'model.class_path'",
    "model: {init_args: {max_iterations: 3}}\n": "no class for 'model': wrong.yaml, line 1; expected class_path: "
    "AutoencoderModule or DenoiserModule or RecognitionModule or RestorationModule",
    "model: {class_path: DenoiserModule, init_args: {output: x}}\n": "no value for model.init_args.vae",
    MODEL + "data: {seed: '${model.init_args.sed}'}\n": "the interpolation of 'data.seed' leads nowhere: wrong.yaml, "
    "line 2; found no key 'model.init_args.sed'",
    MODEL + "data: {seed: 1}\ndata: {size_px: 3}\n": "the key 'data' is there twice: wrong.yaml; found lines 2 and 3",
    "model:\n  class_path: A\n   init_args: [\n": "YAML syntax error: wrong.yaml, line 3",
    "": "not a configuration: wrong.yaml; expected YAML keys like 'model:' and 'data:'; found nothing",
    "- a\n": "not a configuration: wrong.yaml",
    "data: {seed: 3}\n": "no model is configured. Name a configuration: --config configs/quickstart.yaml",
}


def error_of(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """The one line of a command that cannot be done."""
    capsys.readouterr()
    assert lit(*options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("lit_restore: ")
    assert len(captured.err) < 700
    return captured.err


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.items())
def test_wrong_config_files(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("wrong.yaml").write_text(text)
    assert message in error_of(capsys, "fit", "--config", "wrong.yaml")


WRONG_OPTIONS = {
    "--trainer.max_stps 3": "unknown key 'trainer.max_stps': command line. Did you mean 'trainer.max_steps'?",
    "--trainer.max_step 3": "Did you mean 'trainer.max_steps'?",  # a beginning is not the key
    "--trainer.max_steps abc": "'trainer.max_steps': command line; expected a whole number; found 'abc'",
    "--model.max_iteration 5": "unknown key 'model.max_iteration': command line. Did you mean 'model.max_iterations'?",
    "--model.init_args.generator.siz_px 5": "Did you mean 'model.init_args.generator.size_px'?",
    "--model.init_args 3": "expected keys and values",
    "--max_iterations 5": "unknown key 'max_iterations': command line. Did you mean 'model.init_args.max_iterations'?",
    "--optimizer.lr 3": "unknown key 'optimizer': command line. Did you mean 'model.init_args.optimizer'?",
    "--model.optimizer.schedule cosin": "expected 'constant' or 'cosine'; found 'cosin'. Did you mean 'cosine'?",
    "--model RestorationModul": "Did you mean 'RestorationModule'?",
    "--trainer.callbacks+=ImageGrid": "Did you mean 'ImageGrids'?",
    "--trainer.callbacks+=ImageGrids --trainer.callbacks.num_foto 3": "Did you mean 'trainer.callbacks.num_photos'?",
    "--trainer.precision bf16-mixd": "Did you mean 'bf16-mixed'?",
    "--data.split.val x": "wrong value for 'data.split.val': command line; expected a number; found 'x'",
    "--data.synthetic.identites 4": "Did you mean 'data.synthetic.identities'?",
    "--data.size_px": "--data.size_px needs a value; expected a whole number",
    "--nonsense": "unknown key 'nonsense': command line. Known: checkpoints, ckpt_path,",
    "positional": "unrecognized arguments: positional",
    "--config": "--config needs the name of a file. To begin, take configs/quickstart.yaml.",
    "--config missing.yaml": "no such config file: missing.yaml. To begin, take configs/quickstart.yaml.",
    "--config .": "a folder where a config file was expected: .",
    "--config tinny.yaml": "no such config file: tinny.yaml. Did you mean 'tiny.yaml'?",
    "--data.seed ${seed_everything}": "Interpolations like ${data.size_px} belong into a config file",
    "--ckpt_path nowhere.ckpt": "no such checkpoint: nowhere.ckpt; expected a .ckpt file or a run folder",
    "--ckpt_path tiny.yaml": "damaged checkpoint or not a checkpoint: tiny.yaml",
    "--checkpoints.every_iterations 0": "bad checkpoint interval: checkpoints.every_iterations; expected 1 or more",
    "--data.degradation foo": "unknown degradation profile; found 'foo'. Known: ",
    "--model.generator.base /nowhere": "no such base folder: /nowhere",
    "--model.generator.size_px 100": "expected sides that are multiples of 64; found 100x100",
    "--model.generator.size_px 0": "number too small: generator.size_px; expected 1 or more; found 0",
    "--model.generator.lora_rank_unet -1": "number too small: generator.lora_rank_unet; expected 0 or more; found -1",
    "--model.max_iterations 0": "number too small: model.max_iterations; expected 1 or more; found 0",
    "--model.accumulate 0": "number too small: model.accumulate; expected 1 or more; found 0",
    "--model.optimizer.learning_rate -1": "number too small: optimizer.learning_rate; expected 0 or more; found -1.0",
    "--model.optimizer.weight_decay -0.1": "number too small: optimizer.weight_decay; expected 0 or more; found -0.1",
    "--model.optimizer.betas [2,0.9]": "bad moments: optimizer.betas; expected 0 to below 1; found [2.0, 0.9]",
    "--data.batch_size 0": "number too small: data.batch_size; expected 1 or more; found 0",
    "--trainer.val_check_interval 0": "bad validation interval: trainer.val_check_interval; expected a number of iter",
    "--trainer.strategy ddpp": "the trainer cannot be set up so; found You selected an invalid strategy name",
    "--trainer.devices 0": "the trainer cannot be set up so; found ",
    "--trainer.enable_checkpointing false": "the trainer cannot be set up so; found ",
    "--trainer.default_root_dir /proc/nowhere": "cannot write: /proc/nowhere",
}


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS.items())
def test_wrong_options(options: str, message: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(config, "tiny.yaml")
    assert message in error_of(capsys, "fit", "--config", "tiny.yaml", *options.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.generator.base nobody/nothing", "the base is not on this machine"),
        ("--model.init nowhere", "no such checkpoint: nowhere"),
        ("--config metrics.yaml", "no usable recognition network: nowhere"),
        ("--config study.yaml", "no usable recognition network: nowhere"),
    ],
)
def test_missing_networks_are_noticed_before_data_are_read(
    options: str, message: str, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("Metrics", "ReferenceStudy"):
        callback = f"{{class_path: {name}, init_args: {{recognition: nowhere}}}}"
        Path("metrics.yaml" if name == "Metrics" else "study.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}")
    arguments = ("fit", "--config", str(config), *options.split(), "--data.cache_dir", "unread")
    assert message in error_of(capsys, *arguments)
    assert not Path("unread").exists()


def test_configs_that_are_no_text(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("binary.yaml").write_bytes(bytes(range(256)))
    assert "not a YAML file: binary.yaml" in error_of(capsys, "fit", "--config", "binary.yaml")


def test_other_wrong_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown command 'fitt'. Did you mean 'fit'?" in error_of(capsys, "fitt")
    message = "no model is configured. Name a configuration: --config configs/quickstart.yaml"
    assert message in error_of(capsys, "fit")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_a_gpu_that_is_not_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of(capsys, "fit", "--config", config, "--trainer.accelerator", "cuda")
    assert "the trainer cannot be set up so; found " in message


# --- a run --------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_it_promises(finished: tuple[Path, str, str]) -> None:
    folder, out, _ = finished
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "references.json",
        "restored.png",
        "checkpoints/last.ckpt",
        "model/config.json",
        "model/unet/adapter_model.safetensors",
        "model/vae/adapter_model.safetensors",
        "example/degraded.png",
    } <= files
    assert not [name for name in files if "/." in name or name.startswith(".")]
    assert re.search(r"^RestorationModule: 144,012 of [\d,]+ parameters are trained$", out, re.M)
    assert "2 references" in out
    assert f"--checkpoint {folder} " in out


def test_the_bar_counts_iterations(finished: tuple[Path, str, str]) -> None:
    last = finished[2].replace("\r", "\n").strip().splitlines()[-1]
    assert re.fullmatch(r"Training: 100%\|.*\| 4/4 \[.*(it/s|s/it), loss=0\.\d+\]", last)


def test_nothing_but_bars_is_on_stderr(finished: tuple[Path, str, str]) -> None:
    """Of the training, and on a slow machine of what was done before it."""
    lines = [line for line in finished[2].replace("\r", "\n").splitlines() if line.strip()]
    assert not [line for line in lines if not re.match(r"(Rendering people|Reading photos|Training): +\d+%\|", line)]


def test_our_own_warnings_are_shown_in_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_restore.data import datamodule

    def warn(*_: object) -> None:
        warnings.warn("3 of 4 photos\nhave no landmarks", stacklevel=2)

    monkeypatch.setattr(datamodule, "_report_landmarks", warn)
    assert fit(config, "--dry-run") == 0
    assert capsys.readouterr().err == "lit_restore: warning: 3 of 4 photos have no landmarks\n"


def test_a_dry_run_shows_the_plan_and_writes_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(config, "--dry-run") == 0
    text = capsys.readouterr().out
    assert not Path("run").exists()
    for line in (
        r"RestorationModule: 144,012 of .* are trained",
        r"train split: +12 photos of 4 people",
        r"batch: +references \(2, 2, 3, 64, 64\)",
        r"iterations: +4",
        r"start from: +the beginning",
        r"run folder: +run",
    ):
        assert re.search(f"^{line}$", text, re.M), line


def test_a_dry_run_refuses_what_the_run_would_refuse(
    config: Path, copied: Path, tiny_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in [
        (
            "--data.size_px 128",
            "data and generator differ in size: data.size_px; expected model.init_args.",
        ),
        (f"--data.root {tiny_photos}", f"no photos with ground truth in split 'train': {tiny_photos}"),
        ("--model.generator.lora_rank_unet 2 --model.max_iterations 6 --ckpt_path run", "weights of another shape"),
    ]:
        for rehearsal in ([], ["--dry-run"]):
            assert fit(config, *options.split(), *rehearsal, run="other") == 2
            assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def tiny_photos(tmp_path: Path) -> Path:
    """Photos that nobody can train with: of nobody in particular."""
    for number in range(2):
        write_image(np.full((64, 64, 3), 100 * number, np.uint8), tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_fast_dev_run_leaves_nothing(config: Path) -> None:
    assert fit(config, "--trainer.fast_dev_run", "true", "--trainer.devices", 1) == 0
    assert not Path("run").exists()


def test_max_steps_and_a_short_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interval longer than the run validates at its end."""
    assert fit(config, "--trainer.max_steps", 1, "--trainer.val_check_interval", 50) == 0
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"] == 1
    assert "1/1" in capsys.readouterr().err


# --- stopping and going on ----------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Presses Ctrl-C in the middle of an iteration."""
    from lit_restore.training.restoration import RestorationModule

    step = RestorationModule.training_step

    def press(iteration: int, times: int = 1) -> None:
        def training_step(self: RestorationModule, *arguments: Any) -> None:
            for _ in range(times if self.iteration == iteration else 0):
                signal.raise_signal(signal.SIGINT)
            step(self, *arguments)

        monkeypatch.setattr(RestorationModule, "training_step", training_step)

    return press


def test_an_interrupted_run_continues_exactly(
    config: Path, finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str], ctrl_c: Callable[..., None]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    ctrl_c(0)
    assert fit(config) == 130
    assert "Finishing this iteration, then saving" in capsys.readouterr().err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"] == 1
    assert not Path("run/references.json").exists()
    ctrl_c(2, times=2)  # the second time in the same iteration: stop at once
    assert fit(config) == 130
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"] == 2
    assert signal.getsignal(signal.SIGINT) is handler
    ctrl_c(-1)
    capsys.readouterr()
    assert fit(config) == 0
    assert "Continuing from iteration 2: run/checkpoints/last.ckpt" in capsys.readouterr().out
    assert same(weights(), weights(str(finished[0])))
    assert Path("run/references.json").read_text() == (finished[0] / "references.json").read_text()


def test_a_finished_run_only_shows_its_table_again(
    config: Path, copied: Path, finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    assert fit(config) == 0
    text = capsys.readouterr().out
    assert "The run in run has finished its 4 iterations." in text
    table = [line for line in finished[1].splitlines() if line.startswith(("│", "┃"))]
    assert table
    assert [line for line in text.splitlines() if line.startswith(("│", "┃"))] == table
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_a_run_stopped_before_its_table_makes_it(config: Path, copied: Path, finished: tuple[Path, str, str]) -> None:
    (copied / "references.json").unlink()
    assert fit(config) == 0
    assert (copied / "references.json").read_text() == (finished[0] / "references.json").read_text()
    assert same(weights(), weights(str(finished[0])))


def test_another_configuration_in_the_same_folder_is_refused(
    config: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model.optimizer.learning_rate", 1e-4, "--data.max_references", 1)
    message = error_of(capsys, "fit", "--config", config, "--trainer.default_root_dir", "run", *options)
    assert "the run folder holds a run of another configuration: run; found different data.max_references, " in message
    assert "model.init_args.optimizer.learning_rate. Choose another --trainer.default_root_dir" in message
    assert fit(config, "--trainer.enable_progress_bar", "false", "--data.num_workers", 1) == 0  # only watched otherwise
    (copied / "config.yaml").unlink()
    message = error_of(capsys, "fit", "--config", config, "--trainer.default_root_dir", "run")
    assert "the run folder holds a checkpoint of an unknown configuration: run" in message


def test_a_finished_run_can_be_extended(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model.max_iterations", 6)
    message = error_of(capsys, "fit", "--config", config, "--trainer.default_root_dir", "run", *options)
    assert "different model.init_args.max_iterations" in message
    assert "--ckpt_path run/checkpoints/last.ckpt" in message
    assert fit(config, *options, "--ckpt_path", "run") == 0
    captured = capsys.readouterr()
    assert "Continuing from iteration 4" in captured.out
    assert "6/6" in captured.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"] == 6
    assert yaml.safe_load((copied / "config.yaml").read_text())["model"]["init_args"]["max_iterations"] == 6


def test_a_run_that_started_elsewhere_continues_its_own_checkpoint(
    config: Path, copied: Path, capsys: pytest.CaptureFixture[str], ctrl_c: Callable[..., None]
) -> None:
    command = (config, "--model.max_iterations", 7, "--ckpt_path", "run/checkpoints/last.ckpt")
    ctrl_c(5)
    assert fit(*command, run="second") == 130
    ctrl_c(-1)
    capsys.readouterr()
    assert fit(*command, run="second") == 0
    assert "Continuing from iteration 6: second/checkpoints/last.ckpt" in capsys.readouterr().out


def test_a_checkpoint_with_nothing_left_to_train(
    config: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(config, "--ckpt_path", "run", run="second") == 2
    assert "the checkpoint has all its iterations behind it" in capsys.readouterr().err


def test_a_checkpoint_cut_in_half(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = copied / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    options = ("--config", config, "--trainer.default_root_dir", "run")
    for command in ("fit", "test"):
        assert lit(command, *options) == 2
        assert "damaged checkpoint or not a checkpoint: run/checkpoints/last.ckpt" in capsys.readouterr().err


def test_a_checkpoint_of_another_model(
    config: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lit_restore.models.random_base import write_random_base

    other = write_random_base(tmp_path / "other", seed=5)
    assert lit("test", "--config", config, "--model.generator.base", other, "--ckpt_path", "run") == 2
    assert "the checkpoint belongs to another base" in capsys.readouterr().err
    assert lit("test", "--config", config, "--model.generator.lora_rank_unet", 2, "--ckpt_path", "run") == 2
    assert "weights of another shape" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = torch.save, []

    def full_at_the_second(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            arguments[1].write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*arguments, **options)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    assert fit(config) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lit_restore: cannot write: run/checkpoints/last.ckpt; found no space left on device.")
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"] == 2
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["last.ckpt"]


def test_errors_of_data_workers_are_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_restore.data.dataset import RestorationDataset
    from lit_restore.errors import UserError

    def gone(*_: object) -> None:
        raise UserError("no such image file", where="p/1.png")

    monkeypatch.setattr(RestorationDataset, "__getitem__", gone)
    assert fit(config, "--data.num_workers", 1) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "lit_restore: no such image file: p/1.png"


def test_too_little_gpu_memory_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lit_restore.training.restoration import RestorationModule

    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total ...")

    monkeypatch.setattr(RestorationModule, "training_step", out_of_memory)
    assert fit(config) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lit_restore: out of GPU memory; found CUDA out of memory. Lower data.batch_size")


# --- validate, test, predict --------------------------------------------------------------------------------------


def test_a_checkpoint_is_measured(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in (("validate", ()), ("test", ()), ("test", ("--ckpt_path", "run"))):
        assert lit(command, "--config", config, "--trainer.default_root_dir", "run", *options) == 0
        captured = capsys.readouterr()
        assert "Checkpoint: run/checkpoints/last.ckpt" in captured.out
        assert re.search(rf"{'val' if command == 'validate' else 'test'}/psnr.*\d\.\d", captured.out)
        assert captured.err == ""


def test_an_untrained_model_is_never_measured_silently(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lit("validate", "--config", config, "--trainer.default_root_dir", "new", "--trainer.callbacks", "null") == 0
    text = capsys.readouterr().out
    assert "Checkpoint: none, the untrained model" in text
    assert "Nothing was measured: add the callback Metrics" in text


def test_predictions_are_files(config: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lit_restore.image import read_rgb

    assert lit("predict", "--config", config, "--trainer.default_root_dir", "run") == 0
    pictures = sorted((copied / "predictions").rglob("*.png"))
    assert len(pictures) == 3
    assert read_rgb(pictures[0]).shape == (64, 64, 3)
    assert "3 restored photos are in run/predictions" in capsys.readouterr().out


# --- whole processes ----------------------------------------------------------------------------------------------


def start(config: Path) -> subprocess.Popen:
    options = ("--trainer.default_root_dir", "run", "--model.max_iterations", "500", "--data.num_workers", "1")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "lit_restore", "fit", "--config", config, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )


def wait_for_newer_checkpoint(process: subprocess.Popen, than: int) -> None:
    last = Path("run/checkpoints/last.ckpt")
    while not (last.exists() and last.stat().st_mtime_ns > than):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_ctrl_c_in_a_terminal_and_a_killed_process(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal sends Ctrl-C to the data workers as well; SIGKILL leaves no time for anything."""
    process = start(config)
    wait_for_newer_checkpoint(process, 0)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert text.rstrip().endswith("lit_restore: interrupted; what was finished is kept")

    process = start(config)
    wait_for_newer_checkpoint(process, Path("run/checkpoints/last.ckpt").stat().st_mtime_ns)
    os.killpg(process.pid, signal.SIGKILL)
    text, _ = process.communicate(timeout=60)
    assert "Continuing from iteration" in text
    iteration = torch.load("run/checkpoints/last.ckpt", weights_only=True)["lit_restore"]["iteration"]
    photo = str(next((config.parent / "cache").rglob("*.png")))
    assert lit("restore", "--input", photo, "--checkpoint", "run", "--output", "out.png") == 0
    capsys.readouterr()
    options = ("--model.max_iterations", 500, "--trainer.max_steps", iteration + 1, "--trainer.callbacks", "null")
    assert fit(config, *options) == 0
    assert f"Continuing from iteration {iteration}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "has_bfloat16", "got"),
    [("bf16-mixed", False, "32-true"), ("bf16-mixed", True, "bf16-mixed"), ("32-true", False, "32-true")],
)
def test_bfloat16_is_not_emulated(
    asked: str, has_bfloat16: bool, got: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor without bfloat16 instructions a step takes minutes instead of seconds."""
    trainers = []

    def remember(cli: command_line.LightningCLI, **options: Any) -> None:
        trainers.append(options["precision"])
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "cpu_computes_bfloat16", lambda: has_bfloat16)
    monkeypatch.setattr(command_line.LightningCLI, "instantiate_trainer", remember)
    fit(config, "--trainer.precision", asked)
    assert trainers == [got]
