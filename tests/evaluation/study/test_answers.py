"""Answer files and keys that are mixed up or edited are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_study import answer_file

from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import EvaluationSet
from lit_restore.evaluation.study.answers import canonical, read_answers
from lit_restore.evaluation.study.key import Key, read_key
from lit_restore.evaluation.study.make import Study, make_study
from lit_restore.evaluation.study.schedule import Shown, checksum

RATER = "00000000000000ff"


def first(key: Key, shown: Shown, question: str) -> str:
    return next(iter(key.trials[shown.trial].pictures))


@pytest.fixture
def saved(study: Study, tmp_path: Path) -> Path:
    return answer_file(study.key, RATER, first, tmp_path / "answers" / "answers-a.json")


def flip(content: dict[str, Any]) -> None:
    answer = content["answers"][3]
    answer["chosen"]["quality"] = ({answer["left"], answer["right"]} - {answer["chosen"]["quality"]}).pop()


def sign(content: dict[str, Any]) -> None:
    questions = ["identity", "quality"]
    content["checksum"] = checksum(canonical(content["study"], content["rater"], content["answers"], questions))


def other_rater(content: dict[str, Any]) -> None:
    content["rater"] = "00000000000000fe"
    sign(content)


def third_picture(content: dict[str, Any]) -> None:
    content["answers"][0]["chosen"]["quality"] = content["answers"][5]["left"]
    sign(content)


def left_one_out(content: dict[str, Any]) -> None:
    del content["answers"][2]
    sign(content)


def twice(content: dict[str, Any]) -> None:
    content["answers"] *= 2
    sign(content)


def no_answers(content: dict[str, Any]) -> None:
    content["answers"] = []
    sign(content)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (flip, "was changed.*checksum"),
        (lambda content: content["answers"].pop(), "was changed.*checksum"),
        (lambda content: content.pop("rater"), "was changed.*checksum"),
        (lambda content: content.update(rater="ä" * 16), "was changed.*checksum"),
        (lambda content: content["answers"][0].update(ms=1), "was changed.*checksum"),
        (other_rater, "was changed.*not asked"),
        (third_picture, "was changed.*not asked"),
        (left_one_out, "was changed.*not asked"),
        (twice, "was changed.*not asked"),
        (no_answers, "holds no answer"),
        (lambda content: content.update(study="f" * 16), "answers of another study.*found study f"),
        (lambda content: content.update(format="something"), "not an answer file"),
    ],
)
def test_edited_answers_are_refused(
    saved: Path, study: Study, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    assert len(read_answers([saved], study.key)[0].answers) == 26
    content = json.loads(saved.read_text())
    edit(content)
    saved.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        read_answers([saved], study.key)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mixed_up_files_are_refused(
    saved: Path, study: Study, study_photos: EvaluationSet, folders: dict[str, Path], tmp_path: Path
) -> None:
    again = make_study(study_photos, folders, secret="1" * 32)  # the same pictures, made a second time
    with pytest.raises(UserError, match="answers of another study"):
        read_answers([saved], again.key)
    copy = saved.with_name("answers-b.json")
    copy.write_bytes(saved.read_bytes())
    with pytest.raises(UserError, match=r"two answer files of one rater.*answers-b.*answers-a"):
        read_answers([saved.parent], study.key)
    copy.write_text(saved.read_text()[:300])
    with pytest.raises(UserError, match="damaged answer file"):
        read_answers([copy], study.key)
    with pytest.raises(UserError, match="no such answer file"):
        read_answers([tmp_path / "nowhere.json"], study.key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no answer files in the folder"):
        read_answers([tmp_path / "empty"], study.key)


def test_the_key_read_back_is_the_key(study: Study, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    study.key.write(path)
    assert read_key(path).study == study.key.study
    assert read_key(path).trials == study.key.trials
    content = json.loads(path.read_text())
    trial = next(iter(content["trials"].values()))
    trial["pictures"] = dict(zip(trial["pictures"], reversed(trial["pictures"].values()), strict=True))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the key was changed"):
        read_key(path)
    del content["questions"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the key was changed"):
        read_key(path)
    with pytest.raises(UserError, match="not the key of a study"):
        read_key(saved)
    with pytest.raises(UserError, match="no such key file"):
        read_key(tmp_path / "nowhere.json")
