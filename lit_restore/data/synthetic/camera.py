"""The view of a photo: where each surface point falls, and which surface point each pixel sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import clamp
from lit_restore.data.synthetic.nuisance import Pose
from lit_restore.data.synthetic.sphere import AXES, CENTRE, EXTENT, sphere_grid

NUM_ITERATIONS = 6
RELAXATION = 0.6
"""Damped fixed-point steps; converges where the relief is up to 2.3 times steeper than the viewing ray."""


@dataclass(frozen=True, eq=False)
class View:
    """Orthographic camera: pixel = scale * (rotation @ point)[:2] + origin, pixel centres at integers.

    Compared and hashed by identity.
    """

    rotation: np.ndarray
    """(3, 3): head frame to camera frame (x right, y down, z towards the camera)."""
    scale: float
    """Pixels per face unit."""
    origin: np.ndarray
    """(2,) pixel of the head frame's origin."""

    def project(self, points: np.ndarray) -> np.ndarray:
        """Head-frame points (..., 3) to (..., 3): x and y in pixels, depth towards the camera in face units."""
        camera = points @ self.rotation.T
        camera[..., :2] = camera[..., :2] * self.scale + self.origin
        return camera

    def resized(self, size_px: int, new_size_px: int) -> View:
        """The same view on an image of another size."""
        factor = new_size_px / size_px
        return View(self.rotation, self.scale * factor, (self.origin + 0.5) * factor - 0.5)


def rotation_of(pose: Pose) -> np.ndarray:
    yaw, pitch, roll = np.radians([pose.yaw, pose.pitch, pose.roll])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return tilt @ nod @ turn


def aligned_view(pose: Pose, eyes: np.ndarray, mouth: np.ndarray, size_px: int) -> View:
    """The view in which FFHQ's alignment rule would have cropped this head, up to the pose's residual errors.

    FFHQ crops a square of side 2 max(2 eye distance, 1.8 eye-mouth distance) around the point one tenth of the way
    from the eyes to the mouth.

    Args:
        eyes: (2, 3) centres of the eyes, head frame.
        mouth: (3,) centre of the mouth.
    """
    rotation = rotation_of(pose)
    seen_eyes, seen_mouth = (eyes @ rotation.T)[:, :2], (rotation @ mouth)[:2]
    to_mouth = seen_mouth - seen_eyes.mean(0)
    half = max(2.0 * np.linalg.norm(seen_eyes[1] - seen_eyes[0]), 1.8 * np.linalg.norm(to_mouth))
    centre = seen_eyes.mean(0) + 0.1 * to_mouth
    scale = size_px * pose.scale / (2 * half)
    middle = size_px * (0.5 + np.array(pose.shift)) - 0.5
    return View(rotation, float(scale), middle - scale * centre)


@lru_cache(maxsize=8)
def pixel_rays(view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Viewing rays in the space where the ellipsoid is the unit sphere.

    Returns:
        basis (3, 3): rows e1, e2 span the image plane there, row 3 points to the camera;
        step (2, 2): change of (e1, e2) coordinates per pixel in x and per pixel in y;
        start (2,): coordinates of pixel (0, 0).
    """
    towards = view.rotation[2] / AXES
    towards = towards / np.linalg.norm(towards)
    right = view.rotation[0] / AXES
    e1 = right - towards * (right @ towards)
    e1 = e1 / np.linalg.norm(e1)
    e2 = np.cross(towards, e1)
    basis = np.stack([e1, e2, towards])
    step = (view.rotation[:2] / AXES / view.scale) @ basis[:2].T
    origin = -(view.rotation.T @ np.append(view.origin / view.scale, 0.0)) - CENTRE
    return basis, step, basis[:2] @ (origin / AXES)


Window = tuple[slice, slice]
"""Rows and columns of an image."""


def head_window(displacement: np.ndarray, view: View, size_px: int) -> Window:
    """The part of the image outside which `cast_rays` finds the head nowhere; one pixel at least.

    The points of a coarse grid bound the head up to what lies between them: 0.05 face units are allowed for that.
    """
    normals, every = sphere_grid(displacement.shape[0]).normal, slice(None, None, 8)
    points = CENTRE + AXES * (normals[every, every] + displacement[every, every])
    pixels = view.project(points.reshape(-1, 3))[:, :2]
    margin = 0.05 * view.scale + 2
    left, top = np.clip(np.floor(pixels.min(0) - margin), 0, size_px - 1).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(0) + margin) + 1, 1, size_px).astype(int)
    return slice(top, bottom), slice(left, right)


def cast_rays(displacement: np.ndarray, view: View, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which point of the displaced head each pixel of a window sees.

    Args:
        displacement: (G, G, 3) of `geometry.Surface`.

    Returns:
        map_x, map_y (H, W) float32: grid indices in a grid of G cells; coverage (H, W): 1 on the head, 0 beside it.
        Beside the head the maps give the nearest point of its outline.
    """
    basis, step, start = (a.astype(np.float32) for a in pixel_rays(view))
    # OpenCV turns three channels and samples four faster than the two that are needed
    in_plane = cv2.cvtColor(cv2.transform(displacement, basis), cv2.COLOR_BGR2BGRA)
    rows, columns = (np.arange(s.start, s.stop, dtype=np.float32) for s in window)
    target_1, target_2 = (start[k] + step[0, k] * columns[None, :] + step[1, k] * rows[:, None] for k in (0, 1))
    shift = np.zeros((*target_1.shape, 4), dtype=np.float32)
    for iteration in range(NUM_ITERATIONS + 1):
        w1, w2 = target_1 - shift[..., 0], target_2 - shift[..., 1]
        radius = cv2.magnitude(w1, w2)
        map_x, map_y = _grid_indices(w1, w2, radius, basis, displacement.shape[0])
        if iteration == NUM_ITERATIONS:
            break
        there = cv2.remap(in_plane, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = 1.0 if iteration == 0 else RELAXATION
        shift = cv2.addWeighted(there, weight, shift, 1 - weight, 0)
    # radius grows by this much per pixel, so this is the distance to the outline in pixels
    per_x, per_y = w1 * step[0, 0] + w2 * step[0, 1], w1 * step[1, 0] + w2 * step[1, 1]
    slope = np.sqrt(per_x * per_x + per_y * per_y) / np.maximum(radius, 1e-6)
    return map_x, map_y, clamp((1 - radius) / np.maximum(slope, 1e-6) + 0.5)


def _grid_indices(
    w1: np.ndarray, w2: np.ndarray, radius: np.ndarray, basis: np.ndarray, grid_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grid indices of the unit-sphere points above (w1, w2), or of the outline where there is none."""
    shrink, within = 1 / np.maximum(radius, 1), np.minimum(radius, 1)
    w1, w2 = w1 * shrink, w2 * shrink
    w3 = np.sqrt(1 - within * within)
    back = 1 + basis[0, 2] * w1 + basis[1, 2] * w2 + basis[2, 2] * w3
    factor = (grid_px / (2 * EXTENT)) / np.maximum(back, 1e-3)
    map_x = (basis[0, 0] * w1 + basis[1, 0] * w2 + basis[2, 0] * w3) * factor + (grid_px / 2 - 0.5)
    map_y = (basis[0, 1] * w1 + basis[1, 1] * w2 + basis[2, 1] * w3) * factor + (grid_px / 2 - 0.5)
    return map_x, map_y
