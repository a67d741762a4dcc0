"""What raters are given says nothing about who made a picture, and works in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_people import SIZE_PX, picture
from small_study import METHODS

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.evaluation.inputs import EvaluationSet
from lit_restore.evaluation.study.answers import read_answers
from lit_restore.evaluation.study.key import read_key
from lit_restore.evaluation.study.make import Study, make_study
from lit_restore.evaluation.study.page import page
from lit_restore.evaluation.study.report import score
from lit_restore.image import to_uint8, write_image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# Plays a rater who likes pictures of a lower RANK better; mouse for the first question, keyboard for the second.
DRIVER = """
<script>
(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms)), find = (what) => document.querySelector(what);
  const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
  const study = JSON.parse(find("#study").textContent), seen = [];
  const rank = Object.fromEntries(Object.entries(RANK).map(([name, number]) => [study.pictures[name], number]));
  let saved = null;
  // Taken as it is handed over: reading a real Blob takes real time, while the browser's virtual time may run out.
  window.Blob = class { constructor(parts) { saved = parts.join(""); } };
  URL.createObjectURL = () => "#";
  const note = () => seen.push(find("#count").textContent);
  const answer = async () => {
    note();
    const side = rank[find("#left").src] < rank[find("#right").src] ? "left" : "right";
    find(`button[value=${side}]`).click();
    await wait(300);
    press(side === "left" ? "a" : "ArrowRight");
    await wait(300);
  };
  if (!find("#start").hidden) {
    seen.push("start");
    find("#begin").click();
  }
  for (let number = 0; number < LOOKS && !find("#trial").hidden; number++) await answer();
  if (GO_BACK) { press("Backspace"); note(); press("b"); await wait(300); press("Backspace"); note(); }
  find("#save").click();
  const state = { seen, ended: !find("#end").hidden, saved, warned: !find(".warning").hidden };
  document.body.innerHTML = `<pre id="result">${btoa(JSON.stringify(state))}</pre>`;
})();
</script>
"""


class Reader(HTMLParser):
    """Collects addresses and the study's data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.data, self._in_data = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value]
        self._in_data = ("type", "application/json") in attributes

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_the_page_names_no_method_photo_or_person_and_asks_for_nothing(
    study: Study, study_photos: EvaluationSet
) -> None:
    text = page(study)
    keys = [part for target in study_photos.targets for part in (target.key, Path(target.key).stem, target.identity)]
    without_pictures = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text)
    for word in (*METHODS, study.key.secret, *(key for key in keys if len(key) > 1)):
        assert word.lower() not in without_pictures.lower()
    reader = Reader(text)
    assert not reader.addresses
    assert not re.search(r"https?://|@import|url\(", without_pictures)
    content = json.loads(reader.data)
    assert list(content["pictures"]) == sorted(content["pictures"])
    assert list(content["trials"]) == sorted(content["trials"])
    for trial in content["trials"].values():
        assert trial["pictures"] == sorted(trial["pictures"])
    kinds = {address.partition(";")[0] for address in content["pictures"].values()}
    assert kinds == {"data:image/png"}
    for address in content["pictures"].values():
        image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert image.size == (SIZE_PX, SIZE_PX)
        assert not image.info  # no words of the program that wrote it


def test_pictures_are_those_of_the_methods_and_of_the_photo(study: Study, study_photos: EvaluationSet) -> None:
    """Bit by bit, whoever the key says it is."""
    assert len(study.key.trials) == 8 * 3
    index = {target.key: number for number, target in enumerate(study_photos.targets)}
    for name, trial in study.key.trials.items():
        for method, place in trial.pictures.items():
            expected = picture(1000 * (METHODS.index(method) + 1) + index[trial.photo])
            assert np.array_equal(pixels(study.pictures[place]), expected)
        sample = study_photos[index[trial.photo]]
        scene = study.scenes[name]
        assert np.array_equal(pixels(study.pictures[scene.degraded]), to_uint8(sample["lq"]))
        shown = np.stack([pixels(study.pictures[one]) for one in scene.references])
        assert np.array_equal(shown, np.stack([to_uint8(one) for one in sample["references"]]))


def test_names_follow_the_secret_and_positions_say_nothing(study_photos: EvaluationSet, folders: dict) -> None:
    first, second = (make_study(study_photos, folders, secret=secret * 32) for secret in "ab")
    assert not set(first.pictures) & set(second.pictures)
    assert first.key.study != second.key.study
    ranks = [trial.pictures["Ours"] < trial.pictures["GFPGAN"] for trial in two(first) + two(second)]
    assert 0 < sum(ranks) < len(ranks) == 16


def two(study: Study) -> list:
    return [trial for trial in study.key.trials.values() if set(trial.pictures) == {"Ours", "GFPGAN"}]


def test_pairs_against_one_method_and_photos_that_lack_a_picture(
    study_photos: EvaluationSet, folders: dict, tmp_path: Path
) -> None:
    shutil.copytree(folders["GFPGAN"], tmp_path / "GFPGAN")
    first, second = (target.key for target in study_photos.targets[:2])
    (tmp_path / "GFPGAN" / first).unlink()
    write_image(picture(1, 128), tmp_path / "GFPGAN" / second)
    given = {**folders, "GFPGAN": tmp_path / "GFPGAN"}
    study = make_study(study_photos, given, secret="", against="DiffBIR", questions=["quality"], num_repeats=3)
    assert study.left_out[first] == "GFPGAN: no picture for this photo"
    assert study.left_out[second].endswith("expected 64x64; found 128x128")
    assert len(study.left_out) == 2
    assert [tuple(trial.pictures) for trial in study.key.trials.values()] == [
        ("DiffBIR", "Ours"),
        ("DiffBIR", "GFPGAN"),
    ] * 6
    assert (study.key.questions, study.key.num_repeats) == (("quality",), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"against": "DifBIR"}, "no method 'DifBIR'. Did you mean 'DiffBIR'"),
        ({"num_repeats": 13}, "too many repeats; expected at most half of the 24 pairs; found 13"),
    ],
)
def test_what_cannot_be_made(study_photos: EvaluationSet, folders: dict, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_study(study_photos, folders, secret="", **changes)


def test_one_method_is_no_comparison(study_photos: EvaluationSet, folders: dict) -> None:
    with pytest.raises(UserError, match="needs two methods; found Ours"):
        make_study(study_photos, {"Ours": folders["Ours"]}, secret="")


def command(study_photos: EvaluationSet, folders: dict, output: Path, *more: str) -> int:
    choice = study_photos.choice
    options = ["--data", *choice.root, "--split", "all", "--size", str(SIZE_PX), "--cache", choice.cache_dir, *more]
    methods = [f"{name}={folder}" for name, folder in folders.items()]
    return main(["study", "make", "--method", *methods, "--output", str(output), *options])


def test_the_command_makes_and_protects_a_study(
    study_photos: EvaluationSet, folders: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert command(study_photos, folders, tmp_path / "study", "--references", "1", "--limit", "3") == 0
    assert {path.name for path in (tmp_path / "study").iterdir()} == {"study.html", "key.json"}
    key = read_key(tmp_path / "study" / "key.json")
    assert len(key.trials) == 3 * 3
    assert len(key.secret) == 32
    assert key.protocol["references"]["at_most"] == 1
    assert "For you alone" in capsys.readouterr().out
    before = (tmp_path / "study" / "key.json").read_bytes()
    assert command(study_photos, folders, tmp_path / "study") == 2
    assert "there is a study already" in capsys.readouterr().err
    assert (tmp_path / "study" / "key.json").read_bytes() == before
    assert main(["study", "mke"]) == 2
    assert "Did you mean 'make'?" in capsys.readouterr().err
    assert main(["study", "--help"]) == 0


def drive(study: Study, folder: Path, num_looks: int, *, go_back: bool) -> dict:
    """Open the page in a browser as from a file manager, let the driver answer, and return what it saw."""
    trials = study.key.trials.values()
    ranks = {picture: METHODS.index(method) for trial in trials for method, picture in trial.pictures.items()}
    driver = DRIVER.replace("RANK", json.dumps(ranks)).replace("LOOKS", str(num_looks))
    text = page(study).replace("</body>", driver.replace("GO_BACK", json.dumps(go_back)) + "</body>")
    path = folder / "study.html"
    path.write_text(text)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    command = [BROWSER, *options, "--virtual-time-budget=60000", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="result">([\w+/=]+)</pre>', done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(base64.b64decode(found[1]))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is there to open the page")
def test_a_rater_answers_closes_the_page_goes_on_and_is_scored(study: Study, tmp_path: Path) -> None:
    """The rater goes by the picture, so the better method gets every answer, also at the second look."""
    state = drive(study, tmp_path, 5, go_back=True)
    assert state["seen"] == ["start", *(f"{number} of 26" for number in (1, 2, 3, 4, 5)), "5 of 26", "5 of 26"]
    assert (state["ended"], state["warned"]) == (False, False)
    state_after = drive(study, tmp_path, 99, go_back=False)
    assert state_after["seen"] == [f"{number} of 26" for number in range(5, 27)]
    assert state_after["ended"]
    answers = tmp_path / "answers.json"
    answers.write_text(state["saved"])
    [before] = read_answers([answers], study.key)
    answers.write_text(state_after["saved"])
    [rater] = read_answers([answers], study.key)
    assert (len(before.answers), len(rater.answers), rater.name) == (4, 26, before.name)
    result = score([rater], study.key)
    assert {known.share for known in result.preferences} == {1.0}
    assert result.raters[0].with_self == 1.0
    assert 0.1 < result.raters[0].share_left < 0.9
