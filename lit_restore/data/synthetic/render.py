"""A photo of a synthetic person, with exact landmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from lit_restore.data.canonical_face import densify
from lit_restore.data.synthetic.accessories import (
    ear_in_front,
    has_ears,
    paint_ear,
    paint_earring,
    paint_glasses,
)
from lit_restore.data.synthetic.backdrop import (
    Scene,
    background,
    blend,
    hair_behind,
    hair_outline,
    neck_and_clothes,
)
from lit_restore.data.synthetic.camera import View, Window, aligned_view, cast_rays, head_window
from lit_restore.data.synthetic.develop import develop, metered
from lit_restore.data.synthetic.features import feature_points
from lit_restore.data.synthetic.geometry import GRID_PX, Surface, lift, surface
from lit_restore.data.synthetic.identity import person
from lit_restore.data.synthetic.nuisance import nuisance
from lit_restore.data.synthetic.shade import head_colour
from lit_restore.data.synthetic.skin import without_details
from lit_restore.data.synthetic.sphere import EXTENT, stereographic_of

DETAIL_THRESHOLD = 6
"""A pixel belongs to the details when they change some channel by at least this much of 255."""
VISIBILITY_PX = 128
"""Visibility of landmarks is decided at this resolution, so that it is the same for every image size."""


@dataclass(frozen=True)
class SyntheticFace:
    image: np.ndarray
    """(S, S, 3) uint8 RGB"""
    landmarks: np.ndarray
    """(1349, 2) float32 x, y in pixels, pixel centres at integers; order of `canonical_face`."""
    visible: np.ndarray
    """(1349,) bool: inside the image and not hidden by the head itself."""


def render_face(seed: int, identity: int, image: int, size_px: int) -> SyntheticFace:
    """Photo number ``image`` of person ``identity`` of population ``seed``: a pure function of its arguments.

    All numbers are at least 0. The same photo at another size is the same scene.
    """
    shot = _shoot(seed, identity, image, size_px)
    points = lift(shot.displacement, densify(shot.pq))
    seen = _look(shot.displacement, shot.scene.view, size_px)
    return SyntheticFace(
        image=_picture(shot.scene, shot.surface, seen),
        landmarks=shot.scene.view.project(points)[:, :2].astype(np.float32),
        visible=_visible(points, shot, seen),
    )


def render_details(seed: int, identity: int, image: int, size_px: int) -> np.ndarray:
    """(S, S) bool: the pixels of `render_face` that moles, freckles, scars, birthmarks, iris and ear rings change."""
    shot = _shoot(seed, identity, image, size_px)
    seen = _look(shot.displacement, shot.scene.view, size_px)
    plain = replace(shot.scene, who=without_details(shot.scene.who))
    pictures = (_picture(scene, shot.surface, seen) for scene in (shot.scene, plain))
    return cv2.absdiff(*pictures).max(-1) >= DETAIL_THRESHOLD


@dataclass(frozen=True)
class Seen:
    """What the pixels of the window that holds the head see of it: see `cast_rays`."""

    window: Window
    map_x: np.ndarray
    map_y: np.ndarray
    coverage: np.ndarray


@dataclass(frozen=True)
class _Shot:
    """A person before the camera."""

    scene: Scene
    surface: Surface
    displacement: np.ndarray
    """(G, G, 3): the surface with this moment's expression."""
    pq: np.ndarray
    """(68, 2): where the semantic points lie on it."""


def _shoot(seed: int, identity: int, image: int, size_px: int) -> _Shot:
    who, around = person(seed, identity), nuisance(seed, identity, image)
    head = surface(who)
    displacement = head.posed(around.expression)
    pq = stereographic_of(who.head, feature_points(who, around.expression))
    points = lift(displacement, pq)
    eyes = np.stack([points[36:42].mean(0), points[42:48].mean(0)])
    view = aligned_view(around.pose, eyes, points[[48, 54]].mean(0), size_px)
    return _Shot(Scene(who, around, view, size_px), head, displacement, pq)


def _look(displacement: np.ndarray, view: View, size_px: int) -> Seen:
    window = head_window(displacement, view, size_px)
    return Seen(window, *cast_rays(displacement, view, window))


# --- landmarks --------------------------------------------------------------------------------------------------


def _visible(points: np.ndarray, shot: _Shot, seen: Seen) -> np.ndarray:
    """Whether the surface seen at each landmark's pixel is not clearly nearer to the camera than the landmark.

    Args:
        points: (1349, 3) head frame.
        seen: at the picture's size.
    """
    view = shot.scene.view.resized(shot.scene.size_px, VISIBILITY_PX)
    if shot.scene.size_px != VISIBILITY_PX:
        seen = _look(shot.displacement, view, VISIBILITY_PX)
    placed = view.project(points)
    inside = np.all((placed[:, :2] >= -0.5) & (placed[:, :2] < VISIBILITY_PX - 0.5), axis=1)
    first_row, first_column = (s.start for s in seen.window)
    last_row, last_column = (n - 1 for n in seen.coverage.shape)
    column, row = np.rint(placed[:, :2]).astype(int).T
    column, row = np.clip(column - first_column, 0, last_column), np.clip(row - first_row, 0, last_row)
    at = np.stack([seen.map_x[row, column], seen.map_y[row, column]], axis=-1)
    front = view.project(lift(shot.displacement, ((at + 0.5) * (2 / GRID_PX) - 1) * np.float32(EXTENT)))
    nearer = front[:, 2] - placed[:, 2]
    # within its pixel a surface seen at a slant changes depth by a few pixels' worth
    return inside & (nearer < 0.05 + 2.0 / view.scale) & (seen.coverage[row, column] > 0)


# --- picture ----------------------------------------------------------------------------------------------------


def _picture(scene: Scene, head: Surface, seen: Seen) -> np.ndarray:
    """(S, S, 3) uint8 sRGB, layer upon layer from the back."""
    image = background(scene)
    hair_outline(scene, image)
    neck = neck_and_clothes(scene, image)
    hair_behind(scene, image, neck)
    sides = (-1, 1) if has_ears(scene.who) else ()
    _ears(scene, image, [side for side in sides if not ear_in_front(scene, side)])
    blend(image[seen.window], seen.coverage, head_colour(scene, head, seen.map_x, seen.map_y))
    _ears(scene, image, [side for side in sides if ear_in_front(scene, side)])
    paint_glasses(scene, image)
    return develop(image, scene.around.camera, metered(scene.who))


def _ears(scene: Scene, image: np.ndarray, sides: list[int]) -> None:
    for side in sides:
        paint_ear(scene, image, side)
        paint_earring(scene, image, side)
