from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from face_networks import write_reid
from helpers import pictures

from lit_restore.data.canonical_face import POINTS_68, densify
from lit_restore.errors import UserError
from lit_restore.faces import detect
from lit_restore.faces.alignment import ffhq_template, points_5_from_68, similarity, transform_points
from lit_restore.faces.crop import REID_CROP, crop_faces
from lit_restore.losses.identity import PATIENCE, IdentityConfig, IdentityLoss
from lit_restore.models.recognition import SmallRecognizer, load_recognizer

SIDE = 128
FACE = transform_points(densify(POINTS_68), similarity(points_5_from_68(POINTS_68), ffhq_template(SIDE)))


@pytest.fixture(scope="module")
def cropping(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that needs faces cut out of the picture."""
    return write_reid(tmp_path_factory.mktemp("weights") / "reid.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that takes whole pictures."""
    torch.manual_seed(0)
    network = SmallRecognizer(widths=(4, 8), embedding=16, size_px=32)
    network(pictures(0, 16, 3, 32, 32))
    network.save(tmp_path_factory.mktemp("small"))
    return str(tmp_path_factory.getbasetemp() / "small0")


def batch(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Restored, truth, landmarks shifted a little for every sample, and their mask."""
    coarse = pictures(seed, 2, count, 3, 16, 16)
    restored, hq = (F.interpolate(images, (SIDE, SIDE), mode="bilinear") for images in coarse)
    shifts = np.arange(count)[:, None, None] * (2.0, -1.0)
    landmarks = torch.from_numpy(FACE[None] + shifts).float()
    return restored, hq, landmarks, torch.ones(count, 1349, dtype=torch.bool)


def loss_of(network: str, **options) -> IdentityLoss:
    return IdentityLoss(IdentityConfig(weight=1.0, network=network, **options))


@torch.no_grad()
def test_one_minus_the_mean_cosine_of_the_cut_faces(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(3)
    network = load_recognizer(cropping).network
    points = points_5_from_68(landmarks[:, :68].double().numpy())
    vectors = [F.normalize(network(crop_faces(images, points, REID_CROP)), dim=1) for images in (restored, hq)]
    expected = 1 - (vectors[0] * vectors[1]).sum(1).mean()
    found = loss_of(cropping)(restored, hq, landmarks, mask)
    assert found.shape == ()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    assert found > 0.01


@torch.no_grad()
def test_whole_faces_need_no_points(whole: str) -> None:
    restored, hq, landmarks, mask = batch(3)
    network = load_recognizer(whole)
    expected = 1 - (network(restored) * network(hq)).sum(1).mean()
    assert loss_of(whole)(restored, hq, None, None).item() == pytest.approx(expected.item(), abs=1e-6)
    nowhere = loss_of(whole)(restored, hq, torch.zeros_like(landmarks), torch.zeros_like(mask))
    assert nowhere.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("kind", ["cropping", "whole"])
def test_the_truth_itself_costs_nothing_and_pulls_nowhere(kind: str, request: pytest.FixtureRequest) -> None:
    _, hq, landmarks, mask = batch(2)
    restored = hq.clone().requires_grad_()
    value = loss_of(request.getfixturevalue(kind))(restored, hq, landmarks, mask)
    assert value.item() == pytest.approx(0, abs=1e-6)
    value.backward()
    assert restored.grad.abs().max() < 1e-5


def test_samples_without_points_do_not_count(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(3)
    loss = loss_of(cropping)
    mask[1, 30] = False  # no nose tip
    restored.requires_grad_()
    value = loss(restored, hq, landmarks, mask)
    value.backward()
    keep = [0, 2]
    alone = loss(restored.detach()[keep], hq[keep], landmarks[keep], mask[keep])
    assert value.item() == pytest.approx(alone.item(), abs=1e-6)
    assert restored.grad[1].abs().max() == 0
    assert (restored.grad[keep].abs().amax((1, 2, 3)) > 0).all()


def test_no_face_is_a_loss_of_zero_without_gradient(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(2)
    value = loss_of(cropping)(restored.requires_grad_(), hq, landmarks, torch.zeros_like(mask))
    assert value.shape == ()
    assert value.item() == 0
    assert not value.requires_grad


def test_gradient_flows_into_the_restoration_only(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(2)
    restored.requires_grad_(), hq.requires_grad_(), landmarks.requires_grad_()
    loss = loss_of(cropping)
    value = loss(restored, hq, landmarks.detach(), mask)
    value.backward()
    assert hq.grad is None
    assert landmarks.grad is None
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())
    # Along its direction the loss changes by its length.
    length = restored.grad.norm()
    step = 0.02 / length * restored.grad
    with torch.no_grad():
        ahead, behind = (loss(restored + sign * step, hq, landmarks, mask) for sign in (1, -1))
    assert ((ahead - behind) / 0.04).item() == pytest.approx(length.item(), rel=0.02)


def test_following_the_gradient_makes_the_face_alike(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(1)
    loss = loss_of(cropping)
    restored.requires_grad_()
    optimizer = torch.optim.Adam([restored], 0.01)
    start = loss(restored, hq, landmarks, mask).item()
    for _ in range(15):
        optimizer.zero_grad()
        loss(restored, hq, landmarks, mask).backward()
        optimizer.step()
    assert loss(restored, hq, landmarks, mask).item() < 0.7 * start


def test_mixed_precision(cropping: str, whole: str) -> None:
    restored, hq, landmarks, mask = batch(2)
    for network in (cropping, whole):
        loss = loss_of(network)
        expected = loss(restored, hq, landmarks, mask)
        with torch.autocast("cpu", torch.bfloat16):
            image = restored.clone().requires_grad_()
            value = loss(image, hq, landmarks, mask)
        value.backward()
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected.item(), abs=0.02)
        assert torch.isfinite(image.grad).all()
        assert image.grad.abs().max() > 0


def test_the_same_value_whatever_was_drawn_before(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(2)
    loss = loss_of(cropping)
    first = loss(restored, hq, landmarks, mask)
    torch.manual_seed(77)
    torch.rand(5)
    assert torch.equal(loss(restored, hq, landmarks, mask), first)
    assert torch.equal(loss_of(cropping).train()(restored, hq, landmarks, mask), first)


@torch.no_grad()
def test_the_crop_goes_with_the_landmarks(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(1)
    loss = loss_of(cropping)
    moved = [F.pad(images, (9, 0, 5, 0)) for images in (restored, hq)]
    value = loss(*moved, landmarks + torch.tensor([9.0, 5.0]), mask)
    assert value.item() == pytest.approx(loss(restored, hq, landmarks, mask).item(), abs=1e-5)
    assert abs(loss(*moved, landmarks, mask).item() - value.item()) > 1e-4


@torch.no_grad()
def test_the_template_is_where_ffhq_has_its_faces(cropping: str) -> None:
    restored, hq, *_ = batch(2)
    network = load_recognizer(cropping)
    points = np.stack([ffhq_template(SIDE)] * 2)
    cosine = (network(crop_faces(restored, points, REID_CROP)) * network(crop_faces(hq, points, REID_CROP))).sum(1)
    value = loss_of(cropping, points="template")(restored, hq, None, None)
    assert value.item() == pytest.approx(1 - cosine.mean().item(), abs=1e-6)


def test_landmarks_must_be_there_where_they_are_asked_for(cropping: str) -> None:
    restored, hq, *_ = batch(1)
    with pytest.raises(UserError, match=r"no landmarks to cut faces.*set points to template or detect"):
        loss_of(cropping)(restored, hq, None, None)


def test_data_without_any_face_stops_the_training(cropping: str) -> None:
    restored, hq, landmarks, mask = batch(8)
    order = np.random.default_rng(0).permutation(1349)
    loss = loss_of(cropping)
    for _ in range(PATIENCE // 8 - 1):
        assert loss(restored, hq, landmarks[:, order], mask).item() == 0
    with pytest.raises(UserError, match=rf"found no face: the first {PATIENCE} photos.*first 68 are iBUG's"):
        loss(restored, hq, landmarks[:, order], mask)
    with_faces = loss_of(cropping)
    with_faces(restored, hq, landmarks, mask)
    for _ in range(PATIENCE // 8):  # faces that are hidden for once are no reason
        with_faces(restored, hq, landmarks, torch.zeros_like(mask))


def test_a_network_must_be_named_and_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a recognition network.*model.losses.identity.network"):
        IdentityLoss(IdentityConfig(weight=1.0))
    with pytest.raises(UserError, match="no usable recognition network: nowhere"):
        loss_of("nowhere")


def test_a_missing_detector_is_an_error_before_training(
    cropping: str, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    detect._load.cache_clear()
    with pytest.raises(UserError, match=r"weights of the face networks not found.*mobilenet0.25_Final.pth"):
        loss_of(cropping, points="detect")
    loss_of(whole, points="detect")  # looks at whole faces


def test_the_fingerprint_is_that_of_the_weights(cropping: str, tmp_path: Path) -> None:
    assert loss_of(cropping).fingerprint == load_recognizer(cropping).fingerprint
    assert loss_of(write_reid(tmp_path / "copy.safetensors")).fingerprint == loss_of(cropping).fingerprint
    assert loss_of(write_reid(tmp_path / "other.safetensors", seed=1)).fingerprint != loss_of(cropping).fingerprint
