"""Everything behind the face: background, neck, clothes, hair that hangs behind, and the outline of full hair.

All layers are painted in place on a linear image (S, S, 3); `Scene` holds what they share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.camera import View, pixel_rays
from lit_restore.data.synthetic.curves import clamp, grey, lattice_noise, length, ramp, tinted
from lit_restore.data.synthetic.nuisance import Nuisance
from lit_restore.data.synthetic.person import Hair, Person
from lit_restore.data.synthetic.seeds import random_state
from lit_restore.data.synthetic.skin import linear


@dataclass(frozen=True)
class Scene:
    who: Person
    around: Nuisance
    view: View
    size_px: int

    def light(self, normal: tuple[float | np.ndarray, float | np.ndarray, float | np.ndarray]) -> np.ndarray:
        """(..., 3) light that reaches a matt surface with a camera-frame normal given by components."""
        light = self.around.light
        facing = sum(n * d for n, d in zip(normal, light.direction, strict=True))
        facing = np.maximum((np.asarray(facing, dtype=np.float32) + np.float32(0.25)) * np.float32(1 / 1.25), 0)
        planes = [facing * np.float32(k) + np.float32(f) for k, f in zip(light.key, light.fill, strict=True)]
        return cv2.merge(planes) if facing.ndim == 2 else np.stack(planes, axis=-1)

    def pixels(self, first_row: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Open grids of pixel x (1, S) and y (rows, 1), from a row downwards."""
        line = np.arange(self.size_px, dtype=np.float32)
        return line[None, :], line[first_row:, None]


def blend(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Paint ``colour`` over ``image`` (H, W, 3) in place where ``coverage`` (H, W) is 1; all float32."""
    change = colour - image
    change *= grey(coverage)
    image += change


# --- background -------------------------------------------------------------------------------------------------


def background(scene: Scene) -> np.ndarray:
    """(S, S, 3) float32 linear."""
    kind, size = scene.around.background, scene.size_px
    first, second = linear(kind.first), linear(kind.second)
    rng = random_state("background", kind.noise_seed)
    angle, centre = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, size=2)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = line[None, :], line[:, None]
    share = clamp(0.5 + (x - 0.5) * np.float32(np.cos(angle)) + (y - 0.5) * np.float32(np.sin(angle)))
    if kind.kind == "wall":  # a lit wall with an upright edge
        edge = rng.uniform(0.05, 0.95)
        share = np.where(x > edge, 0.25 + 0.35 * share, 0.95 - 0.3 * share)
        share = cv2.GaussianBlur(np.broadcast_to(share, (size, size)).astype(np.float32), (0, 0), size * 0.012)
    elif kind.kind == "foliage":
        share = share + 0.22 * lattice_noise(kind.noise_seed, (9, 9), (size, size), "leaves")
        share = np.clip(share + 0.08 * lattice_noise(kind.noise_seed, (22, 22), (size, size), "twigs"), 0, 1.3)
    elif kind.kind == "plain":
        share = 0.7 * share + 0.5 * ((x - np.float32(centre[0])) ** 2 + (y - np.float32(centre[1])) ** 2)
    share = clamp(share, 0.0, 1.2)
    image = cv2.merge([share * (b - a) + a for a, b in zip(first, second, strict=True)])
    if kind.kind == "bokeh":
        _bokeh(image, rng)
    return image


def _bokeh(image: np.ndarray, rng: np.random.RandomState) -> None:
    """Out-of-focus lights: soft bright discs."""
    size = image.shape[0]
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    for _ in range(rng.randint(5, 12)):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.04, 0.13)
        tint = np.float32(rng.uniform(0.15, 0.9, size=3) * rng.uniform(0.3, 1.0))
        first_x, last_x = (int(np.clip((cx + k * (radius + 0.02)) * size, 0, size)) for k in (-1, 1))
        first_y, last_y = (int(np.clip((cy + k * (radius + 0.02)) * size, 0, size)) for k in (-1, 1))
        if first_x >= last_x or first_y >= last_y:
            continue
        window = image[first_y:last_y, first_x:last_x]
        distance = length(line[None, first_x:last_x] - np.float32(cx), line[first_y:last_y, None] - np.float32(cy))
        disc = ramp(distance, radius + 0.012, radius - 0.012) * (0.55 + 0.45 * ramp(distance, 0.3 * radius, radius))
        window += tinted(disc, 0.55 * tint)


# --- neck and clothes -------------------------------------------------------------------------------------------


def _body_point(scene: Scene, y: float) -> np.ndarray:
    """(2,) pixel of the body's axis at height ``y``: the neck follows the head only in part."""
    head = scene.view.project(np.array([0.0, 0.35, -0.25]))[:2]
    below = scene.view.rotation @ np.array([0.0, 1.0, -0.10])
    lean = 0.35 * below[:2] + 0.65 * np.array([0.0, 1.0])
    return head + scene.view.scale * (y - 0.35) * lean


def neck_and_clothes(scene: Scene, image: np.ndarray) -> np.ndarray:
    """Paint them; returns the neck's coverage (S, S), which hair that hangs behind must not hide."""
    size, scale = scene.size_px, scene.view.scale
    neck = np.zeros((size, size), dtype=np.float32)
    top, bottom = _body_point(scene, 0.35), _body_point(scene, 1.6)
    first_row = int(np.clip(top[1], 0, size - 1))
    x, y = scene.pixels(first_row)
    slope = (bottom[0] - top[0]) / max(bottom[1] - top[1], 1e-3)
    across = (x - np.float32(top[0]) - np.float32(slope) * (y - np.float32(top[1]))) / np.float32(scale)
    height = 0.35 + (y - np.float32(top[1])) / np.float32(bottom[1] - top[1]) * 1.25  # face units down the body
    half = (0.56 - 0.06 * scene.who.make_up.eyeliner) * scene.who.head.width + 0.30 * np.square(clamp(height - 0.9))
    pixel = np.float32(1 / scale)
    coverage = clamp((half - np.abs(across)) / pixel + 0.5) * np.ones_like(height)
    round_x = np.clip(across / half, -1, 1)
    under_chin = 1 - 0.62 * ramp(height, 1.35, 0.80)
    muscle = 1 - 0.10 * np.exp(-0.5 * np.square((np.abs(across) - 0.22 - 0.1 * (1.3 - height)) / 0.05))
    tone = linear(scene.who.skin) * np.float32([0.94, 0.88, 0.86])
    colour = scene.light((round_x, 0.15, np.sqrt(1 - 0.9 * round_x * round_x)))
    colour *= tinted(under_chin * muscle, tone)
    blend(image[first_row:], coverage, colour)
    neck[first_row:] = coverage
    _clothes(scene, image[first_row:], across, height, pixel)
    return neck


def _clothes(scene: Scene, image: np.ndarray, across: np.ndarray, height: np.ndarray, pixel: np.float32) -> None:
    collar, side = 1.10 - 0.16 * scene.around.collar, np.abs(across)
    inner = collar + (0.34 - 0.30 * scene.around.collar) * clamp(1 - np.square(side / 0.62))
    line = np.where(side < 0.62, inner, collar + 0.30 * (side - 0.62))
    distance = height - line
    coverage = clamp(distance / pixel * 0.9 + 0.5)
    folds = lattice_noise(scene.around.background.noise_seed, (5, 16), across.shape[:2], "folds")
    seam = 1 - 0.25 * np.exp(-0.5 * np.square((distance - 0.045) / 0.012))
    shade = (1 + 0.10 * folds) * seam * (1 - 0.35 * np.exp(-clamp(distance) / 0.05) * (side < 0.62))
    normal_x = np.clip(across * 0.45, -0.8, 0.8)
    colour = scene.light((normal_x, -0.25, 0.85))
    colour *= tinted(shade, linear(scene.around.clothes))
    blend(image, coverage, colour)


# --- hair behind the face ---------------------------------------------------------------------------------------


def hair_behind(scene: Scene, image: np.ndarray, neck: np.ndarray) -> None:
    """Long hair (or a headscarf's cloth) that hangs behind the neck and over the shoulders."""
    style, scale = scene.who.hair.shape, np.float32(scene.view.scale)
    if style.back_bottom < -1:
        return
    cloth = scene.who.hair.style == "headscarf"
    upper = scene.view.project(np.array([0.0, -0.62, -0.15 if cloth else -0.35]))[:2]
    lower = scene.view.project(np.array([0.0, 0.60, -0.15 if cloth else -0.35]))[:2]
    x, y = scene.pixels()
    height = (y - np.float32(upper[1])) / np.float32(max(lower[1] - upper[1], 1e-3)) * 1.22 - 0.62
    across = (x - np.float32(upper[0]) - (height + 0.62) * np.float32((lower[0] - upper[0]) / 1.22)) / scale
    wave = style.curl * 0.05 * np.sin(7.0 * height + 1.0) + 0.012 * np.sin(23 * height)
    flare = 1 + 0.10 * ramp(height, -0.2, 0.7) * (style.curl < 0.9) - 0.5 * ramp(height, -0.7, -1.6)
    half = style.back_width * scene.who.head.width * flare + wave
    if style.back_bottom < 1.5:  # rounded ends
        end = np.square(clamp((height - style.back_bottom + 0.45) / 0.45))
        half = half * np.sqrt(1 - end * end)
    coverage = clamp((half - np.abs(across)) * scale + 0.5) * ramp(height, -1.3, -1.0)
    front = neck if not cloth else np.float32(0)
    coverage = coverage * (1 - front)
    colour = _strand_colour(scene, across, height, half) if not cloth else _cloth_colour(scene, across, height, half)
    blend(image, coverage, colour)


def _strand_colour(scene: Scene, across: np.ndarray, height: np.ndarray, half: np.ndarray) -> np.ndarray:
    style = scene.who.hair.shape
    shifted = across + 0.05 * style.curl * np.sin(9 * height + 4 * across) + 0.015 * np.sin(3.1 * height)
    table = _hanging_table(scene.who.hair)
    map_x = np.clip((shifted + 1.8) * (780 / 3.6), 0, 779).astype(np.float32)
    map_y = np.broadcast_to(np.clip((height + 1.6) * (48 / 4.0), 0, 47), across.shape).astype(np.float32)
    tone = 1 + 0.15 * cv2.remap(table, map_x, map_y, cv2.INTER_LINEAR)
    round_x = np.clip(across / np.maximum(half, 0.1), -1, 1)
    inner = 0.38 + 0.62 * ramp(np.abs(across), 0.45, 1.0)  # dark behind the neck
    light = scene.light((round_x, 0.0, np.sqrt(1 - 0.95 * round_x * round_x)))
    return light * tinted(clamp(inner * np.square(tone), 0.1, 2.5), linear(scene.who.hair.visible_colour))


def _cloth_colour(scene: Scene, across: np.ndarray, height: np.ndarray, half: np.ndarray) -> np.ndarray:
    folds = 1 + 0.14 * np.sin(16 * across + 7 * height * np.sign(across)) * ramp(np.abs(across), 0.1, 0.4)
    round_x = np.clip(across / np.maximum(half, 0.1), -1, 1)
    shade = folds * (1 - 0.45 * ramp(length(across, height - 0.3), 0.9, 0.6))
    light = scene.light((0.8 * round_x, 0.0, np.sqrt(1 - 0.6 * round_x * round_x)))
    return light * tinted(shade, linear(scene.who.hair.visible_colour))


def hair_outline(scene: Scene, image: np.ndarray) -> None:
    """The silhouette of full hair around the skull, drawn before the head itself."""
    style = scene.who.hair.shape
    if max(style.volume, style.side_volume) < 0.03 or style.density == 0:
        return
    basis, step, start = pixel_rays(scene.view)
    x, y = scene.pixels()
    first = np.float32(start[0]) + np.float32(step[0, 0]) * x + np.float32(step[1, 0]) * y
    second = np.float32(start[1]) + np.float32(step[0, 1]) * x + np.float32(step[1, 1]) * y
    radius = np.sqrt(first * first + second * second) + np.float32(1e-6)
    up = -(first * np.float32(basis[0, 1]) + second * np.float32(basis[1, 1])) / radius
    thickness = style.side_volume + (style.volume - style.side_volume) * ramp(up, 0.1, 0.75)
    bottom = min(0.75, 0.10 if style.covers_ears else (style.side_bottom + 0.5) / 1.53)
    grows = ramp(up, -bottom - 0.12, -bottom + 0.10)
    angle = np.arctan2(first, -second)
    edge, tone = _outline_grain(scene, angle, radius)
    reach = 1 + thickness * (1 + edge) * grows - 0.2 * (1 - grows)
    slope = np.float32(math.hypot(step[0, 0], step[1, 1]) / np.sqrt(2))
    soft = slope * (1.0 + 2.0 * (style.curl > 0.3))
    coverage = clamp((reach - radius) / soft + 0.5)
    normal = (first / radius, -up, 0.45)
    depth = 0.45 + 0.55 * clamp((reach - radius) / 0.25)  # darker towards the rim
    colour = scene.light(normal)
    colour *= tinted(0.8 * depth * np.square(tone), linear(scene.who.hair.visible_colour))
    blend(image, coverage * style.density, colour)


def _outline_grain(
    scene: Scene, angle: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Unevenness of the outline (around 0) and brightness of the strands (around 1)."""
    if scene.who.hair.style == "headscarf":
        return 0.0, 1.15
    columns = np.clip((angle + np.float32(np.pi)) * (1536 / (2 * math.pi)), 0, 1535).astype(np.float32)
    rows = np.clip((radius - 0.8) * 60, 0, 47).astype(np.float32)
    tone, edge = _outline_tables(scene.who.hair)
    return (
        cv2.remap(edge, columns, np.zeros_like(columns), cv2.INTER_LINEAR),
        cv2.remap(tone, columns, rows, cv2.INTER_LINEAR),
    )


@lru_cache(maxsize=8)
def _outline_tables(hair: Hair) -> tuple[np.ndarray, np.ndarray]:
    """Brightness over (distance, angle) and unevenness over angle."""
    curl, seed = hair.shape.curl, hair.noise_seed
    tone = 1 + curl * 0.28 * lattice_noise(seed, (16, 120), (48, 1536), "outline curls")
    tone = tone + (1 - curl) * 0.17 * lattice_noise(seed, (2, 380), (48, 1536), "outline strands")
    edge = lattice_noise(seed, (1, 64), (1, 1536), "outline puffs") * (0.04 + 0.10 * curl)
    edge = edge + lattice_noise(seed, (1, 300), (1, 1536), "outline wisps") * (0.015 + 0.035 * curl)
    return np.clip(tone, 0.3, 2.0), edge


@lru_cache(maxsize=8)
def _hanging_table(hair: Hair) -> np.ndarray:
    return lattice_noise(hair.noise_seed, (7, 130), (48, 780), "behind")
