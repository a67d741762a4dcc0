"""The page of evidence: what it says about faces, that it asks for nothing, and that it works in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lit_restore.cli import main
from lit_restore.image import read_rgb, write_image
from lit_restore.inference import FaceReport, PhotoReport, ReferenceReport, ReportPage, RestoredFace, Restorer
from lit_restore.inference import report_page as module
from lit_restore.inference.face_restorer import LOWERED
from lit_restore.inference.identity import Identity
from lit_restore.inference.picture import Picture
from lit_restore.inference.report_face import face_pictures, identity_text
from lit_restore.inference.restored import RestoredPhoto
from lit_restore.models.reference_shares import ReferenceShares

SIZE = 64
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
SETTINGS = {"strength": 0.75, "fidelity": 0.25, "seed": 3}


def noise(seed: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def restorer(model: Path) -> Restorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(model))
        patch.chdir(model)
        return Restorer.from_pretrained(model, device="cpu", cache=False)


def face(number: int = 0, **changes: object) -> RestoredFace:
    """A restored face with two references, three quarters from the first."""
    references = [
        ReferenceReport("anna/<b>1.png", True, "64 px wide", 0.8, 0.7),
        ReferenceReport("anna/bad.png", False, "shows somebody else: similarity 0.10"),
        ReferenceReport("anna/2.png", True, "64 px wide, too", 0.5, 0.6),
    ]
    values = {"person": "anna & co", "similarity_before": 0.5, "similarity_after": 0.6, "references": references}
    report = FaceReport(number, (10, 10, 60, 60), "with references", "", **(values | changes))
    drawn = np.stack([np.full((8, 8), 0.75, np.float32), np.full((8, 8), 0.25, np.float32)])
    shares = ReferenceShares(drawn, drawn / 64)
    return RestoredFace(report, noise(1), noise(2), np.eye(2, 3), [noise(3), noise(4)], shares)


def photo(*faces: RestoredFace, left: FaceReport | None = None) -> RestoredPhoto:
    """A whole photo, 300 x 120 pixels."""
    reports = [one.report for one in faces] + ([left] if left else [])
    report = PhotoReport("old/gr<o>up.png", (300, 120), dict(SETTINGS), reports, seconds=1.5)
    return RestoredPhoto(Picture(noise(5, 120, 300)), report, list(faces), Picture(noise(6, 120, 300)))


def page_of(restorer: Restorer, *photos: RestoredPhoto) -> ReportPage:
    page = ReportPage(restorer, checkpoint="runs/<quick>start")
    for one in photos:
        page.add(one)
    return page


def compared(html: str) -> list[dict[str, str]]:
    """Pictures of every widget, by name."""
    data = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.S)
    return [next(iter(json.loads(one).values()))["pictures"] for one in data]


def without_pictures(html: str) -> str:
    return re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "PICTURE", html)


def test_what_the_page_says(restorer: Restorer) -> None:
    left = FaceReport(1, (100, 20, 150, 80), "left", "somebody else: similarity 0.10 to <anna>")
    page = page_of(restorer, photo(face(), left=left))
    page.skip("cut.jpg", "image cannot be decoded <truncated>")
    html = page.html()
    text = without_pictures(html)
    for part in (
        "<h1>1 restored photo</h1>",
        "<h2>gr&lt;o&gt;up.png</h2>",
        "300 x 120 px; 1 of 2 faces restored in 1.5 s; strength 0.75, fidelity 0.25, seed 3",
        "Face 0: anna &amp; co with 2 references",
        "Similarity to the references of anna &amp; co: 0.50 before, 0.60 restored (+0.10).",
        "reference 1: 75%",
        "reference 2: 25%",
        "&lt;b&gt;1.png</th><td>used</td><td>0.80</td><td>0.70</td>",
        'bad.png</th><td>not used</td><td>–</td><td>–</td><td class="why">shows somebody else: similarity 0.10',
        "somebody else: similarity 0.10 to &lt;anna&gt;",
        "cut.jpg was skipped: image cannot be decoded &lt;truncated&gt;",
        "runs/&lt;quick&gt;start",
        "trained for 7 iterations",
        "64 x 64 px per face",
        "float32 on cpu",
        "lit_restore 0.1.0, torch ",
    ):
        assert part in text, part
    assert 'class="warnings"' not in text
    whole, one = compared(html)
    assert list(whole) == ["before", "restored", "faces"]
    assert list(one) == [
        *("before", "restored", "drawn from", "reference 1", "reference 1, looked at"),
        *("reference 2", "reference 2, looked at"),
    ]


def test_pictures_are_in_the_page_to_the_bit(restorer: Restorer, tmp_path: Path) -> None:
    one = face()
    widget = compared(page_of(restorer, photo(one)).html())[1]
    for name, image in face_pictures(one).items():
        kind, data = widget[name].split(",", 1)
        assert kind == "data:image/png;base64"
        (tmp_path / "back.png").write_bytes(base64.b64decode(data))
        np.testing.assert_array_equal(read_rgb(tmp_path / "back.png"), image)


def test_the_page_asks_for_nothing(restorer: Restorer) -> None:
    text = without_pictures(page_of(restorer, photo(face())).html())
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<iframe", re.sub(r"^\s*//.*$", "", text, flags=re.M))
    for address in re.findall(r'\b(?:src|href)="([^"]*)"', text):
        assert address == "PICTURE"


@pytest.mark.parametrize("known", [True, False])
def test_faces_without_references(restorer: Restorer, known: bool) -> None:
    similar = {"similarity_before": 0.2, "similarity_after": 0.1} if known else {}
    report = FaceReport(0, (0, 0, 50, 50), "without references", "no references given", **similar)
    html = page_of(restorer, photo(replace(face(), report=report, references=[], shares=None))).html()
    assert "restored without references (no references given)" in html
    assert "No references were used, so no region drew from one." in html
    assert ("nobody to compare the face with" in html) is not known
    assert ("the most similar person, who was not used: 0.20 before, 0.10 restored (-0.10)" in html) is known
    assert 'class="warnings"' not in html
    assert list(compared(html)[1]) == ["before", "restored"]


def test_without_a_recognition_network_the_page_names_its_weights(restorer: Restorer) -> None:
    assert restorer.identity is None
    html = page_of(restorer, photo(face(similarity_before=None, similarity_after=None))).html()
    assert re.search(r"Identity was not compared: face recognition network not found; .*face_reid_0095", html)
    assert '<th scope="row">recognition network</th><td>none</td>' in html


def test_small_falls_are_called_noise() -> None:
    report = FaceReport(0, (0, 0, 1, 1), "with references", "", person="anna", similarity_before=0.5)
    for after, is_noise in ((0.6, False), (0.5, False), (0.5 - LOWERED / 2, True), (0.5 - 2 * LOWERED, False)):
        assert (
            "within the network's noise" in identity_text(replace(report, similarity_after=after), None)
        ) is is_noise


def test_long_folders_have_pictures_of_the_first_photos(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WITH_PICTURES", 2)
    html = page_of(restorer, *(photo(face()) for _ in range(3))).html()
    assert len(compared(html)) == 2 * 2
    assert html.count("Face 0: anna") == 3
    assert "Only the first 2 photos are shown with pictures." in html


# --- from photo to page -------------------------------------------------------------------------------------------


class Scripted(Identity):
    """A recognition network that answers every face in turn with a vector of the next cosine to (1, 0)."""

    threshold = 0.45
    fingerprint = "scripted"
    network = SimpleNamespace(name="a network")

    def __init__(self) -> None:
        self.cosines: list[float] = []

    def __call__(self, views: list[np.ndarray], points5: list[np.ndarray]) -> np.ndarray:
        cosines = np.array([self.cosines.pop(0) for _ in views])
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)


def test_a_warning_if_and_only_if_identity_fell(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted()
    monkeypatch.setattr("lit_restore.inference.restorer.find_identity", lambda *_, **__: scripted)
    tool = Restorer.from_pretrained(model, device="cpu", cache=False)
    for after, is_warned in ((0.9, False), (0.795, False), (0.77, True), (0.3, True)):
        scripted.cosines = [1.0, 0.8, after]  # reference, degraded, restored
        restored = tool.restore(noise(1), [noise(2)], aligned="yes", attention=True)
        assert scripted.cosines == []
        html = page_of(tool, restored).html()
        assert f"0.80 before, {after:.2f} restored" in html
        assert html.count("restoration lowered the similarity to the person: 0.80 -&gt;") == 2 * is_warned
        assert html.count('class="warnings"') == 2 * is_warned  # at the top and beside the face


def command(model: Path, *options: object) -> int:
    return main(["restore", *map(str, ["--checkpoint", model, "--device", "cpu", "--aligned", "yes", *options])])


def test_the_command_writes_the_page_and_the_same_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(3):
        write_image(noise(number), f"anna/{number}.png")
    write_image(noise(9), "in/old.png")
    (tmp_path / "in" / "text.jpg").write_text("dear diary")
    options = ("--references", "anna", "--output")
    assert command(model, "--input", "in/old.png", *options, "plain.png") == 0
    assert command(model, "--input", "in", *options, "out", "--report", "pages/new.html") == 1
    assert Path("plain.png").read_bytes() == Path("out/old.png").read_bytes()
    html = Path("pages/new.html").read_text()
    shares = [int(share) for share in re.findall(r"reference \d: (\d+)%", html)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=2)
    assert "text.jpg was skipped: image cannot be decoded" in html
    assert [list(one)[:3] for one in compared(html)] == [["before", "restored", "drawn from"]]  # a crop: no whole photo

    assert command(model, "--input", "in", *options, "out", "--report", "again.html") == 1
    assert "old.png was skipped: its output was there before" in Path("again.html").read_text()
    capsys.readouterr()
    assert command(model, "--input", "in/old.png", *options, "new.png", "--report", "page.png") == 2
    assert capsys.readouterr().err == (
        "lit_restore: the report is an HTML page: page.png; expected a name that ends in .html\n"
    )


DRIVER = """<script>
window.addEventListener("load", () => setTimeout(() => {
  const roots = [...document.querySelectorAll(".compare")];
  const slider = roots[0].querySelector("input[type=range]");
  slider.value = 25;
  slider.dispatchEvent(new Event("input"));
  const result = {
    pictures: [...document.images].map((image) => image.naturalWidth),
    shapes: roots.map((root) => { const s = root.querySelector(".stage"); return s.clientWidth / s.clientHeight; }),
    chosen: roots.map((root) => [...root.querySelectorAll("label:not([hidden]) select")].map((one) => one.value)),
    cut: roots[0].querySelectorAll(".stage img")[1].style.clipPath,
  };
  const out = document.createElement("pre");
  out.id = "result";
  out.textContent = btoa(JSON.stringify(result));
  document.body.append(out);
}, 500));
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is there to open the page")
def test_in_a_browser_the_sliders_work(restorer: Restorer, tmp_path: Path) -> None:
    html = page_of(restorer, photo(face(), left=FaceReport(1, (100, 20, 150, 80), "left", "somebody else"))).html()
    path = tmp_path / "page.html"
    path.write_text(html.replace("</body>", DRIVER + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [BROWSER, *options, "--virtual-time-budget=20000", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="result">([\w+/=]+)</pre>', done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(base64.b64decode(found[1]))
    assert min(result["pictures"]) > 0
    assert len(result["pictures"]) == (2 + 3) + (2 + 7) + 1
    assert result["shapes"] == pytest.approx([300 / 120, 1], rel=0.02)
    assert result["chosen"] == [["before", "restored"]] * 2
    assert result["cut"] == "inset(0px 75% 0px 0px)"
