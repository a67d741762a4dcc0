"""A scored study beside InstantRestore's table 2."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from small_study import METHODS, answer_file

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.evaluation.definitions import Definitions
from lit_restore.evaluation.inputs import EvaluationSet
from lit_restore.evaluation.study.answers import read_answers
from lit_restore.evaluation.study.key import Key
from lit_restore.evaluation.study.make import make_study
from lit_restore.evaluation.study.report import score, write
from lit_restore.evaluation.study.schedule import Shown
from lit_restore.evaluation.study.table_part import study_part

EXPERIMENTS = Path(__file__).resolve().parents[3] / "experiments"


def instantrestore(key: Key, shown: Shown, question: str) -> str:
    return "InstantRestore"


def best_quality(key: Key, shown: Shown, question: str) -> str:
    methods = [method for method in key.trials[shown.trial].pictures if method != "InstantRestore"]
    return "InstantRestore" if question == "identity" else methods[0]


@pytest.fixture
def scored(study_photos: EvaluationSet, folders: dict[str, Path], tmp_path: Path) -> Path:
    """Three raters of 16 pairs; one of them prefers the quality of the others. InstantRestore is named last."""
    named = {name: folders[name] for name in METHODS[1:]} | {"InstantRestore": folders["Ours"]}
    key = make_study(study_photos, named, secret="2" * 32).key
    paths = []
    for number, choose in enumerate((instantrestore, instantrestore, best_quality)):

        def safe(key: Key, shown: Shown, question: str, choose=choose) -> str:
            pictures = key.trials[shown.trial].pictures
            return choose(key, shown, question) if "InstantRestore" in pictures else next(iter(pictures))

        paths.append(answer_file(key, f"{number:016x}", safe, tmp_path / "answers" / f"{number}.json"))
    write(score(read_answers(paths, key), key), tmp_path / "score")
    return tmp_path / "score" / "score.json"


def test_table_2_shows_our_shares_beside_the_published_ones(
    scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--experiments", str(EXPERIMENTS), "--output", str(tmp_path / "tables")]
    assert main(["tables", "2", "--study", str(scored), *options]) == 0
    cells = {(c["method"], c["metric"]): c for c in csv.DictReader((tmp_path / "tables" / "table_2.csv").open())}
    for method in ("GFPGAN", "DiffBIR"):
        identity, quality = cells[method, "IDPreservation"], cells[method, "OverallQuality"]
        assert float(identity["ours"]) == 100
        assert identity["low"] == ""  # all raters agree
        assert float(quality["ours"]) == pytest.approx(200 / 3)
        assert (float(quality["low"]), float(quality["high"])) == (0, 100)  # three raters say little
        assert float(quality["difference"]) == pytest.approx(200 / 3 - float(quality["published"]))
        assert quality["photos"] == "24"  # answers
    assert cells["DMDNet", "IDPreservation"]["ours"] == ""
    assert "did not compare InstantRestore" in cells["DMDNet", "IDPreservation"]["why_missing"]
    out = capsys.readouterr().out
    assert "bootstrap over raters" in out
    assert "Other data: ours on people, 3 raters (8 photos of 3 people)" in out


def test_what_is_no_score_is_refused(scored: Path) -> None:
    definitions = Definitions(EXPERIMENTS)
    [part] = definitions.table("2").parts
    published, _ = definitions.published(part.published)
    with pytest.raises(UserError, match="not the score of a study"):
        study_part(published, scored.with_name("score.md"), part, definitions.metrics, ())
    scored.write_text(scored.read_text().replace("InstantRestore", "mine"))
    with pytest.raises(UserError, match=r"no method 'InstantRestore'.*found DiffBIR, GFPGAN, mine"):
        study_part(published, scored, part, definitions.metrics, ())
