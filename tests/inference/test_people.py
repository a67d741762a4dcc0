"""Who is who: majorities, matches and the choice of references, on made-up unit vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from lit_restore.errors import UserError
from lit_restore.faces.alignment import ffhq_template, scaling
from lit_restore.image import write_image
from lit_restore.inference import people
from lit_restore.inference.face_quality import detail_px, pose
from lit_restore.inference.found_faces import VIEW_PX, FacesOfPhoto, FoundFace
from lit_restore.inference.matching import Match, match_faces
from lit_restore.inference.people import Candidate, Person, PhotoReader
from lit_restore.inference.reference_choice import choose_references, score

ANNA, BERT, CARL = np.eye(3)
RNG = np.random.default_rng(0)
SHARP = RNG.integers(0, 256, (VIEW_PX, VIEW_PX, 3), dtype=np.uint8)
FRONT = ffhq_template(VIEW_PX)


def unit(*parts: np.ndarray) -> np.ndarray:
    total = np.sum(parts, axis=0)
    return total / np.linalg.norm(total)


def face(side_px: float = 64, points5: np.ndarray = FRONT) -> FoundFace:
    return FoundFace(np.zeros((64, 64, 3), np.uint8), SHARP, points5, scaling(64 / side_px), (0, 0, 10, 12))


def candidate(name: str, vector: np.ndarray | None = None, **changes: object) -> Candidate:
    values = {"content": name, "face": face(), "vector": vector, "detail_px": 256.0, "pose": pose(FRONT)}
    return Candidate(name, **(values | changes))


class Network:
    """Knows people by the colour of their photo."""

    threshold = 0.45

    def __call__(self, views: list[np.ndarray], points5: list[np.ndarray]) -> np.ndarray:
        return np.stack([unit(view[0, 0].astype(float)) for view in views])


def finder(image: np.ndarray, aligned: str) -> FacesOfPhoto:
    """A face per column of the picture."""
    columns = range(image.shape[1])
    views = [np.broadcast_to(image[0, column], (VIEW_PX, VIEW_PX, 3)).astype(np.uint8) for column in columns]
    faces = [FoundFace(view[:64, :64], view, FRONT, np.eye(2, 3), (0, 0, 9, 9)) for view in views if view.max() > 5]
    return FacesOfPhoto(faces, False)


def photo(path: Path, *colours: tuple[int, int, int]) -> Path:
    write_image(np.array([colours], np.uint8), path)
    return path


RED, RED2, RED3, BLUE, BLACK = (200, 20, 10), (200, 60, 10), (200, 20, 60), (10, 20, 200), (0, 0, 0)


def test_the_majority_is_the_person_and_the_rest_is_named(tmp_path: Path) -> None:
    photos = [
        photo(tmp_path / "0.png", RED),
        photo(tmp_path / "1.png", RED2),
        photo(tmp_path / "stranger.png", BLUE),
        photo(tmp_path / "3.png", RED3),
        photo(tmp_path / "copy.png", RED),
        photo(tmp_path / "group.png", BLUE, RED2),
        photo(tmp_path / "others.png", BLUE, (10, 200, 10)),
        photo(tmp_path / "wall.png", BLACK),
        tmp_path / "gone.png",
    ]
    person = PhotoReader(finder, Network()).person("anna", photos)
    assert [Path(c.name).name for c in person.candidates] == ["0.png", "1.png", "3.png", "group.png"]
    refused = {Path(name).name: why for name, why in person.refused.items()}
    assert refused["stranger.png"].startswith("shows somebody else: similarity 0.")
    assert refused["copy.png"] == "a copy of another one"
    assert refused["others.png"].startswith("none of its 2 faces is the person (at most 0.")
    assert refused["wall.png"].startswith("no face found")
    assert refused["gone.png"].startswith("no such image file")
    np.testing.assert_allclose(person.mean, unit(*(unit(np.array(c, float)) for c in (RED, RED2, RED3))), atol=1e-12)


def test_without_a_network_everybody_in_the_folder_is_the_person(tmp_path: Path) -> None:
    photos = [photo(tmp_path / "0.png", RED), photo(tmp_path / "1.png", BLUE), photo(tmp_path / "2.png", RED, BLUE)]
    person = PhotoReader(finder, None).person("anna", photos)
    assert len(person.candidates) == 2
    assert list(person.refused.values()) == ["several faces: 2; crop it to one"]
    assert person.mean is None


def test_every_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = people.read, []
    monkeypatch.setattr(people, "read", lambda path: reads.append(path) or read(path))
    reader, path = PhotoReader(finder, Network()), photo(tmp_path / "0.png", RED)
    for _ in range(3):
        reader.person("anna", [path, tmp_path / "gone.png"])
    assert reads.count(path) == 1
    photo(path, RED, BLUE)  # changed
    reader.person("anna", [path])
    assert reads.count(path) == 2


def test_two_photos_that_disagree_are_decided_beside_the_face(tmp_path: Path) -> None:
    photos = [photo(tmp_path / "red.png", RED), photo(tmp_path / "blue.png", BLUE)]
    person = PhotoReader(finder, Network()).person("anna", photos)
    assert len(person.candidates) == 2
    assert person.mean is None
    vector = unit(np.array(RED, float))
    assert person.similarity(vector) == pytest.approx(1)
    chosen, reports = choose_references(person, pose(FRONT), vector, photo="", limit=4, threshold=0.45)
    assert [Path(c.name).name for c in chosen] == ["red.png"]
    (blue,) = (report for report in reports if not report.used)
    assert blue.reason.startswith("shows somebody else: similarity 0.11 to the face")


def match(vectors: list[np.ndarray], known: list[Person], **changes: object) -> list:
    options = {"threshold": 0.45, "photo": "", "strangers": "leave", "certain": False, "trust": False}
    faces = [face() for _ in vectors]
    return match_faces(faces, np.stack(vectors), known, **(options | changes))


def known(name: str, *vectors: np.ndarray) -> Person:
    return Person(name, [candidate(f"{name}{n}", v) for n, v in enumerate(vectors)], mean=unit(*vectors))


PEOPLE = [known("anna", ANNA), known("bert", BERT)]


def test_faces_are_matched_refused_and_left() -> None:
    doubtful, alike = unit(0.4 * ANNA, CARL), unit(ANNA, 0.95 * BERT)
    matches = match([ANNA, unit(BERT, 0.5 * CARL), CARL, doubtful, alike], PEOPLE)
    assert [m.person.name if m.person else None for m in matches] == ["anna", "bert", None, None, None]
    assert [m.action for m in matches] == ["with references"] * 2 + ["left"] * 3
    assert matches[2].reason == "somebody else: similarity 0.00 to anna, needed 0.45"
    assert matches[3].reason == "somebody else, or too blurred to tell: similarity 0.37 to anna, needed 0.45"
    assert matches[4].reason == "like anna (0.72) and bert (0.69) alike: doubtful"
    assert [m.action for m in match([CARL, ANNA], PEOPLE, strangers="blind")] == [
        "without references",
        "with references",
    ]


def test_the_wrong_person_as_the_only_reference() -> None:
    (warned,) = match([CARL], PEOPLE[:1], certain=True)
    assert (warned.action, warned.person) == ("without references", None)
    assert "similarity 0.00 to anna, needed 0.45; restored without them (--trust-references" in warned.warnings[0]
    (trusted,) = match([CARL], PEOPLE[:1], certain=True, trust=True)
    assert trusted.person.name == "anna"
    assert trusted.warnings == ["similarity 0.00 to the references, needed 0.45: used on your word"]
    assert [m.action for m in match([CARL, ANNA], PEOPLE[:1], certain=True)] == ["left", "with references"]


def test_a_face_too_blurred_to_be_recognised_is_the_persons_on_the_users_word() -> None:
    options = {"threshold": 0.45, "photo": "", "strangers": "leave", "trust": False}

    def matched(side: int, vector: np.ndarray, certain: bool = True, known: list[Person] = PEOPLE[:1]) -> Match:
        small = np.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(np.uint8)
        view = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
        (found,) = match_faces([replace(face(), view=view)], vector[None], known, certain=certain, **options)
        return found

    little = unit(0.15 * ANNA, CARL)
    blurred = matched(16, little)
    assert (blurred.action, blurred.person.name, blurred.on_word) == ("with references", "anna", True)
    assert blurred.warnings == [
        "similarity 0.15 to the references, needed 0.45: too blurred to be sure, used on your word"
    ]
    refused = matched(16, CARL)  # no likeness at all is not a matter of blur
    assert (refused.action, refused.person) == ("without references", None)
    assert "similarity 0.00 to anna, needed 0.45; restored without them (--trust-references" in refused.warnings[0]
    recognised = matched(16, ANNA)  # blurred or not, then it is the network that says so
    assert (recognised.action, recognised.on_word, recognised.warnings) == ("with references", False, [])
    assert matched(128, little).action == "without references"
    assert matched(16, little, certain=False, known=PEOPLE).action == "left"  # from --people nobody is believed


def test_without_a_network_one_face_is_the_persons_and_several_are_asked_about() -> None:
    options = {"threshold": 0.0, "photo": "", "strangers": "leave", "certain": True, "trust": False}
    (only,) = match_faces([face()], None, PEOPLE[:1], **options)
    assert (only.action, only.person.name, only.similarity) == ("with references", "anna", None)
    with pytest.raises(UserError, match=r"several faces.*found 2 \(0: 10x12 px at left 0, top 0, 1: .*--face largest"):
        match_faces([face(), face()], None, PEOPLE[:1], **options)
    assert [m.action for m in match_faces([face(), face()], None, [], **options)] == ["without references"] * 2


def test_a_photo_does_not_vouch_for_itself() -> None:
    person = known("anna", ANNA, unit(ANNA, BERT))
    assert person.similarity(ANNA) > 0.9
    assert person.similarity(ANNA, photo="anna0") == pytest.approx(np.sqrt(0.5))


def test_a_score_is_the_product_of_its_parts() -> None:
    assert score(candidate("best", agreement=1.0), pose(FRONT)) == pytest.approx(1)
    assert score(candidate("unknown"), pose(FRONT)) == pytest.approx(1)
    assert score(candidate("blurred", detail_px=64.0), pose(FRONT)) == pytest.approx(0.5)
    assert score(candidate("small", face=face(16)), pose(FRONT)) == pytest.approx(0.5)
    assert score(candidate("huge", face=face(6400)), pose(FRONT)) == pytest.approx(1)
    assert score(candidate("turned", pose=pose(FRONT) + np.array([0.3, 0])), pose(FRONT)) == pytest.approx(np.exp(-1))
    assert score(candidate("odd", agreement=0.6), pose(FRONT)) == pytest.approx(0.6)


def test_the_best_references_are_chosen_in_the_persons_order() -> None:
    candidates = [candidate(f"{n}", detail_px=d, vector=ANNA) for n, d in enumerate((64.0, 256.0, 32.0, 128.0, 200.0))]
    person = Person("anna", candidates, {"gone": "no such image file"}, mean=ANNA)
    chosen, reports = choose_references(person, pose(FRONT), ANNA, photo="4", limit=2, threshold=0.45)
    assert [c.name for c in chosen] == ["1", "3"]
    by_name = {report.name: report for report in reports}
    assert [by_name[name].used for name in ("0", "1", "2", "3", "4", "gone")] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert by_name["4"].reason == "the photo itself"
    assert by_name["gone"].reason == "no such image file"
    assert by_name["2"].reason.startswith("2 better; 64 px wide, detail 32/256, pose 0.00 away")


def test_pose_follows_the_nose() -> None:
    turned = FRONT.copy()
    between = np.linalg.norm(FRONT[1] - FRONT[0])
    turned[2, 0] += 0.4 * between
    np.testing.assert_allclose(pose(turned) - pose(FRONT), (0.4, 0), atol=1e-6)
    np.testing.assert_allclose(pose(3 * FRONT + 7), pose(FRONT), atol=1e-12)
    assert abs(pose(FRONT)[0]) < 0.05


def test_detail_falls_with_resolution_whatever_the_contrast() -> None:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(VIEW_PX), np.fft.fftfreq(VIEW_PX)))
    frequency[0, 0] = 1
    natural = np.fft.ifft2(np.fft.fft2(RNG.standard_normal((VIEW_PX, VIEW_PX))) / frequency**1.2).real  # as in photos
    natural = (natural - natural.min()) / np.ptp(natural) * 255
    image = np.repeat(natural.astype(np.uint8)[..., None], 3, axis=2)
    sides = []
    for side in (VIEW_PX, 64, 32):
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        sides.append(detail_px(cv2.resize(small, (VIEW_PX, VIEW_PX), interpolation=cv2.INTER_CUBIC)))
    assert sides[0] == VIEW_PX
    assert 64 < sides[1] < 160
    assert 32 < sides[2] < 80
    assert detail_px((image // 3 + 100).astype(np.uint8)) == VIEW_PX
    assert detail_px(np.full((VIEW_PX, VIEW_PX, 3), 7, np.uint8)) == VIEW_PX / 32
