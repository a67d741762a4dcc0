"""The freely licensed public recognition network on real photos; skipped where they are not at hand.

LIT_RESTORE_WEIGHTS=folder with face_reid_0095.safetensors and, for detection, the RetinaFace and 68-point files.
LIT_RESTORE_FACE_PHOTOS=folder with photos.json, aligned crops of 512 px and weights/expected.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lit_restore.faces import detect
from lit_restore.faces.alignment import ffhq_template
from lit_restore.faces.crop import REID_CROP, crop_faces
from lit_restore.faces.weights import locate
from lit_restore.image import read_rgb, to_tensor
from lit_restore.models.recognition import PUBLIC, Recognizer, load_recognizer

WEIGHTS = Path(os.environ.get("LIT_RESTORE_WEIGHTS") or "nowhere").resolve()
PHOTOS = Path(os.environ.get("LIT_RESTORE_FACE_PHOTOS", "")).resolve()
PATH = locate(PUBLIC["face_reid_0095"].file, WEIGHTS) if WEIGHTS.is_dir() else None

pytestmark = pytest.mark.skipif(
    PATH is None or "LIT_RESTORE_FACE_PHOTOS" not in os.environ,
    reason="LIT_RESTORE_WEIGHTS and LIT_RESTORE_FACE_PHOTOS name no folders with face_reid_0095.safetensors and photos",
)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return load_recognizer(str(PATH))


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads((PHOTOS / "photos.json").read_text())


@torch.no_grad()
def test_published_cosines(recognizer: Recognizer, facts: dict) -> None:
    figures = json.loads((PHOTOS / "weights" / "expected.json").read_text())["face_reid_0095"]
    top, bottom, left, right = figures["crop_yx_of_aligned512"]

    def vector(name: str) -> torch.Tensor:
        middle = read_rgb(PHOTOS / facts[name]["aligned512"])[top:bottom, left:right]
        return recognizer(to_tensor(cv2.resize(middle, (128, 128), interpolation=cv2.INTER_AREA))[None])[0]

    for one, other, cosine in figures["cosine"]:
        assert (vector(one) @ vector(other)).item() == pytest.approx(cosine, abs=1e-3)


@torch.no_grad()
def test_people_are_told_apart_by_our_crop(recognizer: Recognizer, facts: dict) -> None:
    people = [name.rsplit("/", 1)[0].split("/")[-1] for name in facts]
    images = [to_tensor(read_rgb(PHOTOS / photo["aligned512"]))[None] for photo in facts.values()]
    points = ffhq_template(512)[None]
    vectors = torch.cat([recognizer(crop_faces(image, points, REID_CROP)) for image in images])
    cosine = (vectors @ vectors.T).numpy()
    same = np.equal.outer(people, people)
    assert cosine[~same].max() < cosine[same].min()
    assert cosine[same & ~np.eye(len(people), dtype=bool)].mean() == pytest.approx(0.756, abs=0.02)


def test_identity_falls_with_blur_and_is_found_by_detection(
    recognizer: Recognizer, facts: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On enlarged copies, so that a fixed crop would not do."""
    detect._load.cache_clear()
    monkeypatch.setenv("LIT_RESTORE_WEIGHTS", str(WEIGHTS))
    names = ["photos/obama/2", "photos/chirac/1"]
    sharp = [read_rgb(PHOTOS / facts[name]["aligned512"]) for name in names]
    hq = torch.stack([to_tensor(image[60:480, 30:450]) for image in sharp])
    values = []
    for sigma in (0, 4, 12):
        blurred = [cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image for image in sharp]
        restored = torch.stack([to_tensor(image[60:480, 30:450]) for image in blurred]).requires_grad_()
        cosine, found = recognizer.compare(restored, hq, "detect")
        assert found.all()
        values.append(cosine.detach())
    torch.testing.assert_close(values[0], torch.ones(2), atol=1e-5, rtol=0)
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()
    assert (values[1] > 0.8).all()
    cosine.sum().backward()
    assert (restored.grad.abs().amax((1, 2, 3)) > 0).all()
    swapped, _ = recognizer.compare(hq.flip(0), hq, "detect")
    assert swapped.abs().max() < 0.3
