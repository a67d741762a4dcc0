"""``lit_restore evaluate`` and ``lit_restore tables`` as a person types them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from small_people import picture

from lit_restore.cli import main
from lit_restore.commands.evaluate import parser
from lit_restore.image import write_image

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture
def data(people: Path, tmp_path: Path) -> list[str]:
    return [
        *("--data", str(people), "--split", "all", "--size", "64", "--scale-degradation", "--references", "1"),
        *("--cache", str(tmp_path / "cache"), "--accelerator", "cpu", "--output", str(tmp_path / "out")),
    ]


def test_numbers_of_references_get_a_folder_each(data: list[str], tmp_path: Path, model: Path, capsys) -> None:
    data[data.index("1")] = "0"
    options = ["--checkpoint", str(model), *data, "--limit", "2", "--time", "1"]
    options.insert(options.index("0") + 1, "2")
    assert main(["evaluate", *options]) == 0
    out = capsys.readouterr().out
    assert "model: 2 photos of 2 people" in out
    assert re.search(r"0 references.*2 references", out)
    assert "with known references" in out
    for count in (0, 2):
        folder = tmp_path / "out" / f"{count}_references"
        files = {
            "images.csv",
            "summary.json",
            "protocol.json",
            "sheet.png",
            "timing.json",
            "rows",
            "restored",
            "examples",
        }
        assert {path.name for path in folder.iterdir()} == files
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["protocol"]["references"]["at_most"] == count
        assert summary["method"] == "model"


def test_failures_and_missing_weights_are_said_and_the_rest_is_kept(
    data: list[str], people: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Path(shutil.copytree(people, tmp_path / "made"))
    (made / "anna" / "0.png").unlink()
    write_image(picture(3), made / "extra.png")
    assert main(["evaluate", "--outputs", str(made), *data, "--metrics", "psnr", "fid_ffhq"]) == 1
    shown = capsys.readouterr()
    assert "left out: fid_ffhq needs the statistics of FFHQ" in shown.err
    assert "inf (7 of 8)" in shown.out
    assert "1 photos failed: no picture for this photo (anna/0.png)" in shown.out
    assert "1 pictures in" in shown.out
    assert main(["evaluate", "--outputs", str(made), *data, "--metrics", "fid_ffhq"]) == 2


def test_where_faces_may_come_from_is_said_when_landmarks_are_missing(data: list[str], capsys) -> None:
    assert main(["evaluate", "--baseline", "copy", *data, "--limit", "1", "--metrics", "psnr", "regions"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "error_rest: 1 photos: no landmarks of the truth" in out
    assert "--points template (aligned faces) or detect" in out


def test_plan_writes_nothing(data: list[str], tmp_path: Path, capsys) -> None:
    assert main(["evaluate", "--baseline", "copy", *data, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "baseline copy" in out
    assert "split all, 64 px" in out
    assert not (tmp_path / "out").exists()


def test_data_of_a_run_is_taken_from_beside_the_checkpoint(people: Path, tmp_path: Path, model: Path, capsys) -> None:
    run = tmp_path / "run"
    shutil.copytree(model, run / "model")
    (run / "config.yaml").write_text(
        f"data: {{root: {people}, layout: auto, synthetic: {{identities: 2, images_per_identity: 2, seed: 0}},"
        " size_px: 64, max_references: 3, degradation: gfpgan, degradation_overrides: null, scale_degradation: true,"
        f" split: null, seed: 3, cache_dir: {tmp_path / 'cache'}}}\n"
    )
    assert main(["evaluate", "--checkpoint", str(run), "--dry-run", "--profile", "vqfr"]) == 0
    out = capsys.readouterr().out
    assert "degraded by: vqfr, seed 3" in out
    assert f"runs/evaluations/{people.name}-test/run/vqfr-3_references" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one method; expected one of --checkpoint"),
        (["--baseline", "copy", "--outputs", "x"], "name one method.*found --outputs --baseline"),
        (["--baseline", "copy"], "which photos.*--data FOLDER, or --config RUN"),
        (["--baseline", "copy", "--data", "nowhere"], "no such data folder: .*nowhere"),
        (["--baseline", "copy", "--config", "nowhere"], "no such configuration"),
        (["--baseline", "copy", "--data", ".", "--metrics", "pnsr"], "unknown metric 'pnsr'. Did you mean 'psnr'"),
        (["--baseline", "copy", "--data", ".", "--weights", "x=y"], "no metric has weights called 'x'"),
        (["--baseline", "copy", "--weights", "x"], "expected NAME=VALUE, found 'x'"),
        (["--baseline", "copy", "--references", "-1"], "references|expected"),
        (["--baseline", "copie"], "invalid choice"),
        (["--baseline", "copy", "--data", ".", "--accelerator", "mps"], "no such device: mps. Leave --accelerator out"),
        (["--chekpoint", "x"], "unknown option '--chekpoint'. Did you mean '--checkpoint'"),
    ],
)
def test_mistakes_get_one_line(options: list[str], message: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.strip().splitlines()) == 1


def test_help_examples_are_understood() -> None:
    import shlex

    from lit_restore.commands.evaluate import EXAMPLES

    commands = [line.strip() for line in EXAMPLES.splitlines() if line.startswith("  lit_restore")]
    assert len(commands) == 6
    for command in commands:
        parser().parse_args(shlex.split(command)[2:])


def test_tables_without_data_show_the_published_numbers_in_every_format(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tables", "2", "5a", "lafr-1", "--experiments", str(EXPERIMENTS), "--output", "tables"]) == 0
    out = capsys.readouterr().out
    assert "98.9" in out
    assert "data/celeba_test is not there" in out
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {
        "tables_all.html",
        *(f"table_{name}.{kind}" for name in ("2", "5a", "lafr-1") for kind in ("md", "tex", "csv")),
    }
    assert "| GFPGAN | published | 21.95 |" in (tmp_path / "tables/table_5a.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["7"], "no table '7'"),
        (["1", "--quick"], "table 1 has no --quick version; expected 3, 6"),
        (["1", "--data", "celeb=x"], "unknown data set 'celeb'"),
        (["1", "--data", "celeb"], "expected NAME=VALUE"),
        (["3", "--experiments", "nowhere"], "no table definitions"),
    ],
)
def test_mistakes_with_tables(options: list[str], message: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = Path(shutil.copytree(EXPERIMENTS, tmp_path / "experiments"))
    quick = experiments / "quick.yaml"
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("")
    quick.write_text(quick.read_text().replace("runs/quickstart", "run"))
    assert main(["tables", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_quick_tables_train_once_and_go_on_with_an_unfinished_training(
    tiny_base: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = Path(shutil.copytree(EXPERIMENTS, tmp_path / "experiments"))
    quick = experiments / "quick.yaml"
    quick.write_text(re.sub(r"limit: \d+", "limit: 2", quick.read_text().replace("configs/", "")))
    config = yaml.safe_load((EXPERIMENTS.parent / "configs" / "quickstart.yaml").read_text())
    arguments = config["model"]["init_args"]
    arguments["generator"] |= {"base": str(tiny_base), "size_px": 64, "lora_rank_unet": 4, "lora_rank_vae": 4}
    arguments["max_iterations"] = 3
    config["data"] |= {
        "synthetic": {"identities": 6, "images_per_identity": 3, "seed": 1},
        "split": {"val": 1, "test": 2},
    }
    config["trainer"]["callbacks"] = []
    (tmp_path / "quickstart.yaml").write_text(yaml.safe_dump(config))
    command = ["tables", "3", "6", "--quick", "--time", "0", "--accelerator", "cpu"]

    assert main(command) == 0
    out = capfd.readouterr().out
    assert "it is trained first" in out
    assert "InstantRestore, table 6" in out
    cells = list(csv.DictReader((tmp_path / "runs/tables/table_3-quick.csv").open()))
    ours = {row["method"]: float(row["ours"]) for row in cells if row["metric"] == "PSNR"}
    assert set(ours) == {"Degraded input", *(f"InstantRestore n={n}" for n in range(5))}

    assert main(command) == 0
    out = capfd.readouterr().out
    assert "Restorer: runs/quickstart, 3 iterations" in out
    words = " ".join(out.split())
    assert "note: ours is degraded by DiffBIR's ranges" not in words  # but as it was trained
    assert "note: the paper gives factors but no ranges; ours are DiffBIR's at a fixed factor" in words
    assert "it is trained first" not in out

    stored = tmp_path / "runs/quickstart/config.yaml"
    stored.write_text(stored.read_text().replace("max_iterations: 3", "max_iterations: 4"))
    assert main(command) == 0
    assert "Its training goes on to 4 first" in capfd.readouterr().out
    more = {row["method"]: row["ours"] for row in csv.DictReader((tmp_path / "runs/tables/table_3-quick.csv").open())}
    assert more.keys() == ours.keys()
