"""A table from its definition: what is there is measured, what is missing is said, the rest is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lit_restore.errors import UserError
from lit_restore.evaluation.definitions import Definitions
from lit_restore.evaluation.table_maker import TableMaker, TableOptions

FILES = {
    "tables/t.yaml": """
title: A table
parts:
- published: paper.yaml/t
  data: faces
  profile: diffbir_face
  references: 2
  more_rows: {Input: {method: Input}, One reference: {method: Ours, references: 1}}
""",
    "published/paper.yaml": """
paper: A paper
arxiv_id: null
tables:
- id: t
  caption: Methods
  dataset: faces
  columns:
  - {name: PSNR, metric: psnr, direction: up, unit: dB}
  - {name: FID, metric: fid, direction: down, unit: null}
  - {name: Votes, metric: votes, direction: up, unit: null}
  rows:
  - {method: Ours, values: {PSNR: 20.0, FID: 70.0, Votes: 1}}
  - {method: Theirs, values: {PSNR: 19.0, FID: 60.0, Votes: 2}}
  notes: null
""",
    "datasets.yaml": "faces: {title: Faces, root: nowhere, split: all, size_px: 64, photos: 9, get: find some}",
    "methods.yaml": "Ours: {checkpoint: nowhere/model, get: train it}\nInput: {baseline: copy}",
    "metrics.yaml": "psnr: {ours: psnr, digits: 2}\nfid: {ours: fid_ffhq, digits: 1}",
}
RUN = {"accelerator": "cpu", "enable_progress_bar": False, "num_timed": 0}


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    for name, text in FILES.items():
        path = tmp_path / "experiments" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Definitions(tmp_path / "experiments")


def make(definitions: Definitions, tmp_path: Path, **options: Any):
    maker = TableMaker(
        definitions, TableOptions(results=tmp_path / "results", run=RUN, cache_dir=str(tmp_path / "cache"), **options)
    )
    [part] = maker.make("t").parts
    return part


def reasons(part) -> dict[str, tuple]:
    return {row.name: row.unmeasured.reasons for row in part.rows if row.unmeasured is not None}


def test_without_data_every_row_says_what_is_missing(definitions: Definitions, tmp_path: Path) -> None:
    part = make(definitions, tmp_path)
    data = ("Faces: nowhere is not there", "find some")
    assert reasons(part) == {
        "Ours": (data, ("checkpoint nowhere/model is not there", "train it")),
        "Theirs": (data, ("outputs outputs/Theirs/faces is not there", THEIRS)),
        "Input": (data,),
        "One reference": (data, ("checkpoint nowhere/model is not there", "train it")),
    }
    assert part.rows[0].cells["PSNR"].published == 20.0


THEIRS = "its pictures of the same inputs as outputs/Theirs/faces/, or --method 'Theirs=FOLDER'"


def test_what_is_there_is_measured(definitions: Definitions, tmp_path: Path, people: Path, model: Path) -> None:
    part = make(definitions, tmp_path, data={"faces": str(people)}, methods={"Ours": str(model)})
    rows = {row.name: row for row in part.rows}
    assert set(reasons(part)) == {"Theirs"}
    for name, references in (("Ours", 2), ("One reference", 1), ("Input", 2)):
        summary = rows[name].measured.summary
        assert rows[name].cells["PSNR"].ours == summary.metrics["psnr"].estimate
        assert summary.protocol["references"]["at_most"] == references
    assert rows["Ours"].cells["PSNR"].difference == rows["Ours"].cells["PSNR"].ours.mean - 20.0
    assert rows["One reference"].cells["PSNR"].published is None
    # A metric without its weights leaves its column empty, and the others alone.
    assert "fid_ffhq needs the statistics of FFHQ" in rows["Ours"].cells["FID"].missing
    assert rows["Ours"].cells["Votes"].missing == "votes is not measured by lit_restore"
    assert part.warnings == ("Other number of photos: ours on 8, published on 9.",)


def test_finished_rows_are_used_again_and_other_weights_are_not(
    definitions: Definitions, tmp_path: Path, people: Path
) -> None:
    options = {"data": {"faces": str(people)}, "methods": {"Ours": str(_cheap_pictures(people))}}
    first = make(definitions, tmp_path, **options)
    folders = sorted((tmp_path / "results").rglob("summary.json"))
    written = [path.stat().st_mtime_ns for path in folders]
    again = make(definitions, tmp_path, **options)
    assert [path.stat().st_mtime_ns for path in folders] == written
    assert again == first
    other = make(definitions, tmp_path, data=options["data"], methods={"Ours": str(_pictures(first, tmp_path))})
    assert len(list((tmp_path / "results").rglob("summary.json"))) > len(folders)
    assert other.rows[0].cells["PSNR"].ours == first.rows[2].cells["PSNR"].ours  # the copied inputs


def _pictures(part, tmp_path: Path) -> Path:
    """Those of the row `Input`, as another program's."""
    return Path((part.rows[2].measured.folder / "restored").rename(tmp_path / "made"))


def test_a_method_that_breaks_does_not_take_the_others_with_it(
    definitions: Definitions, tmp_path: Path, people: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    part = make(
        definitions, tmp_path, data={"faces": str(people)}, methods={"Ours": str(tmp_path / "broken"), "Theirs": "gone"}
    )
    assert set(reasons(part)) == {"Ours", "Theirs", "One reference"}
    assert reasons(part)["Ours"][0][0].startswith("damaged checkpoint")
    assert reasons(part)["Theirs"] == (("gone is not there", None),)
    assert part.rows[2].cells["PSNR"].ours.num == 8


def test_published_number_changed_by_hand(definitions: Definitions, tmp_path: Path, people: Path) -> None:
    options = {"data": {"faces": str(people)}, "methods": {"Ours": str(_cheap_pictures(people))}}
    before = make(definitions, tmp_path, **options).rows[0].cells["PSNR"].difference
    path = definitions.folder / "published" / "paper.yaml"
    path.write_text(path.read_text().replace("PSNR: 20.0", "PSNR: 15.5"))
    after = make(Definitions(definitions.folder), tmp_path, **options).rows[0].cells["PSNR"].difference
    assert after == pytest.approx(before + 4.5)


def _cheap_pictures(people: Path) -> Path:
    """Another person's photos in the place of restorations: cheap pictures of the right names."""
    target = people.parent / "cheap"
    shutil.copytree(people, target)
    shutil.copy(people / "bert" / "0.png", target / "anna" / "0.png")
    shutil.copy(people / "anna" / "0.png", target / "bert" / "0.png")
    for name in ("anna/1", "anna/2", "bert/1", "bert/2", "carl/0", "carl/1"):
        shutil.copy(people / "anna" / "0.png", target / f"{name}.png")
    return target


def test_user_studies_and_unknown_names(definitions: Definitions, tmp_path: Path) -> None:
    table = definitions.folder / "tables" / "t.yaml"
    table.write_text("title: t\nparts: [{published: paper.yaml/t}]")
    part = make(definitions, tmp_path)
    reason, fill = reasons(part)["Theirs"][0]
    assert reason == "people have to be asked"
    assert fill.startswith("lit_restore study make")
    with pytest.raises(UserError, match=r"unknown data set 'face'.*faces"):
        TableMaker(definitions, TableOptions(results=tmp_path, data={"face": "x"}))


def test_quick_takes_the_runs_data_and_leaves_other_methods_out(
    definitions: Definitions, tmp_path: Path, people: Path, model: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model_copy = run / "model"
    model_copy.symlink_to(model)
    (run / "config.yaml").write_text(
        f"data: {{root: {people}, layout: auto, size_px: 64,"
        " synthetic: {identities: 2, images_per_identity: 2, seed: 0},"
        " max_references: 2, degradation: ffhqref_severe, degradation_overrides: null, scale_degradation: true,"
        f" split: {{val: 0, test: 1, seed: 0, keep_layout: true}}, seed: 3, cache_dir: {tmp_path / 'cache'}}}"
    )
    (definitions.folder / "quick.yaml").write_text(
        f"run: {run}\nconfig: none\nmethod: Ours\nlimit: 2\ntitle: a small set\n"
        "metrics: {fid: {ours: ssim, network: A network}}\n"
    )
    quick = definitions.quick()
    with pytest.raises(UserError, match="table t has no --quick version"):
        make(definitions, tmp_path, quick=quick)
    table = definitions.folder / "tables" / "t.yaml"
    table.write_text(table.read_text() + "  quick: {profile: sr_x4, profile_changes: {sigma_px: [0.1, 2.0]}}\n")
    part = make(definitions, tmp_path, quick=quick)
    rows = {row.name: row for row in part.rows}
    assert reasons(part) == {"Theirs": (("not a part of --quick", None),)}
    summary = rows["Ours"].measured.summary
    assert summary.num_photos == 2
    assert summary.protocol["degradation"]["profile"] == "sr_x4"
    assert rows["Ours"].cells["FID"].ours == summary.metrics["ssim"].estimate
    assert any(warning.startswith("Other data: ours on a small set") for warning in part.warnings)
    assert "FID: ours by ssim, published by A network." in part.warnings
