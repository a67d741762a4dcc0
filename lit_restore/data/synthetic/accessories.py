"""Ears with their rings, and glasses: small things placed on the head by its frame."""

from __future__ import annotations

import math

import cv2
import numpy as np

from lit_restore.data.synthetic.backdrop import Scene, blend
from lit_restore.data.synthetic.curves import clamp, grey, length, ramp, tinted
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.skin import linear

EAR_Y = -0.40
GOLD = np.float32([0.83, 0.62, 0.24])
SILVER = np.float32([0.75, 0.76, 0.78])


# --- ears -------------------------------------------------------------------------------------------------------


def has_ears(who: Person) -> bool:
    return not who.hair.shape.covers_ears


def ear_in_front(scene: Scene, side: int) -> bool:
    """Whether the head is turned so far that this ear lies on the visible side of the head."""
    return float(scene.view.rotation[2, 0]) * side > 0.12


def paint_ear(scene: Scene, image: np.ndarray, side: int) -> None:
    """One ear, ``side`` -1 at image left; an egg standing off the head, with rim, hollow and lobe."""
    head, view = scene.who.head, scene.view
    size = 0.30 * head.ears
    foot = view.project(np.array([side * (head.width + 0.0), EAR_Y, -0.03]))[:2]
    back = (view.rotation @ np.array([side * 0.62, 0.0, -0.78]))[:2] * 0.17 * head.ears * view.scale
    down = (view.rotation @ np.array([-side * 0.14, 1.0, 0.10]))[:2] * size * view.scale
    if abs(back[0]) < 0.03 * view.scale:  # seen edge-on
        back[0] = np.copysign(0.03 * view.scale, back[0] if back[0] else side)
    centre = foot + 0.55 * back
    window, a, b = _local_axes(scene, centre, back, down)
    if window is None:
        return
    wide = 1 - 0.30 * clamp(b)  # narrower at the lobe
    radius = np.sqrt(np.square(a / wide) + b * b)
    pixel = 1 / max(math.hypot(*back), 1.0)
    coverage = clamp((1 - radius) / max(pixel, 0.02) * 0.7 + 0.5)
    if ear_in_front(scene, side):
        coverage = coverage * ramp(a, -1.0, -0.45)  # grows out of the cheek
    rim = np.exp(-0.5 * np.square((radius - 0.86) / 0.10))
    hollow = np.exp(-0.5 * (np.square((a + 0.15) / 0.38) + np.square((b - 0.08) / 0.40)))
    fold = np.exp(-0.5 * np.square((radius - 0.62) / 0.09)) * ramp(b, 0.5, 0.0)
    shade = 0.86 + 0.16 * rim - 0.42 * hollow - 0.16 * fold
    tone = linear(scene.who.skin) * np.float32([1.0, 0.88, 0.86])
    light = scene.light(tuple(view.rotation @ np.array([side * 0.55, 0.0, 0.83])))
    blend(image[window], coverage, tinted(shade, tone * light))


def paint_earring(scene: Scene, image: np.ndarray, side: int) -> None:
    kind = scene.who.details.earring
    if kind == "none":
        return
    metal = np.square(GOLD if scene.who.hair.noise_seed % 2 else SILVER)
    lobe = np.array([side * (scene.who.head.width + 0.055), EAR_Y + 0.285 * scene.who.head.ears, -0.06])
    size = 0.050 if kind == "stud" else 0.105
    hangs = np.array([0.0, 0.0 if kind == "stud" else size, 0.0])
    centre = scene.view.project(lobe + hangs)[:2]
    reach = np.float64(size * scene.view.scale)
    window, a, b = _local_axes(scene, centre, np.array([reach, 0.0]), np.array([0.0, reach]))
    if window is None:
        return
    radius = length(a, b)
    soft = max(1 / float(reach), 0.05)
    distance = 1 - radius if kind == "stud" else 0.20 - np.abs(radius - 0.78)
    coverage = clamp(distance / soft + 0.5)
    gleam = np.exp(-0.5 * (np.square((a + 0.3) / 0.3) + np.square((b + 0.35) / 0.3)))
    light = scene.light((0.0, -0.2, 0.95))
    blend(image[window], coverage, tinted(0.75 + 1.3 * gleam, metal * light))


def _local_axes(
    scene: Scene, centre: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[tuple[slice, slice] | None, np.ndarray, np.ndarray]:
    """The pixels around a small shape and their coordinates along its two half axes (pixel vectors)."""
    reach = np.abs(first) + np.abs(second) + 2
    low = np.clip(np.floor(centre - 1.2 * reach), 0, scene.size_px).astype(int)
    high = np.clip(np.ceil(centre + 1.2 * reach) + 1, 0, scene.size_px).astype(int)
    if np.any(low >= high):
        return None, np.empty(0), np.empty(0)
    x = np.arange(low[0], high[0], dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(low[1], high[1], dtype=np.float32)[:, None] - np.float32(centre[1])
    inverse = np.linalg.inv(np.stack([first, second], axis=1)).astype(np.float32)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    return window, inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


# --- glasses ----------------------------------------------------------------------------------------------------


def paint_glasses(scene: Scene, image: np.ndarray) -> None:
    """Frame, tinted lenses with a sheen, the near temple, and the frame's shadow on the face."""
    glasses = scene.who.glasses
    if glasses.style == "none":
        return
    frame, lenses = _glasses_masks(scene)
    light = scene.around.light.direction
    reach = 0.07 * scene.view.scale
    move = np.float32([[1, 0, -light[0] * reach], [0, 1, -light[1] * reach]])
    shadow = cv2.warpAffine(cv2.GaussianBlur(frame, (0, 0), 0.012 * scene.view.scale + 0.3), move, frame.shape)
    image *= grey(1 - 0.30 * (1 - 0.6 * scene.around.light.softness) * shadow)
    x, y = scene.pixels()
    sheen = ramp(np.sin((x + y) * np.float32(5.5 / scene.view.scale) + 6 * light[0]), 0.55, 1.0)
    image *= grey(1 - 0.06 * lenses)
    image += grey(0.05 * lenses * sheen)
    shine = 0.75 + 0.5 * ramp(np.sin((x - 0.4 * y) * np.float32(4.0 / scene.view.scale)), 0.7, 1.0)
    colour = tinted(shine, linear(glasses.colour) * scene.light((0.0, -0.3, 0.9)))
    colour += np.float32(0.015)
    blend(image, frame, colour)


def _glasses_masks(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of frame and lenses, (S, S) float32 each, drawn at twice the resolution."""
    double = 2 * scene.size_px
    frame, lenses = np.zeros((double, double), np.uint8), np.zeros((double, double), np.uint8)
    rim = scene.who.glasses.rim
    for side in (-1, 1):
        lens = _lens_outline(scene.who, side)
        middle = lens.mean(0)
        grown = middle + (lens - middle) * (1 + rim / np.abs(lens - middle).max(0))
        _fill(scene, frame, [grown, lens])
        _fill(scene, lenses, [lens])
        _fill(scene, frame, [_bar(_temple(scene.who, side), rim)], hidden=not ear_in_front(scene, side))
    _fill(scene, frame, [_bar(_bridge(scene.who), 0.8 * rim)])
    size = (scene.size_px, scene.size_px)
    masks = (cv2.resize(m, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for m in (frame, lenses))
    return tuple(masks)


def _fill(scene: Scene, mask: np.ndarray, outlines: list[np.ndarray], hidden: bool = False) -> None:
    """Fill polygons of head-frame points (N, 3); a second one cuts a hole."""
    if hidden:
        return
    pixels = [scene.view.project(points)[:, :2] for points in outlines]
    # pixel centres at integers in both resolutions, four fractional bits for OpenCV
    shifted = [np.rint(((p + 0.5) * 2 - 0.5) * 16).astype(np.int32) for p in pixels]
    cv2.fillPoly(mask, shifted, 255, cv2.LINE_AA, 4)


def _lens_outline(who: Person, side: int) -> np.ndarray:
    """(48, 3) head-frame outline of a lens, on a gently curved plane before the eyes."""
    glasses = who.glasses
    squareness, width, height = {
        "round": (2.0, 0.255, 0.250),
        "oval": (2.2, 0.285, 0.190),
        "rectangle": (4.5, 0.295, 0.180),
        "aviator": (2.8, 0.305, 0.245),
        "cat-eye": (2.8, 0.295, 0.200),
    }[glasses.style]
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    a = np.sign(cos) * np.abs(cos) ** (2 / squareness)
    b = np.sign(sin) * np.abs(sin) ** (2 / squareness)
    if glasses.style == "aviator":
        a = a * (1 - 0.14 * b)
    if glasses.style == "cat-eye":
        b = b - 0.22 * clamp(a) ** 2 * (b < 0.2)
    x = who.eyes.spacing + 0.015 + a * width * glasses.size
    y = who.eyes.y + 0.025 + b * height * glasses.size
    return np.stack([side * x, y, _lens_plane(x)], axis=-1)


def _lens_plane(x: np.ndarray) -> np.ndarray:
    return 1.33 - 0.22 * np.square(x)


def _bridge(who: Person) -> np.ndarray:
    x = np.linspace(-1, 1, 9) * (who.eyes.spacing - 0.24 * who.glasses.size)
    y = who.eyes.y - 0.02 - 0.05 * (1 - np.square(x / x[-1]))
    return np.stack([x, y, _lens_plane(x) + 0.02], axis=-1)


def _temple(who: Person, side: int) -> np.ndarray:
    hinge = np.array([side * (who.eyes.spacing + 0.30 * who.glasses.size), who.eyes.y - 0.05, 1.18])
    corner = np.array([side * 0.93 * who.head.width, who.eyes.y - 0.05, 0.75])
    ear = np.array([side * 1.06 * who.head.width, EAR_Y - 0.15, -0.02])
    return np.stack([hinge, corner, ear])


def _bar(line: np.ndarray, thickness: float) -> np.ndarray:
    """A closed band of the given height around a line of points (N, 3)."""
    half = np.array([0.0, thickness / 2, 0.0])
    return np.concatenate([line - half, line[::-1] + half])
