"""Metrics with public weights on real photos, against published or independently computed numbers.

LIT_RESTORE_WEIGHTS=folder with SqueezeNet, NIQE's parameters and the face networks; what is missing there is skipped.
LIT_RESTORE_FACE_PHOTOS=folder with weights/expected.json and aligned512/ that its numbers are about.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lit_restore.faces.weights import LANDMARKS68, LANDMARKS68_CONVERTED, RETINAFACE, locate
from lit_restore.image import read_rgb, to_tensor
from lit_restore.losses.perceptual import SQUEEZENET_FP16
from lit_restore.metrics.catalogue import MetricOptions, build_metrics
from lit_restore.metrics.niqe import Niqe, grey_levels
from lit_restore.metrics.weights import NIQE
from lit_restore.models.recognition import PUBLIC

# Resolved now: the tests run in folders of their own.
WEIGHTS = os.environ.get("LIT_RESTORE_WEIGHTS")
PHOTOS = Path(os.environ.get("LIT_RESTORE_FACE_PHOTOS") or "nowhere").resolve()


def at_hand(*files) -> bool:
    return WEIGHTS is not None and any(locate(file) for file in files)


needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="LIT_RESTORE_FACE_PHOTOS is not set")
needs_squeezenet = pytest.mark.skipif(not at_hand(SQUEEZENET_FP16), reason="no SqueezeNet in LIT_RESTORE_WEIGHTS")
needs_niqe = pytest.mark.skipif(not at_hand(NIQE), reason="no NIQE parameters in LIT_RESTORE_WEIGHTS")
needs_reid = pytest.mark.skipif(
    not at_hand(PUBLIC["face_reid_0095"].file), reason="no face_reid_0095 in LIT_RESTORE_WEIGHTS"
)
needs_landmarks = pytest.mark.skipif(
    not (at_hand(RETINAFACE) and at_hand(LANDMARKS68, LANDMARKS68_CONVERTED)),
    reason="no face networks in LIT_RESTORE_WEIGHTS",
)


def photo(name: str) -> np.ndarray:
    return read_rgb(PHOTOS / "aligned512" / f"{name}.jpg")


def expected() -> dict:
    return json.loads((PHOTOS / "weights" / "expected.json").read_text())


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.stack([to_tensor(image) for image in images])


@needs_squeezenet
@needs_photos
def test_lpips_of_squeezenet(make_batch) -> None:
    figures = expected()["squeezenet1_1_torchvision"]
    metric = build_metrics(["lpips_squeeze"])[0]["lpips_squeeze"]
    obama = photo("obama/2")
    restored, hq = batch(obama, obama, obama), batch(blurred(obama, 3), photo("chirac/1"), photo("obama/3"))
    values = metric(restored, make_batch(hq))["lpips_squeeze"].numbers
    assert values.tolist() == pytest.approx(list(figures["lpips_squeeze_v0.1"].values()), abs=figures["tolerance"])


# Grey picture and luma of video, by BasicSR 1.4.2 from the same file of parameters, on pictures of scikit-image.
BASICSR_NIQE = {
    "astronaut": (3.0610, 3.0649),
    "brick": (9.4796, 10.0010),
    "camera": (3.0962, 3.1552),
    "cat": (2.5721, 2.6255),
    "coffee": (4.0593, 4.1152),
    "coins": (3.6227, 3.6359),
    "moon": (9.1121, 8.5297),
}


@needs_niqe
@pytest.mark.parametrize("name", BASICSR_NIQE)
def test_niqe_equals_basicsr_s(name: str) -> None:
    image = getattr(pytest.importorskip("skimage.data"), name)()
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    for luma, published in zip(("grey", "video"), BASICSR_NIQE[name], strict=True):
        score = Niqe(locate(NIQE), luma).score(grey_levels(image.transpose(2, 0, 1) / 255, luma))
        # Its flat places are rounding errors; ours are zero.
        assert score == pytest.approx(published, abs=3e-3)


@needs_niqe
@needs_photos
def test_niqe_sees_blur_noise_and_compression(make_batch) -> None:
    metric = build_metrics(["niqe"])[0]["niqe"]
    for name in ("obama/2", "chirac/1", "rudd/1"):
        image = photo(name)
        noise = np.random.default_rng(0).normal(0, 20, image.shape)
        noisy = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
        jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)
        images = batch(image, blurred(image, 3), noisy, jpeg)
        clean, *worse = metric(images, make_batch(images))["niqe"].numbers.tolist()
        assert 3 < clean < 5
        assert min(worse) > clean + 3


@needs_reid
@needs_photos
def test_identity_of_real_people(make_batch) -> None:
    figures = expected()["face_reid_0095"]
    pairs = [[name.removeprefix("photos/") for name in pair[:2]] for pair in figures["cosine"]]
    restored, hq = batch(*(photo(one) for one, _ in pairs)), batch(*(photo(other) for _, other in pairs))
    metric = build_metrics(["id_reid0095"], MetricOptions(points="template"))[0]["id_reid0095"]
    values = metric(restored, make_batch(hq, references=restored[:, None]))
    cosines = [pair[2] for pair in figures["cosine"]]
    # From the same window, but shrunk by averaging; the crop of all networks samples single pixels.
    assert values["id_reid0095_gt"].numbers.tolist() == pytest.approx(cosines, abs=figures["tolerance"])
    assert values["id_reid0095_ref"].numbers.tolist() == pytest.approx([1] * len(pairs))
    assert values["id_reid0095_ref_gt"].numbers.tolist() == pytest.approx(
        values["id_reid0095_gt"].numbers.tolist(), abs=1e-6
    )
    degrees = np.degrees(np.arccos(values["id_reid0095_gt"].numbers.numpy()))
    assert values["id_reid0095_angle"].numbers.tolist() == pytest.approx(degrees.tolist())


@needs_landmarks
@needs_photos
def test_landmarks_of_real_faces(make_batch) -> None:
    metric = build_metrics(["landmarks"])[0]["landmarks"]
    face, grey = photo("obama/2"), np.full((512, 512, 3), 128, np.uint8)
    shifted = np.roll(face, (3, 4), axis=(0, 1))
    restored, hq = batch(face, blurred(face, 3), shifted, grey, face), batch(face, face, face, face, grey)
    values = metric(restored, make_batch(hq))
    for column in values.values():
        assert column.numbers[0] == 0
        assert column.numbers[1] < 2.5
        assert column.numbers[2].item() == pytest.approx(5, abs=1)
        assert column.failures == {3: "no face found in the restoration", 4: "no face found in the truth"}


@needs_landmarks
@needs_photos
def test_detected_and_ready_made_points_agree(make_batch) -> None:
    face = photo("obama/2")
    degraded = batch(blurred(face, 2))
    errors = {
        points: build_metrics(["regions"], MetricOptions(points=points))[0]["regions"](
            degraded, make_batch(batch(face))
        )
        for points in ("detect", "template")
    }
    for name in ("error_eyes", "error_mouth", "error_rest"):
        found, ready = (errors[points][name].numbers.item() for points in ("detect", "template"))
        assert found == pytest.approx(ready, rel=0.15)


@needs_reid
@needs_photos
def test_distance_of_sets_grows_with_the_degradation(make_batch) -> None:
    faces = sorted((PHOTOS / "aligned512").glob("*/*.jpg"))
    hq = batch(*(read_rgb(path) for path in faces))
    distances = []
    for sigma in (2, 6, 12):
        metric = build_metrics(["fid_reid0095"], MetricOptions(points="template"))[1]["fid_reid0095"]
        metric.update(batch(*(blurred(read_rgb(path), sigma) for path in faces)), make_batch(hq))
        distances.append(metric.compute())
    for column in ("fid_reid0095", "kid_reid0095"):
        values = [distance[column] for distance in distances]
        assert values == sorted(values)
