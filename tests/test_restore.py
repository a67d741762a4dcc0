"""``lit_restore restore`` and the Python interface behind it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.faces.alignment import ffhq_template
from lit_restore.faces.detect import Face
from lit_restore.image import read_rgb, write_image
from lit_restore.inference import PhotoReport, Restorer, find_device, found_faces
from lit_restore.inference.photo_restorer import PhotoRestorer
from lit_restore.models.random_base import write_random_base

SIZE = 64


@pytest.fixture(scope="module")
def restorer(model: Path) -> Restorer:
    return Restorer.from_pretrained(model, device="cpu", cache=False)


@pytest.fixture(autouse=True)
def _no_weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def photo(path: str | Path, seed: int, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    coarse = np.random.RandomState(seed).randint(0, 256, (6, 6, 3)).astype(np.uint8)
    write_image(np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)), path)
    return Path(path)


@pytest.fixture
def person() -> Path:
    """Four photos of a person."""
    for number in range(4):
        photo(f"person/{number}.png", number)
    return Path("person")


def restore(model: Path, source: object, output: object, *options: object) -> int:
    arguments = ["--input", source, "--output", output, "--checkpoint", model, "--device", "cpu", *options]
    return main(["restore", *map(str, arguments)])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert restore(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


# --- pictures -----------------------------------------------------------------------------------------------------


def test_the_command_and_the_three_lines_of_python_agree(model: Path, person: Path) -> None:
    photo("degraded.png", 9)
    assert restore(model, "degraded.png", "out.png", "--references", "person") == 0
    again = Restorer.from_pretrained(model).restore("degraded.png", references="person/")
    again.save("again.png")
    np.testing.assert_array_equal(read_rgb("out.png"), again.image)
    assert Path("out.png").read_bytes() == Path("again.png").read_bytes()
    assert again.image.shape == (SIZE, SIZE, 3)


def test_references_and_seed_matter_and_nothing_else(restorer: Restorer, person: Path) -> None:
    degraded = photo("degraded.png", 9)
    blind = restorer.restore(degraded).image
    guided = restorer.restore(degraded, person).image
    assert (blind != guided).mean() > 0.1
    assert (restorer.restore(degraded, person, seed=1).image != guided).mean() > 0.1
    torch.manual_seed(5)
    np.testing.assert_array_equal(restorer.restore(degraded, person).image, guided)
    np.testing.assert_array_equal(
        restorer.restore(read_rgb(degraded), [read_rgb(p) for p in sorted(person.iterdir())]).image, guided
    )


def test_a_run_folder_a_model_folder_and_a_base_that_moved(
    model: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    degraded = photo("degraded.png", 9)
    shutil.copytree(model, "run/model")
    config = Path("run/model/config.json")
    config.write_text(config.read_text().replace(str(tiny_base), "/gone"))
    assert "no such base folder: /gone" in refused(capsys, "run", degraded, "a.png")
    assert restore("run", degraded, "a.png", "--base", tiny_base) == 0
    assert restore(model, degraded, "b.png") == 0
    np.testing.assert_array_equal(read_rgb("a.png"), read_rgb("b.png"))


def test_other_formats_and_an_output_folder(model: Path) -> None:
    degraded = photo("degraded.png", 9)
    for name in ("a.jpg", "b.webp", "new/folder/c.png"):
        assert restore(model, degraded, name) == 0
        assert read_rgb(name).shape == (SIZE, SIZE, 3)
    Path("there").mkdir()
    assert restore(model, degraded, "there") == 0
    assert Path("there/degraded.png").exists()


def test_photos_of_another_size_are_scaled(restorer: Restorer) -> None:
    assert restorer.restore(photo("big.png", 3, (200, 200))).image.shape == (SIZE, SIZE, 3)


def references_of(report: PhotoReport) -> tuple[list[str], dict[str, str]]:
    """Names of those used for the first face, and of the others with the reason."""
    references = report.faces[0].references
    left_out = {Path(one.name).name: one.reason for one in references if not one.used}
    return [Path(one.name).name for one in references if one.used], left_out


# --- references ---------------------------------------------------------------------------------------------------


def test_the_photo_itself_and_copies_are_no_references(restorer: Restorer, person: Path) -> None:
    shutil.copy(person / "0.png", "degraded.png")
    Image.open(person / "1.png").save(person / "same_pixels.webp", lossless=True)
    restored = restorer.restore("degraded.png", person)
    used, left_out = references_of(restored.report)
    assert used == ["1.png", "2.png", "3.png"]
    assert left_out == {"0.png": "the photo itself", "same_pixels.webp": "a copy of another one"}
    others = restorer.restore("degraded.png", [person / f"{n}.png" for n in (1, 2, 3)])
    np.testing.assert_array_equal(restored.image, others.image)


def test_unreadable_references_are_left_out_and_reported(
    model: Path, person: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    degraded = photo("degraded.png", 9)
    assert restore(model, degraded, "all.png", "--references", person) == 0
    (person / "00.png").write_bytes((person / "0.png").read_bytes()[:60])
    (person / "._0.png").write_bytes(b"what some systems put beside a photo")
    capsys.readouterr()
    assert restore(model, degraded, "out.png", "--references", person) == 0
    captured = capsys.readouterr()
    assert "out.png: 1 face, restored (person with 4 references" in captured.out
    assert "  not used 00.png: image cannot be decoded" in captured.out
    assert "note: left out as references: 00.png (image cannot be decoded" in captured.err
    assert "._0.png" not in captured.err
    np.testing.assert_array_equal(read_rgb("out.png"), read_rgb("all.png"))


def test_one_photo_as_reference_and_a_limit(model: Path, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degraded = photo("degraded.png", 9)
    write_image(
        np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), person / "2.png"
    )  # sharpest
    assert restore(model, degraded, "one.png", "--references", person / "2.png") == 0
    assert "restored (2.png with 1 reference;" in capsys.readouterr().out
    assert restore(model, degraded, "limit.png", "--references", person, "--max-references", 1) == 0
    said = capsys.readouterr().out
    assert "used     2.png: score 1.00: 64 px wide, detail 256/256, pose 0.00 away" in said
    assert said.count("not used") == said.count("1 better; 64 px wide") == 3
    np.testing.assert_array_equal(read_rgb("one.png"), read_rgb("limit.png"))


def test_references_none_of_which_can_be_used(model: Path, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degraded = photo("degraded.png", 9)
    options = (model, degraded, "out.png", "--references")
    assert "no such photo or folder: nowhere. Check the path." in refused(capsys, *options, "nowhere")
    assert "found degraded.png: the photo itself. Give other photos" in refused(capsys, *options, degraded)
    Path("empty").mkdir()
    assert "no images in folder: empty; expected .jpg" in refused(capsys, *options, "empty")
    Path("empty/anna").mkdir()
    assert "; found folders: anna" in refused(capsys, *options, "empty")
    assert not Path("out.png").exists()


def test_a_changed_reference_is_read_again(restorer: Restorer, person: Path) -> None:
    degraded = photo("degraded.png", 9)
    first = restorer.restore(degraded, person / "0.png").image
    photo(person / "0.png", 17)
    assert (restorer.restore(degraded, person / "0.png").image != first).any()


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_skips_what_it_cannot_and_continues(
    model: Path, person: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo("in/a.png", 20)
    photo("in/a.jpg", 21)
    photo("in/b.jpg", 22)
    Path("in/broken.png").write_bytes(b"not an image")
    Path("in/notes.txt").touch()
    assert restore(model, "in", "out", "--references", person) == 1
    captured = capsys.readouterr()
    assert sorted(path.name for path in Path("out").iterdir()) == ["a_jpg.png", "a_png.png", "b.png"]
    assert "skipped broken.png: image cannot be decoded" in captured.err
    assert "note: not looked at: 1 of no known image kind (.txt)" in captured.err
    assert captured.err.count("taken as aligned faces, being square") == 1
    assert captured.out.endswith("3 of 4 photos are restored in out.\n")
    assert "b.jpg: 1 face, restored (person with 4 references" in captured.out
    single = Restorer.from_pretrained(model).restore("in/b.jpg", person).image
    np.testing.assert_array_equal(read_rgb("out/b.png"), single)

    Path("out/b.png").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert restore(model, "in", "out", "--references", person) == 1
    assert "3 of 4 photos are restored in out, 2 of them before; --overwrite redoes these." in capsys.readouterr().out
    after = {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert set(after) == {*before, "b.png"}
    assert {name: after[name] for name in before} == before
    Path("in/broken.png").unlink()
    assert restore(model, "in", "out", "--references", person, "--overwrite") == 0
    assert all(Path("out", name).stat().st_mtime_ns > after[name] for name in after)


def test_photos_of_a_folder_may_be_each_others_references(model: Path, person: Path) -> None:
    assert restore(model, person, "out", "--references", person) == 0
    first = Restorer.from_pretrained(model).restore(person / "0.png", [person / f"{n}.png" for n in (1, 2, 3)])
    np.testing.assert_array_equal(read_rgb("out/0.png"), first.image)


def test_a_dry_run_restores_nothing(model: Path, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore(model, person, "out", "--references", person, "--dry-run") == 0
    assert "person/0.png -> out/0.png\n" in capsys.readouterr().out
    assert not Path("out").exists()


def test_inputs_are_never_overwritten(model: Path, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degraded = photo("degraded.png", 9)
    before = {path: path.read_bytes() for path in (degraded, *person.iterdir())}
    Path("link").symlink_to(person)
    for source, output, references in (
        (degraded, degraded, person),
        (degraded, ".", person),
        (degraded, person / "2.png", person),  # a reference
        (person, person, person),
        (person, "link", degraded),
        (person, ".", degraded),  # would be fine but for the next line
    ):
        if output == "." and source == person:
            shutil.copy(degraded, "0.png")
            references = "0.png"
        message = refused(capsys, model, source, output, "--references", references)
        assert "the output would overwrite an input" in message
    assert {path: path.read_bytes() for path in before} == before


# --- what cannot be done ------------------------------------------------------------------------------------------


def test_wrong_calls(model: Path, person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    degraded = photo("degraded.png", 9)
    Path("file").touch()
    Path("text.png").write_text("not an image")
    for arguments, message in (
        ((model, "nowhere", "out.png"), "no such input: nowhere"),
        ((model, "text.png", "out.png"), "image cannot be decoded (truncated or not an image): text.png"),
        ((model, degraded, "out.gif"), "the output needs an image suffix, or must be a folder that exists: out.gif"),
        ((model, person, "file"), "the input is a folder, the output a file: file"),
        ((model, degraded, "/proc/nowhere/out.png"), "cannot write: /proc/nowhere"),
        (("nowhere", degraded, "out.png"), "no such checkpoint: nowhere; expected a model folder"),
        ((person, degraded, "out.png"), "not a model folder: person"),
        (("text.png", degraded, "out.png"), "damaged checkpoint: text.png"),
        ((model, degraded, "out.png", "--device", "gpu7"), "no such device: gpu7; expected cpu, cuda or mps"),
        ((model, degraded, "out.png", "--max-references", "0"), "expected a whole number, 1 or more, found '0'"),
        ((model, degraded, "out.png", "--aligned", "maybe"), "argument --aligned: invalid choice: 'maybe'"),
        (
            (model, degraded, "out.png", "--referencs", "x"),
            "unknown option '--referencs'. Did you mean '--references'?",
        ),
        ((model, degraded, "out.png", "--weights", "nowhere"), "weights folder does not exist: nowhere"),
    ):
        assert message in refused(capsys, *arguments), arguments
    assert main(["restore"]) == 2
    assert "the following arguments are required: --input, --output, --checkpoint" in capsys.readouterr().err


def test_a_checkpoint_cut_in_half_or_of_another_base(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    degraded = photo("degraded.png", 9)
    shutil.copytree(model, "half")
    weights = Path("half/unet/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert "damaged checkpoint: half" in refused(capsys, "half", degraded, "out.png")
    other = write_random_base(tmp_path / "other", seed=5)
    message = refused(capsys, model, degraded, "out.png", "--base", other)
    assert "these weights belong to another base" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_devices() -> None:
    assert find_device().type in ("cpu", "mps")
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="no such device: cuda"):
        find_device("cuda")


def test_arrays_must_be_photos(restorer: Restorer) -> None:
    for array in (np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 4), np.uint8)):
        with pytest.raises(UserError, match="not a photo"):
            restorer.restore(array)


# --- alignment ----------------------------------------------------------------------------------------------------


def test_an_unaligned_photo_without_weights_says_what_to_get(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", "hub")
    holiday = photo("holiday.png", 9, (160, 120))
    message = refused(capsys, model, holiday, "out.png")
    for part in (
        "weights of the face networks not found",
        "mobilenet0.25_Final.pth",
        "no network here",
        "Put them into",
    ):
        assert part in message
    photo("in/aligned.png", 8)
    shutil.copy(holiday, "in/holiday.png")
    assert restore(model, "in", "out") == 1
    assert "skipped holiday.png: weights of the face networks not found" in capsys.readouterr().err
    assert Path("out/aligned.png").exists()


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A detector that sees a face at (20, 10) in everything that is not almost black; shapes it was asked about."""
    asked: list[tuple[int, ...]] = []
    face = Face(np.array([28, 18, 76, 66]), 0.99, ffhq_template(SIZE) + np.array([20, 10]), None)

    def find(image: np.ndarray, **_: object) -> list[Face]:
        asked.append(image.shape)
        return [face] if image.mean() >= 5 else []

    monkeypatch.setattr(found_faces, "locate", lambda *_: Path("weights"))
    monkeypatch.setattr(found_faces, "find_faces", find)
    return asked


def test_a_whole_photo_comes_back_with_the_face_in_its_place(
    restorer: Restorer, detector: list[tuple[int, ...]], person: Path
) -> None:
    holiday = read_rgb(photo("holiday.png", 9, (160, 120)))
    restored = restorer.restore("holiday.png", person, aligned="no")
    cut = np.ascontiguousarray(holiday[10 : 10 + SIZE, 20 : 20 + SIZE])
    np.testing.assert_array_equal(restored.faces[0].before, cut)
    changed = (restored.image != holiday).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 10
    assert rows.max() < 10 + SIZE
    assert columns.min() >= 20
    assert columns.max() < 20 + SIZE
    assert changed[35:60, 40:65].mean() > 0.9
    middle = (slice(10 + 30, 10 + 40), slice(20 + 25, 20 + 40))  # where the mask is 1
    np.testing.assert_array_equal(restored.image[middle], restored.faces[0].after[30:40, 25:40])
    crop = restorer.restore("holiday.png", person, aligned="no", crop=True)
    np.testing.assert_array_equal(crop.image, restored.faces[0].after)


def test_references_are_searched_once_for_all_photos(
    model: Path, detector: list[tuple[int, ...]], person: Path
) -> None:
    for number in range(3):
        photo(f"in/{number}.png", 30 + number, (160, 120))
    assert restore(model, "in", "out", "--references", person) == 0
    assert detector.count((SIZE, SIZE, 3)) == 4
    assert detector.count((120, 160, 3)) == 3


def test_a_square_photo_without_a_visible_face_is_taken_as_aligned(
    restorer: Restorer, detector: list[tuple[int, ...]]
) -> None:
    dark = np.zeros((SIZE, SIZE, 3), np.uint8)
    restored = restorer.restore(dark)
    assert restored.report.taken_as_aligned == {"photo": "the face detector sees none in them"}
    with pytest.raises(UserError, match="no face found"):
        restorer.restore(dark, aligned="no")
    with pytest.raises(UserError, match="no face found"):
        restorer.restore(np.zeros((SIZE, 2 * SIZE, 3), np.uint8))


def test_references_without_a_face_are_left_out(
    restorer: Restorer, detector: list[tuple[int, ...]], person: Path
) -> None:
    write_image(np.zeros((80, 120, 3), np.uint8), person / "00.png")
    used, left_out = references_of(restorer.restore(photo("degraded.png", 9), person).report)
    assert left_out == {"00.png": "no face found: person/00.png"}
    assert len(used) == 4


def test_a_folder_in_batches_and_in_little_memory(model: Path, person: Path) -> None:
    for number in range(5):
        photo(f"in/{number}.png", 20 + number)
    Path("in/1.png").write_text("not an image")
    assert restore(model, "in", "one", "--references", person) == 1
    assert restore(model, "in", "many", "--references", person, "--batch", 3, "--low-memory", "slices") == 1
    names = [path.name for path in sorted(Path("one").iterdir())]
    assert names == [path.name for path in sorted(Path("many").iterdir())] == ["0.png", "2.png", "3.png", "4.png"]
    for name in names:
        difference = np.abs(read_rgb(f"one/{name}").astype(int) - read_rgb(f"many/{name}"))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3
    assert restore(model, "in/0.png", "tiles.png", "--low-memory", "tiles") == 0
    assert (read_rgb("tiles.png") != read_rgb("one/0.png")).any()


def test_an_interrupt_keeps_what_is_done_and_goes_on_from_there(
    model: Path, person: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        photo(f"in/{number}.png", 20 + number)
    finish, done = PhotoRestorer.finish, []

    def interrupted(self: PhotoRestorer, work: object) -> object:
        done.append(work)
        if len(done) == 3:
            raise KeyboardInterrupt
        return finish(self, work)

    monkeypatch.setattr(PhotoRestorer, "finish", interrupted)
    assert restore(model, "in", "out", "--references", person, "--report", "report.html") == 130
    said = capsys.readouterr()
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png"]
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["0.png", "1.png"]
    assert "interrupted; what was finished is kept" in said.err
    assert "2 restored photos" in Path("report.html").read_text()
    assert restore(model, "in", "out", "--references", person) == 0
    assert "4 of 4 photos are restored in out, 2 of them before" in capsys.readouterr().out


def test_what_cannot_be_compiled_is_said_in_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    degraded = photo("degraded.png", 9)
    monkeypatch.setattr(torch, "compile", no_compiler)
    message = refused(capsys, model, degraded, "out.png", "--compile")
    assert "the networks cannot be compiled on this machine: cpu; found RuntimeError: No working C++" in message


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_compiled_it_restores_the_same(model: Path, person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batch sizes, with the attention of the report. Traced and guarded, without the minutes of making code; that
    is tested with the networks alone."""
    ordinary = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: ordinary(module, backend="eager"))
    for number in range(3):
        photo(f"in/{number}.png", 20 + number)
    options = ("--references", person, "--batch", 2)
    assert restore(model, "in", "plain", *options) == 0
    assert restore(model, "in", "compiled", *options, "--compile", "--report", "report.html") == 0
    for number in range(3):
        plain, compiled = (read_rgb(f"{folder}/{number}.png").astype(int) for folder in ("plain", "compiled"))
        assert np.abs(plain - compiled).max() <= 1
