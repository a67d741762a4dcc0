"""Whole photos of several people, with a stand-in for the detector and the recognition network: colours are people."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import tiny_generator
from PIL import Image

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.faces.alignment import ffhq_template
from lit_restore.faces.detect import Face
from lit_restore.image import read_rgb, to_tensor, write_image
from lit_restore.inference import Restorer, found_faces, restorer
from lit_restore.inference.identity import Identity
from lit_restore.inference.paste import PlacedFace, paste_mask
from lit_restore.inference.strength import restore_faces
from lit_restore.models.generator import fixed_noise

SIZE = 64
RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 200, 30), (30, 30, 200), (250, 250, 250)
GREY = 90


class Colours(Identity):
    """Two faces are one person if they have one colour."""

    fingerprint = "colours"

    def __init__(self) -> None:
        self.threshold = 0.45

    fingerprint = "colours"

    def __call__(self, views: list[np.ndarray], points5: list[np.ndarray]) -> np.ndarray:
        middles = np.stack([view[100:180, 100:160].mean(axis=(0, 1)) for view in views]) ** 4 + 1
        return middles / np.linalg.norm(middles, axis=1, keepdims=True)


def find(image: np.ndarray, **_: object) -> list[Face]:
    """A face in every blob that is not grey, as `paint` makes them; widest first."""
    grey = cv2.inRange(image, (GREY - 40,) * 3, (GREY + 40,) * 3)
    count, _, stats, _ = cv2.connectedComponentsWithStats(~grey)
    boxes = [stats[n, :4] for n in range(1, count) if stats[n, 2] >= 8]
    faces = []
    for left, top, width, height in sorted(boxes, key=lambda box: -box[2]):
        points = ffhq_template(int(width)) + np.array([left, top])
        faces.append(Face(np.array([left, top, left + width, top + height], float), 0.99, points, None))
    return faces


def paint(
    path: str | Path, *faces: tuple[tuple[int, int, int], int, int, int], size: tuple[int, int] = (120, 300)
) -> Path:
    """Textured squares (colour, left, top, side) on grey."""
    image = np.full((*size, 3), GREY, np.uint8)
    texture = np.random.default_rng(len(faces)).integers(-20, 20, (*size, 3))
    for colour, left, top, side in faces:
        area = (slice(max(0, top), top + side), slice(max(0, left), left + side))
        image[area] = np.clip(np.array(colour) + texture[area], 0, 255)
    write_image(image, path)
    return Path(path)


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(found_faces, "locate", lambda *_: Path("weights"))
    monkeypatch.setattr(found_faces, "find_faces", find)
    monkeypatch.setattr(restorer, "find_identity", lambda *_, **__: Colours())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "tante & onkel ñ"
    for name, colour in (("anna", RED), ("bert", GREEN)):
        for number in range(3):
            paint(folder / name / f"{number}.png", (colour, 10 + number, 20, 70 - 5 * number), size=(100, 120))
    paint(folder / "anna" / "mixed_in.png", (GREEN, 14, 22, 70), size=(100, 120))
    return folder


@pytest.fixture
def group() -> Path:
    return paint("group.png", (RED, 10, 20, 64), (BLUE, 110, 20, 60), (GREEN, 210, 30, 56))


def run(model: Path, *options: object) -> int:
    return main(["restore", *map(str, ["--checkpoint", model, "--device", "cpu", *options])])


def test_a_group_photo(model: Path, people: Path, group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, "--input", group, "--people", people, "--output", "out ü.png") == 0
    said = capsys.readouterr()
    before, after = read_rgb(group), read_rgb("out ü.png")
    changed = (before != after).any(axis=2)
    assert changed[:, :80].any()
    assert not changed[:, 80:205].any()  # the stranger
    assert changed[:, 205:].any()
    for part in (
        "face 0, 64x64 px at left 10, top 20; anna restored with 3 references",
        "face 1, 60x60 px at left 110, top 20; left as it is (somebody else: similarity",
        "face 2, 56x56 px at left 210, top 30; bert restored with 3 references",
        "not used mixed_in.png: shows somebody else: similarity",
        "out ü.png: 3 faces, 2 restored (anna with 3 references, bert with 3 references;",
    ):
        assert part in said.out
    assert "note: anna: mixed_in.png refused: shows somebody else: similarity 0.0" in said.err

    three_lines = Restorer.from_pretrained(model, device="cpu")
    for person in ("anna", "bert"):
        three_lines.enroll(person, people / person)
    restored = three_lines.restore(group)
    np.testing.assert_array_equal(restored.image, after)
    assert [face.cache.found for face in restored.report.faces] == [3, 0, 3]
    mask = paste_mask(before.shape[:2], [PlacedFace(one.after / np.float32(255), one.matrix) for one in restored.faces])
    np.testing.assert_array_equal(after[mask == 0], before[mask == 0])

    blind = three_lines.restore(group, strangers="blind").report
    assert [face.action for face in blind.faces] == ["with references", "without references", "with references"]
    assert three_lines.restore(group, face=2).report.num_restored == 1


def test_hits_misses_and_damaged_files_of_the_cache_give_the_same_bits(
    model: Path, people: Path, group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--input", group, "--people", people, "--cache", "cache", "--output")
    assert run(model, *command, "miss.png") == 0
    assert run(model, *command, "hit.png") == 0
    files = list(Path("cache").glob("*.safetensors"))
    assert len(files) == 6
    faces = list(Path("cache").glob("*.faces"))
    assert len(faces) == 7  # also of the photo that was refused
    damaged = {path: path.read_bytes() for path in (files[0], faces[0])}
    for path, content in damaged.items():
        path.write_bytes(content[:-5] + b"wrong")
    capsys.readouterr()
    assert run(model, *command, "rebuilt.png") == 0
    said = capsys.readouterr().err
    for path, content in damaged.items():
        assert f"damaged file of the reference cache replaced: {path}" in said
        assert path.read_bytes() == content
    assert run(model, *command[:-3], "--no-cache", "--output", "none.png") == 0
    pictures = [Path(name).read_bytes() for name in ("miss.png", "hit.png", "rebuilt.png", "none.png")]
    assert len(set(pictures)) == 1


def test_the_wrong_person_is_warned_about_and_not_used(
    model: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portrait = paint("portrait.png", (RED, 30, 20, 70))
    assert run(model, "--input", portrait, "--references", people / "bert", "--output", "warned.png") == 0
    assert "similarity 0.0" in (said := capsys.readouterr()).err
    assert "restored without them (--trust-references" in said.err
    assert run(model, "--input", portrait, "--references", 0, "--output", "blind.png") == 0
    assert Path("warned.png").read_bytes() == Path("blind.png").read_bytes()
    trusted = ("--references", people / "bert", "--trust-references", "--output", "trusted.png")
    assert run(model, "--input", portrait, *trusted) == 0
    assert "used on your word" in capsys.readouterr().err
    assert Path("trusted.png").read_bytes() != Path("blind.png").read_bytes()
    assert run(model, "--input", portrait, "--people", people.parent, "--output", "x.png") == 2  # no photos in there
    paint("stranger.png", (BLUE, 30, 20, 70))
    assert run(model, "--input", "stranger.png", "--people", people, "--output", "x.png") == 2
    assert "no face of a known person: stranger.png; found face 0: somebody else: similarity" in capsys.readouterr().err
    assert not Path("x.png").exists()


def test_everything_in_the_file_is_kept(model: Path, group: Path) -> None:
    deep = np.repeat(read_rgb(group).astype(np.uint16) * 257 + 3, 1, axis=2)
    cv2.imwrite("deep.png", deep[..., ::-1])
    assert run(model, "--input", "deep.png", "--output", "deep_out.tif") == 0
    out = cv2.imread("deep_out.tif", cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out[:, 85:105], deep[:, 85:105])
    assert (out[40:60, 30:50] % 257 != 3).mean() > 0.9  # no rounding to 8 bits on the way

    tags = Image.Exif()
    tags[274], tags[271] = 6, "camera"
    sideways = np.rot90(read_rgb(group))  # lies on its side in the file
    Image.fromarray(np.dstack([sideways, np.full(sideways.shape[:2], 200, np.uint8)])).save(
        "phone.webp", lossless=True, exif=tags
    )
    assert run(model, "--input", "phone.webp", "--output", "phone.png") == 0
    after = Image.open("phone.png")
    assert after.size == (120, 300)
    assert (after.getexif()[274], after.getexif()[271]) == (6, "camera")
    assert np.asarray(after)[..., 3].min() == 200
    upright = np.rot90(np.asarray(after)[..., :3], -1)
    np.testing.assert_array_equal(upright[:, 85:105], read_rgb(group)[:, 85:105])
    assert (upright[40:60, 30:50] != read_rgb(group)[40:60, 30:50]).any(axis=2).mean() > 0.9


def test_strength_and_fidelity(model: Path, people: Path) -> None:
    tool = Restorer.from_pretrained(model, device="cpu", cache=False)
    portrait = paint("portrait.png", (RED, 30, 20, 70))
    options = {"references": people / "anna", "crop": True}
    blind = tool.restore(portrait, crop=True).image.astype(int)
    full, half, none = (tool.restore(portrait, strength=s, **options).image.astype(int) for s in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(none, blind)
    assert (full != blind).mean() > 0.1
    assert 0 < np.abs(half - blind).mean() < np.abs(full - blind).mean()
    faithful = tool.restore(portrait, fidelity=1.0, **options)
    lq = faithful.faces[0].before.astype(float)
    assert np.abs(faithful.image - lq).mean() < np.abs(full - lq).mean()
    with pytest.raises(UserError, match=r"strength out of range; expected 0 to 1; found 1.5"):
        tool.restore(portrait, strength=1.5)


@torch.inference_mode()
def test_at_full_strength_nothing_is_added_to_the_generator(tiny_base: Path) -> None:
    generator = tiny_generator(tiny_base)
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    lq, references = to_tensor(pixels[0])[None], torch.stack([to_tensor(one) for one in pixels[1:]])[None]
    features = generator.reference_features(references, draw=fixed_noise(5))
    for strength, given in ((1.0, features), (0.0, None)):
        expected = generator(lq, given, draw=fixed_noise(5))
        assert torch.equal(restore_faces(generator, lq, features, strength, 5), expected)


def test_a_folder_with_everything_that_can_be_wrong(
    model: Path, people: Path, group: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path("alte photos ß")
    paint(source / "a.png", (RED, 10, 20, 64))
    paint(source / "b ö.jpg", (GREEN, 10, 20, 64))
    paint(source / "nobody.png")
    Image.fromarray(read_rgb(group)).save(
        source / "moving.gif", save_all=True, append_images=[Image.new("RGB", (300, 120))]
    )
    (source / "cut.jpg").write_bytes((source / "b ö.jpg").read_bytes()[:700])
    (source / "empty.jpg").touch()
    (source / "text.jpg").write_text("dear diary")
    paint(source / "crowd.png", *((RED, 3 + 30 * (n % 10), 3 + 30 * (n // 10), 20) for n in range(40)))
    paint(source / "edge.png", (RED, -30, -20, 64), (GREEN, 270, 90, 64))
    assert run(model, "--input", source, "--people", people, "--output", "out") == 1
    said = capsys.readouterr()
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b ö.png", "crowd.png", "edge.png"]
    for part in (
        "skipped nobody.png: no face found",
        "skipped moving.gif: not a photo but an animation or a document",
        "skipped cut.jpg: image cannot be decoded (truncated or not an image)",
        "skipped empty.jpg: empty file, not an image",
        "skipped text.jpg: image cannot be decoded (truncated or not an image)",
    ):
        assert said.err.count(part) == 1, part
    assert "crowd.png: 40 faces, restored (anna with 3 references, " in said.out
    assert said.out.endswith("4 of 9 photos are restored in out.\n")

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lit_restore.inference.picture_file._write_8_bit", full)
    assert run(model, "--input", source, "--people", people, "--output", "out", "--overwrite") == 1
    err = capsys.readouterr().err
    assert err.count("cannot write: out/") == 4
    assert "no space left on device" in err
    assert not list(Path("out").glob(".*"))  # nothing half-written


def test_a_photo_of_48_megapixels(model: Path) -> None:
    tool = Restorer.from_pretrained(model, device="cpu", cache=False)
    image = np.full((6000, 8000, 3), GREY, np.uint8)
    image[3000:3200, 4000:4200] = RED
    restored = tool.restore(image)
    changed = (restored.image != image).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 3000 <= rows.min() < rows.max() < 3200
    assert 4000 <= columns.min() < columns.max() < 4200
    assert "the restorer works at 64: fine detail is lost" in restored.report.faces[0].warnings[0]


def test_similarities_and_their_fall_are_reported(model: Path, people: Path) -> None:
    tool = Restorer.from_pretrained(model, device="cpu", cache=False)
    restored = tool.restore(paint("portrait.png", (RED, 30, 20, 70)), people / "anna")
    face = restored.report.faces[0]
    assert face.similarity_before > 0.99
    assert face.similarity_after < face.similarity_before  # an untrained restorer
    assert face.warnings[0].startswith("restoration lowered the similarity to anna: 1.00 -> ")
    assert (face.person, face.num_references, face.cache.computed) == ("anna", 3, 3)
    assert [one.shape for one in restored.faces[0].references] == [(SIZE, SIZE, 3)] * 3


def test_people_need_a_network_that_tells_them_apart(
    model: Path, people: Path, group: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restorer, "find_identity", lambda *_, **__: UserError("face recognition network not found"))
    command = ("--input", paint("portrait.png", (RED, 30, 20, 70)), "--output", "out.png")
    assert run(model, *command, "--people", people) == 2
    assert "lit_restore: face recognition network not found" in capsys.readouterr().err
    assert run(model, *command, "--references", people / "bert") == 0
    err = capsys.readouterr().err
    assert err.count("note: faces are not compared with the references: face recognition network not found") == 1
    assert run(model, "--input", group, "--output", "out.png", "--references", people / "anna") == 2
    assert "several faces, and nothing to tell which is the person's; found 3 (0: 64x64 px" in capsys.readouterr().err
    assert run(model, "--input", group, "--output", "out.png", "--references", people / "anna", "--face", 0) == 0
