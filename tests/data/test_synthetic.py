"""Synthetic people: the same everywhere, landmarks where the paint is, details that only references reveal."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from lit_restore.data.canonical_face import NUM_DENSE, POINTS_68, densify
from lit_restore.data.synthetic import contact_sheet, person, render_details, render_face
from lit_restore.data.synthetic.camera import cast_rays, head_window
from lit_restore.data.synthetic.features import feature_points
from lit_restore.data.synthetic.geometry import lift, surface
from lit_restore.data.synthetic.hair_styles import HAIR_STYLES
from lit_restore.data.synthetic.nuisance import nuisance
from lit_restore.data.synthetic.render import VISIBILITY_PX, _shoot
from lit_restore.data.synthetic.sphere import AXES, CENTRE, EXTENT, frontal, stereographic_of, unsphere


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


# --- the same everywhere ----------------------------------------------------------------------------------------


def test_a_photo_depends_on_its_numbers_only() -> None:
    first = render_face(3, 4, 5, 64)
    np.random.seed(0)  # noqa: NPY002 (the point: the global state must not matter)
    render_face(3, 9, 0, 64)
    second = render_face(3, 4, 5, 64)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    np.testing.assert_array_equal(first.visible, second.visible)
    for other in (render_face(4, 4, 5, 64), render_face(3, 5, 5, 64), render_face(3, 4, 6, 64)):
        assert np.abs(first.image.astype(int) - other.image).mean() > 5


def test_another_process_renders_the_same_and_needs_no_torch() -> None:
    code = (
        "import sys, hashlib, cv2; cv2.setNumThreads(1);"
        "from lit_restore.data.synthetic import render_face;"
        "face = render_face(0, 7, 1, 64);"
        "print(hashlib.sha256(face.image.tobytes() + face.landmarks.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()}
    runs |= {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()}
    assert len(runs) == 1
    assert runs.pop().endswith("False")


# 4 x 4 block means of luma at 64 px: networks are trained on this look, so a change of it must be deliberate.
FINGERPRINTS = {
    (0, 1): (107.2, 106.0, 97.8, 98.7, 104.6, 178.9, 146.7, 85.7, 97.8, 157.3, 118.9, 81.6, 89.4, 121.9, 91.3, 80.0),
    (3, 0): (121.9, 36.7, 49.1, 119.0, 126.8, 91.1, 113.6, 122.1, 150.8, 92.1, 118.4, 150.2, 170.2, 99.1, 84.4, 187.3),
    (7, 2): (172.4, 43.8, 75.3, 194.4, 119.2, 108.9, 125.7, 185.3, 85.7, 90.8, 121.8, 159.9, 136.7, 79.3, 116.4, 182.9),
    (20, 3): (
        137.0,
        61.9,
        86.2,
        162.3,
        117.2,
        167.1,
        165.5,
        157.1,
        147.2,
        180.1,
        164.3,
        167.4,
        138.2,
        148.0,
        150.1,
        143.0,
    ),
    (24, 2): (89.5, 37.6, 68.8, 107.3, 85.9, 115.1, 155.8, 100.1, 96.0, 82.2, 132.9, 95.6, 108.0, 58.9, 96.3, 96.3),
    (66, 0): (
        165.2,
        181.5,
        188.6,
        159.0,
        160.0,
        171.0,
        176.5,
        158.6,
        151.8,
        153.3,
        166.1,
        149.0,
        154.5,
        136.7,
        134.2,
        148.4,
    ),
    (145, 0): (
        210.8,
        124.6,
        118.7,
        201.7,
        184.3,
        153.3,
        142.6,
        182.4,
        168.1,
        136.9,
        117.1,
        178.0,
        153.2,
        119.3,
        108.6,
        171.6,
    ),
    (31, 1): (200.2, 83.2, 54.5, 172.8, 178.8, 68.2, 130.1, 122.0, 151.0, 57.8, 132.1, 79.0, 120.1, 41.2, 93.5, 48.1),
}


@pytest.mark.parametrize(("identity", "image"), list(FINGERPRINTS))
def test_the_look_stays_what_networks_were_trained_on(identity: int, image: int) -> None:
    luma = render_face(0, identity, image, 64).image @ np.array([0.299, 0.587, 0.114])
    blocks = luma.reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(blocks, FINGERPRINTS[identity, image], atol=1.0)


@pytest.mark.parametrize(("identity", "image"), [(0, 2), (7, 2), (20, 2)])
def test_size_changes_the_resolution_and_nothing_else(identity: int, image: int) -> None:
    large = render_face(0, identity, image, 256)
    for size_px in (64, 96, 128):
        small = render_face(0, identity, image, size_px)
        assert small.image.shape == (size_px, size_px, 3)
        assert small.image.dtype == np.uint8
        expected = (large.landmarks + 0.5) * size_px / 256 - 0.5
        np.testing.assert_allclose(small.landmarks, expected, atol=1e-3)
        np.testing.assert_array_equal(small.visible, large.visible)
        shrunk = cv2.resize(large.image, (size_px, size_px), interpolation=cv2.INTER_AREA)
        error = np.square(shrunk.astype(float) - small.image).mean()
        assert 10 * np.log10(255**2 / error) > 28


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        person(0, -1)


# --- landmarks --------------------------------------------------------------------------------------------------


def test_frontal_positions_and_stereographic_coordinates_are_inverse() -> None:
    who = person(0, 3)
    inner = POINTS_68 * 0.9
    x, y = frontal(who.head, unsphere(stereographic_of(who.head, inner)))
    np.testing.assert_allclose(np.stack([x, y], -1), inner, atol=1e-5)


def test_projection_is_the_orthographic_camera() -> None:
    """Landmarks equal an independent projection of the undisplaced ellipsoid plus the displacement."""
    shot = _shoot(0, 5, 0, 128)
    pose = nuisance(0, 5, 0).pose
    yaw, pitch, roll = np.radians([pose.yaw, pose.pitch, pose.roll])
    points = lift(shot.displacement, shot.pq)
    x = points[:, 0] * np.cos(yaw) + points[:, 2] * np.sin(yaw)
    z = -points[:, 0] * np.sin(yaw) + points[:, 2] * np.cos(yaw)
    y = points[:, 1] * np.cos(pitch) - z * np.sin(pitch)
    turned = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], -1)
    landmarks = render_face(0, 5, 0, 128).landmarks[:68]
    np.testing.assert_allclose(landmarks, turned * shot.scene.view.scale + shot.scene.view.origin, atol=1e-3)
    assert CENTRE[1] == pytest.approx(-0.62)
    assert AXES[0] == 1.0


@pytest.mark.parametrize("image", range(4))
def test_pixels_show_the_surface_point_of_their_landmark(image: int) -> None:
    """What a pixel sees, found by intersecting its ray, against where the landmark was projected to."""
    shot = _shoot(0, 11, image, 256)
    face = render_face(0, 11, image, 256)
    map_x, map_y, _ = cast_rays(shot.displacement, shot.scene.view, (slice(0, 256), slice(0, 256)))
    at = face.landmarks[face.visible]
    sampled = [cv2.remap(m, at[None, :, 0], at[None, :, 1], cv2.INTER_LINEAR)[0] for m in (map_x, map_y)]
    pq = (np.stack(sampled, -1) + 0.5) * (2 * EXTENT / 256) - EXTENT
    seen = shot.scene.view.project(lift(shot.displacement, pq))[:, :2]
    wanted = densify(shot.pq)[face.visible]
    assert np.percentile(np.linalg.norm(seen - at, axis=1), 95) < 0.5  # pixels
    assert np.median(np.linalg.norm(pq - wanted, axis=1)) < 0.005  # face units


@pytest.mark.parametrize("size_px", [64, 128, 200])
def test_the_head_lies_in_its_window(size_px: int) -> None:
    """Casting rays only there leaves nothing out and changes nothing but rounding."""
    for identity in range(25):
        shot = _shoot(6, identity, identity % 3, size_px)
        rows, columns = window = head_window(shot.displacement, shot.scene.view, size_px)
        whole = cast_rays(shot.displacement, shot.scene.view, (slice(0, size_px), slice(0, size_px)))
        for part, full in zip(cast_rays(shot.displacement, shot.scene.view, window), whole, strict=True):
            np.testing.assert_allclose(part, full[rows, columns], atol=1e-3)
        coverage = whole[2].copy()
        coverage[rows, columns] = 0
        assert not coverage.any()


def test_landmarks_are_dense_finite_and_mostly_visible() -> None:
    shares = []
    for image in range(12):
        face = render_face(1, image, image, 64)
        assert face.landmarks.shape == (NUM_DENSE, 2)
        assert face.landmarks.dtype == np.float32
        assert face.visible.shape == (NUM_DENSE,)
        assert face.visible.dtype == bool
        assert np.isfinite(face.landmarks).all()
        inside = np.all((face.landmarks > -0.5) & (face.landmarks < 63.5), axis=1)
        assert not np.any(face.visible & ~inside)
        shares.append(face.visible.mean())
    assert min(shares) > 0.6
    assert np.mean(shares) > 0.9


def test_turning_the_head_hides_the_far_side() -> None:
    turned = [(i, k) for i in range(12) for k in range(6) if abs(nuisance(0, i, k).pose.yaw) > 28]
    assert len(turned) >= 3
    for identity, image in turned:
        face, yaw = render_face(0, identity, image, VISIBILITY_PX), nuisance(0, identity, image).pose.yaw
        left, right = POINTS_68[:, 0] < -0.6, POINTS_68[:, 0] > 0.6
        far, near = (right, left) if yaw > 0 else (left, right)
        assert face.visible[:68][near].mean() > 0.95
        assert face.visible[:68][far].mean() < 0.9


def test_photos_are_aligned_as_ffhq_aligns() -> None:
    """The crop's centre and side follow from eyes and mouth by FFHQ's rule, up to the recorded residual."""
    centres = []
    for identity in range(10):
        landmarks, pose = render_face(2, identity, 0, 128).landmarks, nuisance(2, identity, 0).pose
        eyes = np.stack([landmarks[36:42].mean(0), landmarks[42:48].mean(0)])
        to_mouth = landmarks[[48, 54]].mean(0) - eyes.mean(0)
        half = max(2.0 * np.linalg.norm(eyes[1] - eyes[0]), 1.8 * np.linalg.norm(to_mouth))
        assert 2 * half / 128 == pytest.approx(pose.scale, abs=1e-3)
        centre = (eyes.mean(0) + 0.1 * to_mouth + 0.5) / 128 - 0.5
        np.testing.assert_allclose(centre, pose.shift, atol=1e-3)
        centres.append(np.concatenate([eyes.mean(0), landmarks[[48, 54]].mean(0)]) / 128)
    eye_x, eye_y, mouth_x, mouth_y = np.mean(centres, axis=0)
    assert (eye_x, mouth_x) == (pytest.approx(0.5, abs=0.04), pytest.approx(0.5, abs=0.04))
    assert (eye_y, mouth_y) == (pytest.approx(0.468, abs=0.03), pytest.approx(0.725, abs=0.04))


def test_expression_moves_the_semantic_points() -> None:
    who, relaxed = person(0, 0), nuisance(0, 0, 0).expression
    relaxed = dataclasses.replace(relaxed, smile=0.0, mouth_open=0.0, eyes_open=1.0, brow_raise=0.0)
    points = feature_points(who, relaxed)
    opened = feature_points(who, dataclasses.replace(relaxed, mouth_open=1.0))
    closed = feature_points(who, dataclasses.replace(relaxed, eyes_open=0.0))
    raised = feature_points(who, dataclasses.replace(relaxed, brow_raise=0.9))
    np.testing.assert_allclose(points[[61, 62, 63]], points[[67, 66, 65]], atol=1e-9)  # lips meet
    assert opened[66, 1] - opened[62, 1] > 0.08
    np.testing.assert_allclose(closed[[37, 38]], closed[[41, 40]], atol=1e-9)  # lids meet
    assert np.all(raised[17:27, 1] < points[17:27, 1] - 0.03)
    np.testing.assert_array_equal(opened[:17], points[:17])
    # the chin is moved by the surface instead
    chin = stereographic_of(who.head, points[8:9])
    head = surface(who)
    drop = lift(head.posed(dataclasses.replace(relaxed, mouth_open=1.0)), chin) - lift(head.posed(relaxed), chin)
    assert drop[0, 1] == pytest.approx(0.17, abs=0.01)


# --- identity and details ---------------------------------------------------------------------------------------


def test_people_are_plain_data() -> None:
    who = person(0, 2)
    assert json.loads(json.dumps(dataclasses.asdict(who)))["details"]["moles"][0]["radius"] >= 0.04
    assert who == person(0, 2)
    assert who != person(0, 3)


def test_people_are_varied_and_every_person_has_marks() -> None:
    people = [person(9, identity) for identity in range(300)]
    assert {p.hair.style for p in people} == set(HAIR_STYLES)
    assert {p.beard.style for p in people} == {"none", "stubble", "moustache", "goatee", "short", "full"}
    assert len({p.glasses.style for p in people}) == 6
    luma = np.array([np.dot(p.skin, [0.299, 0.587, 0.114]) for p in people])
    assert luma.min() < 0.28
    assert luma.max() > 0.78
    assert np.abs(np.histogram(luma, bins=4, range=(0.23, 0.82))[0] / 300 - 0.25).max() < 0.15
    for p in people:
        assert 1 <= len(p.details.moles) <= 4
        assert all(0.04 <= mole.radius <= 0.075 for mole in p.details.moles)  # 2 to 3.75 % of the face's width
        places = np.array([(m.x, m.y) for m in p.details.moles])
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(len(places))
        assert gaps.min() > 0.25
        assert not (p.hair.shape.covers_ears and p.details.earring != "none")


def test_poses_cover_the_stated_range() -> None:
    poses = [nuisance(0, i, k).pose for i in range(60) for k in range(5)]
    yaw, pitch, roll = (np.array([getattr(p, axis) for p in poses]) for axis in ("yaw", "pitch", "roll"))
    assert 30 < np.abs(yaw).max() <= 36
    assert np.abs(pitch).max() <= 15
    assert np.abs(roll).max() <= 10
    assert 13 < yaw.std() < 19
    assert abs(yaw.mean()) < 3


def test_details_are_where_the_marks_are() -> None:
    hits, total = 0, 0
    for identity in range(12):
        shot, details = _shoot(0, identity, 0, 128), render_details(0, identity, 0, 128)
        assert details.shape == (128, 128)
        assert details.dtype == bool
        assert 0.001 < details.mean() < 0.06
        head = person(0, identity).head
        moles = np.array([(m.x, m.y) for m in person(0, identity).details.moles])
        placed = shot.scene.view.project(lift(shot.displacement, stereographic_of(head, moles)))
        outline = render_face(0, identity, 0, 128).landmarks[:17]
        for x, y, _ in placed[(placed[:, 2] > 0.2)]:  # not on the far side of the head
            if outline[:, 0].min() + 8 < x < outline[:, 0].max() - 8:
                hits, total = hits + int(details[round(y), round(x)]), total + 1
    assert total > 12
    assert hits / total > 0.9


def test_identity_shows_in_local_detail_at_the_landmarks() -> None:
    """Without any learning: skin around each landmark, freed of light and tone, tells people apart."""
    canonical = densify(POINTS_68)
    near = np.exp(-0.5 * np.square(np.linalg.norm(canonical[:, None] - canonical[None], axis=-1) / 0.12))
    people = np.repeat(np.arange(16), 4)
    features = []
    for index, identity in enumerate(people):
        face = render_face(5, int(identity), index % 4, 128)
        column, row = np.clip(np.rint(face.landmarks), 0, 127).astype(int).T
        tone, known = np.log(face.image[row, column] + 8.0), face.visible[:, None].astype(float)
        local = np.clip(tone - near @ (tone * known) / (near @ known + 1e-6), -0.7, 0.7) * known
        features.append(local.ravel())
    centred = np.array(features) - np.mean(features, axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    upper = np.triu_indices(len(people), 1)
    same, similarity = (people[:, None] == people[None])[upper], (centred @ centred.T)[upper]
    auc = (similarity[same][:, None] > similarity[~same][None]).mean()
    assert auc > 0.85


def test_contact_sheet_has_people_in_rows() -> None:
    sheet = contact_sheet(0, [3, 8], [0, 1, 2], 64)
    assert sheet.shape == (128, 192, 3)
    np.testing.assert_array_equal(sheet[64:, 128:], render_face(0, 8, 2, 64).image)
