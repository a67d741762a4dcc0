from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_restore.commands.prepare import main
from lit_restore.data import aligned_folder, detect_landmarks, fixed_set
from lit_restore.data.canonical_face import POINTS_68
from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.detect_landmarks import LandmarkDetector
from lit_restore.data.landmarks import load_landmarks
from lit_restore.data.layouts import find_photos
from lit_restore.data.manifest import Manifest, read_manifest
from lit_restore.data.scan import build_manifest
from lit_restore.errors import UserError
from lit_restore.faces.detect import AlignedFace, Face
from lit_restore.image import read_rgb, write_image

FACE = POINTS_68 * 20 + 48


def prepare(*arguments: object) -> int:
    return main(["prepare", *map(str, arguments), "--workers", "1"])


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Three people with three photos each."""
    for person in range(3):
        for number in range(3):
            image = np.random.RandomState(10 * person + number).randint(0, 256, (96, 96, 3)).astype(np.uint8)
            write_image(image, tmp_path / "people" / f"p{person}" / f"{number}.png")
    return tmp_path / "people"


def skipped(folder: Path) -> list[dict[str, str]]:
    with (folder / "skipped.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> dict[str, int]:
    """Modification times: equal before and after means nothing was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def test_manifest_with_ready_landmarks(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "points.npz", **{f"68/people/p{p}/{n}": FACE + n for p in range(3) for n in range(2)})
    before = files(people)
    assert prepare(people, "--output", tmp_path / "out", "--landmarks-from", tmp_path / "points.npz") == 1
    assert files(people) == before  # the photos stay where and what they are
    manifest = read_manifest(tmp_path / "out/manifest.json")
    assert len(manifest.photos) == 9
    points, mask = load_landmarks(tmp_path / "out/landmarks", manifest.photos[1])
    np.testing.assert_allclose(points[:68], FACE + 1, atol=1e-4)
    assert mask.all()
    assert [row["photo"] for row in skipped(tmp_path / "out")] == ["p0/2.png", "p1/2.png", "p2/2.png"]
    output = capsys.readouterr().out
    assert "Layout people: 9 photos of 3 people." in output
    assert "Without landmarks: 3" in output


def test_skipped_photos_are_listed_and_set_the_exit_code(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(people, "--output", tmp_path / "out") == 0
    (people / "p0/bad.jpg").write_bytes(b"no image")
    assert prepare(people, "--output", tmp_path / "out") == 1
    assert [(row["photo"], row["what"]) for row in skipped(tmp_path / "out")] == [("p0/bad.jpg", "skipped")]
    assert "p0/bad.jpg: image cannot be decoded" in capsys.readouterr().out


def test_split_options(people: Path, tmp_path: Path) -> None:
    prepare(people, "--output", tmp_path / "out", "--val", 0, "--test", 2, "--seed", 5)
    manifest = read_manifest(tmp_path / "out/manifest.json")
    assert [len(manifest.identities(split)) for split in ("train", "val", "test")] == [1, 0, 2]
    assert manifest.split.seed == 5


@pytest.mark.parametrize("option", ["--align", "--size", "--workers", "--min-side"])
@pytest.mark.parametrize("number", ["0", "-5", "x", "1.5"])
def test_numbers_that_make_no_sense(people: Path, tmp_path: Path, option: str, number: str) -> None:
    with pytest.raises(UserError, match=rf"argument {option}: expected a whole number, 1.* or more, found '{number}'"):
        prepare(people, "--output", tmp_path / "out", option, number)
    assert not (tmp_path / "out").exists()


def test_dry_run_writes_nothing(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([people], [people, "--degrade", "diffbir_face"], ["--synthetic"], [people, "--align", 64]):
        assert prepare(*options, "--output", tmp_path / "out", "--dry-run") == 0
        assert "Would" in capsys.readouterr().out
        assert not (tmp_path / "out").exists()


def test_a_dry_run_looks_where_the_run_will_look(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The manifest of a prepared folder is made anew from its photos; a dry run must not believe the old one."""
    prepare(people, "--output", people)
    (people / "p0/copy.png").write_bytes((people / "p0/0.png").read_bytes())
    capsys.readouterr()
    for rehearsal in (["--dry-run"], []):
        prepare(people, "--output", people, *rehearsal)
        assert "p0/copy.png: duplicate of p0/0.png" in capsys.readouterr().out


def test_landmarks_of_an_earlier_version_of_a_photo_are_removed(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LandmarkDetector, "check", lambda self: "fake 1")
    monkeypatch.setattr(LandmarkDetector, "__call__", lambda self, path: FACE)
    prepare(people, "--output", tmp_path / "out", "--landmarks", "auto")
    write_image(255 - read_rgb(people / "p1/0.png"), people / "p1/0.png")
    assert prepare(people, "--output", tmp_path / "out") == 1  # without landmarks, as after 'Run prepare again'
    assert [(row["photo"], row["what"]) for row in skipped(tmp_path / "out")] == [("p1/0.png", "no landmarks")]
    manifest = read_manifest(tmp_path / "out/manifest.json")
    seen = {photo.key: load_landmarks(tmp_path / "out/landmarks", photo)[1].any() for photo in manifest.photos}
    assert [key for key, any_visible in seen.items() if not any_visible] == ["p1/0.png"]


def test_changed_photos_are_not_degraded_under_an_old_name(people: Path, tmp_path: Path) -> None:
    prepare(people, "--output", people)
    write_image(read_rgb(people / "p1/0.png")[:80, :80], people / "p1/0.png")
    with pytest.raises(UserError, match=r"not as it was prepared.*p1/0\.png has changed.*Run 'lit_restore prepare'"):
        prepare(people, "--degrade", "gfpgan", "--size", 64, "--output", tmp_path / "out")


def test_photos_skipped_by_a_fixed_set_are_all_listed(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(11):
        (people / f"p0/bad{number}.jpg").write_bytes(b"no image")
    options = (people, "--degrade", "gfpgan", "--size", 64, "--output", tmp_path / "out")
    prepare(*options, "--dry-run")
    assert "skipped.csv" not in capsys.readouterr().out
    assert prepare(*options) == 1
    assert f"Skipped: 11 (all in {tmp_path / 'out'}/skipped.csv)" in capsys.readouterr().out
    assert len(skipped(tmp_path / "out")) == 11
    assert find_photos(tmp_path / "out")[0] == "pairs"


def test_a_folder_without_people_is_taken_for_photos_to_restore(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(people / "p0", "--output", tmp_path / "out")
    assert "to train, give each person a folder of photos" in capsys.readouterr().out


def test_detected_landmarks_are_computed_once(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def find(self: LandmarkDetector, path: str) -> np.ndarray:
        seen.append(path)
        if path.endswith("p1/0.png"):
            raise UserError("no face found")
        return FACE

    monkeypatch.setattr(LandmarkDetector, "check", lambda self: "fake 1")
    monkeypatch.setattr(LandmarkDetector, "__call__", find)
    for _ in range(2):
        assert prepare(people, "--output", tmp_path / "out", "--landmarks", "auto") == 1
    assert len(seen) == 9 + 1  # the second time only the photo without a face
    rows = skipped(tmp_path / "out")
    assert [(row["photo"], row["what"], row["reason"]) for row in rows] == [
        ("p1/0.png", "no landmarks", "no face found")
    ]


def face(left: float, size: float = 40, points68: np.ndarray | None = FACE) -> Face:
    box = np.array([left, 10, left + size, 10 + size])
    return Face(box, 0.99, np.array([[30, 40], [60, 40], [45, 55], [35, 70], [55, 70]]) + left, points68)


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([], "no face found"),
        ([face(5), face(50)], "several faces"),
        ([face(5, points68=None)], "no landmarks can be made out in the face"),
    ],
)
def test_photos_without_exactly_one_face_have_no_landmarks(
    people: Path, monkeypatch: pytest.MonkeyPatch, faces: list[Face], message: str
) -> None:
    monkeypatch.setattr(detect_landmarks, "find_faces", lambda *_, **__: faces)
    with pytest.raises(UserError, match=message):
        LandmarkDetector()(str(people / "p0/0.png"))
    monkeypatch.setattr(detect_landmarks, "find_faces", lambda *_, **__: [face(5)])
    np.testing.assert_array_equal(LandmarkDetector()(str(people / "p0/0.png")), FACE)


def test_the_largest_of_several_faces_may_be_taken(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = [face(5), face(50, size=20, points68=FACE + 1)]  # find_faces gives the largest first
    monkeypatch.setattr(detect_landmarks, "find_faces", lambda *_, **__: faces)
    monkeypatch.setattr(detect_landmarks, "detector_version", lambda *_: "fake 1")
    np.testing.assert_array_equal(LandmarkDetector(choose="largest")(str(people / "p0/0.png")), FACE)
    assert LandmarkDetector(choose="largest").check() == "fake 1 largest"  # the cache tells the two apart
    assert prepare(people, "--output", tmp_path / "only", "--landmarks", "auto", "--workers", 1) == 1
    assert {row["reason"] for row in skipped(tmp_path / "only")} == {
        "several faces; found 2. Take the largest (--face largest), or crop the photo to one face."
    }
    options = ("--landmarks", "auto", "--face", "largest", "--workers", 1)
    assert prepare(people, "--output", tmp_path / "largest", *options) == 0


def test_aligning(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = []

    def align(image: np.ndarray, size_px: int, *, where: str, **_: object) -> AlignedFace:
        cut.append(where)
        if where == "p2/1.png":
            raise UserError("several faces", where=where)
        return AlignedFace(image[:size_px, :size_px], np.eye(2, 3), FACE * 0.5, face(0))

    monkeypatch.setattr(LandmarkDetector, "check", lambda self: "fake 1")
    monkeypatch.setattr(aligned_folder, "align_face", align)
    out = tmp_path / "out"
    assert prepare(people, "--output", tmp_path / "small", "--align", 32) == 1  # smaller than what is read as a face
    assert len(read_manifest(tmp_path / "small/manifest.json").photos) == 8
    cut.clear()
    for _ in range(2):
        assert prepare(people, "--output", out, "--align", 64) == 1
    assert cut == [f"p{p}/{n}.png" for p in range(3) for n in range(3)] + ["p2/1.png"]
    manifest = read_manifest(out / "manifest.json")
    assert len(manifest.photos) == 8
    np.testing.assert_array_equal(read_rgb(out / "p0/0.png"), read_rgb(people / "p0/0.png")[:64, :64])
    np.testing.assert_allclose(load_landmarks(out / "landmarks", manifest.photos[0])[0][:68], FACE * 0.5, atol=1e-4)
    assert [row["reason"] for row in skipped(out)] == ["several faces"]
    (people / "p0/0.png").write_bytes((people / "p0/0.png").read_bytes() + b" ")
    cut.clear()
    prepare(people, "--output", out, "--align", 64)
    assert cut == ["p0/0.png", "p2/1.png"]  # the changed photo is cut again
    (people / "p1/0.png").unlink()
    with pytest.raises(UserError, match=r"the output holds other photos.*p1/0\.png"):
        prepare(people, "--output", out, "--align", 64)


def test_synthetic_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--synthetic", "--identities", 3, "--images", 2, "--size", 64, "--output", tmp_path / "s")
    assert prepare(*options, "--seed", 4) == 0
    assert "Rendered 6 photos." in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "s/manifest.json")
    assert len(manifest.photos) == 6
    assert all(load_landmarks(tmp_path / "s/landmarks", photo)[1].sum() > 500 for photo in manifest.photos)
    assert prepare(*options, "--seed", 4) == 0
    assert "Rendered 0 photos." in capsys.readouterr().out
    with pytest.raises(UserError, match="the output holds other photos"):
        prepare(*options[:1], "--identities", 2, *options[3:], "--seed", 4)


def test_fixed_set_is_what_the_records_say(people: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert prepare(people, "--degrade", "diffbir_face", "--size", 64, "--seed", 3, "--output", out) == 0
    content = json.loads((out / "records.json").read_text())
    assert set(content["libraries"]) == {"numpy", "opencv", "pillow"}
    assert len(content["photos"]) == 9
    for name, entry in content["photos"].items():
        for kind in ("lq", "hq"):
            assert entry[f"{kind}_sha256"] == hashlib.sha256((out / kind / f"{name}.png").read_bytes()).hexdigest()
        assert entry["record"] == Degradation("diffbir_face", seed=3).record(entry["source"], 0, (64, 64))
        again = degrade(read_rgb(out / "hq" / f"{name}.png"), entry["record"])
        np.testing.assert_array_equal(read_rgb(out / "lq" / f"{name}.png"), np.rint(again * 255).astype(np.uint8))
    name, found = find_photos(out)
    assert name == "pairs"
    assert len([photo for photo in found.photos if photo.lq]) == 9
    assert build_manifest(out).identities("test") == ["p0", "p1", "p2"]


def test_fixed_set_continues_after_an_interruption(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (people, "--degrade", "diffbir_face", "--size", 64, "--output", tmp_path / "set")
    written = []

    def write_some(image: np.ndarray, path: Path) -> None:
        if len(written) == 8:
            raise KeyboardInterrupt
        written.append(path)
        write_image(image, path)

    monkeypatch.setattr(fixed_set, "write_image", write_some)
    with pytest.raises(KeyboardInterrupt):
        prepare(*options)
    done = files(tmp_path / "set/lq")
    assert len(done) == 4
    monkeypatch.setattr(fixed_set, "write_image", write_image)
    assert prepare(*options) == 0
    after = files(tmp_path / "set/lq")
    assert len(after) == 9
    assert all(after[path] == time for path, time in done.items())
    finished = files(tmp_path / "set/lq")
    assert prepare(*options) == 0
    assert files(tmp_path / "set/lq") == finished
    prepare(*options, "--seed", 9)
    assert not set(files(tmp_path / "set/lq").items()) & set(finished.items())  # another seed, all anew


def test_fixed_set_of_one_split(people: Path, tmp_path: Path) -> None:
    prepare(people, "--output", tmp_path / "prepared", "--test", 1)
    tested = read_manifest(tmp_path / "prepared/manifest.json").identities("test")
    options = ("--degrade", "gfpgan", "--size", 64, "--output", tmp_path / "set")
    assert prepare(tmp_path / "prepared", "--only", "test", *options) == 0
    assert sorted(path.name for path in (tmp_path / "set/lq").iterdir()) == tested
    with pytest.raises(UserError, match=r"no photos to degrade.*split val is empty"):
        prepare(people, "--only", "val", "--val", 0, *options)


def test_fixed_set_keeps_listed_references(tmp_path: Path, people: Path) -> None:
    source = tmp_path / "official"
    for name in ("degraded.png", "gt.png", "conditioning/2.png", "conditioning/10.png"):
        (source / "a" / name).parent.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("degraded", "gt", "conditioning/10")):
        (source / "a" / f"{name}.png").write_bytes((people / f"p0/{number}.png").read_bytes())
    (source / "a/conditioning/2.png").write_bytes((people / "p1/0.png").read_bytes())
    prepare(source, "--degrade", "diffbir_face", "--size", 96, "--output", tmp_path / "set")
    _, found = find_photos(tmp_path / "set")
    target = next(photo for photo in found.photos if photo.role == "hq")
    assert target.references == ("ref/a/gt/00.png", "ref/a/gt/01.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "set" / target.references[0]), read_rgb(people / "p1/0.png"))


def test_names_that_differ_in_the_suffix_only(people: Path, tmp_path: Path) -> None:
    Image.fromarray(read_rgb(people / "p0/0.png")[::-1]).save(people / "p0/0.jpg")
    prepare(people, "--degrade", "diffbir_face", "--size", 64, "--output", tmp_path / "set")
    assert {path.name for path in (tmp_path / "set/lq/p0").iterdir()} == {"0_jpg.png", "0_png.png", "1.png", "2.png"}


def test_bad_requests(people: Path, tmp_path: Path) -> None:
    out = ("--output", tmp_path / "out")
    for options, message in [
        ((), "no folder given"),
        ((people, "--synthetic"), "--synthetic needs no folder"),
        (("--synthetic", "--degrade", "gfpgan"), "exclude each other; found --synthetic --degrade"),
        ((tmp_path / "missing",), "no such data folder"),
        ((people, "--layout", "pears"), "Did you mean 'pairs'"),
        ((people, "--degrade", "gfpgn"), "gfpgan"),
        ((people, "--landmarks-from", tmp_path / "no.npz"), "no such landmark file"),
        ((people, "--val", "1.5"), "bad split"),
        ((people, "--test", "3"), "split needs more people"),
        (("--synthetic", "--images", 1), "too few synthetic photos"),
        (("--synthetic", "--imges", 1), "unknown option '--imges'. Did you mean '--images'"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(*options, *out)
    with pytest.raises(UserError, match="the output lies inside the input"):
        prepare(people, "--degrade", "gfpgan", "--output", people / "lq")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the output is a file"):
        prepare(people, "--output", tmp_path / "file")
    for missing in (people, tmp_path / "missing"):  # said before photos are read
        with pytest.raises(UserError, match=r"cannot write.*Choose another output"):
            prepare(missing, "--output", "/proc/nowhere")
    with pytest.raises(UserError, match=r"unknown option '--outptu'. Did you mean '--output'"):
        prepare(people, "--outptu", tmp_path / "out")


def test_help_is_quick_and_shows_examples() -> None:
    code = "import sys; from lit_restore.commands.prepare import main\ntry: main(['prepare', '--help'])\n"
    code += "except SystemExit: print('torch' in sys.modules, 'cv2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "lit_restore prepare --synthetic" in result.stdout
    assert result.stdout.splitlines()[-1] == "False False"


def test_preparing_needs_no_torch(people: Path, tmp_path: Path) -> None:
    code = "import sys; from lit_restore.commands.prepare import main\n"
    code += f"main(['prepare', {str(people)!r}, '--output', {str(tmp_path / 'out')!r}])\nprint('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "False"
    assert isinstance(read_manifest(tmp_path / "out/manifest.json"), Manifest)
