"""What happens at a click, without a browser and without gradio."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_generator

from lit_restore.cli import main
from lit_restore.demo import uploads
from lit_restore.demo.request import Knobs, answer
from lit_restore.demo.uploads import add_person, check_name, check_photo, check_photos
from lit_restore.errors import UserError
from lit_restore.image import read_rgb, write_image
from lit_restore.inference import Restorer
from lit_restore.models.artifact import save_generator

SIZE = 64


def upload(folder: Path, name: str, seed: int) -> Path:
    write_image(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), folder / name)
    return folder / name


@pytest.fixture(scope="module")
def restorer(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    folder = tmp_path_factory.mktemp("trained")
    save_generator(tiny_generator(tiny_base), folder / "model", iteration=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.chdir(folder)
        return Restorer.from_pretrained(folder / "model", device="cpu", cache=False)


def test_a_click_gives_the_picture_and_the_report_of_the_restorer(restorer: Restorer, tmp_path: Path) -> None:
    photo = upload(tmp_path / "3f", "alt ö.png", 9)
    good = [upload(tmp_path / "4a", f"{number}.png", number) for number in range(3)]
    knobs = Knobs(strength=0.5, fidelity=0.25, max_references=2)
    by_references = answer(restorer, "runs/x", photo, {}, good, knobs, tmp_path / "a")
    assert by_references.picture.name == "alt ö_restored.png"
    expected = restorer.restore(photo, good, strength=0.5, fidelity=0.25, max_references=2).image
    np.testing.assert_array_equal(read_rgb(by_references.picture), expected)
    html = by_references.report.read_text()
    assert "strength 0.5, fidelity 0.25, seed 0" in html
    assert "Face 0: the person with 2 references" in html  # who has no name when several files are given
    assert len(re.findall(r"reference \d: \d+%", html)) == 2
    assert str(tmp_path) not in html

    people = add_person({}, " Anna ", good)
    by_people = answer(restorer, "runs/x", photo, people, [], knobs, tmp_path / "b")
    assert by_people.picture.read_bytes() == by_references.picture.read_bytes()
    assert "Face 0: Anna with 2 references" in by_people.report.read_text()

    nobody = answer(restorer, "runs/x", photo, {}, [], knobs, tmp_path / "c")  # the last visitor's people are gone
    assert restorer.people == {}
    assert "no references given" in nobody.report.read_text()
    none_wanted = answer(restorer, "runs/x", photo, people, [], Knobs(max_references=0), tmp_path / "d")
    assert "restored without references (no references wanted)" in none_wanted.report.read_text()


def test_refusals_are_one_line_and_call_uploads_by_their_names(restorer: Restorer, tmp_path: Path) -> None:
    photo = upload(tmp_path / "3f", "old.png", 9)
    (tmp_path / "4a").mkdir()
    text = tmp_path / "4a" / "text.jpg"
    text.write_text("dear diary")
    person = {"Anna": [photo]}
    for given, message in (
        ((None, {}, []), "no photo to restore. Upload one."),
        ((photo, person, [photo]), "references and people exclude each other. Add the references as a person."),
        ((text, {}, []), "image cannot be decoded (truncated or not an image): text.jpg; found 10 bytes"),
        ((photo, {}, [text]), "none of the references can be used; found text.jpg: image cannot be decoded"),
        ((photo, {"Anna": [text]}, []), "none of the photos of Anna can be used; found text.jpg: image cannot be"),
        ((tmp_path / "3f" / "page.html", {}, []), "not the name of a photo: page.html; expected .jpg .jpeg .png"),
    ):
        with pytest.raises(UserError) as refusal:
            answer(restorer, "runs/x", *given, Knobs(), tmp_path / "out")
        said = str(refusal.value)
        assert said.startswith(message)
        assert "\n" not in said
        assert str(tmp_path) not in said
    assert not (tmp_path / "out").exists()


def test_names_numbers_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = upload(tmp_path, "good.PNG", 1)
    assert check_photo(photo) == photo
    assert check_name("  Jose\u0301 O'Neill-3 ") == "José O'Neill-3"
    for name, message in (
        (" ", "the person needs a name"),
        ("a" * 61, "name too long; expected at most 60 letters; found 61"),
        ("../anna", "not a name: '../anna'; found '/'"),
        ("a\nb", r"not a name: 'a\\nb'; found '\\n'"),
        ("<b>", "not a name: '<b>'; found '<'"),
    ):
        with pytest.raises(UserError, match=message):
            check_name(name)
    with pytest.raises(UserError, match="no photos: Anna; expected at least one"):
        add_person({}, "Anna", [])
    with pytest.raises(UserError, match="too many photos: Anna; expected at most 50; found 51"):
        add_person({}, "Anna", [photo] * 51)
    crowd = {str(number): [photo] for number in range(uploads.MAX_PEOPLE)}
    assert len(add_person(crowd, "3", [photo, photo])["3"]) == 2  # replaced, not one more
    with pytest.raises(UserError, match="too many people; expected at most 20; found 21"):
        add_person(crowd, "Anna", [photo])
    monkeypatch.setattr(uploads, "MAX_FILE_MB", 0.001)
    with pytest.raises(UserError, match=r"file too large: good.PNG; expected at most 0.001 MB; found 0 MB"):
        check_photos([photo], "Anna")


def test_without_gradio_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lit_restore.commands.demo.find_spec", lambda _: None)
    assert main(["demo", "--checkpoint", "runs/quickstart"]) == 2
    assert capsys.readouterr().err == (
        'lit_restore: the page needs gradio, which is not installed. Run: pip install "lit_restore[demo]"\n'
    )
