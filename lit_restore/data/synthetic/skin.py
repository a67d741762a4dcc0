"""The lasting paint of a head: skin with its tones and marks, beard and hair, on a texture over (p, q).

Textures are linear light, so that shading multiplies. Eyes, brows and mouth move and are painted per photo
(`feature_paint`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import (
    bump,
    clamp,
    grey,
    inside,
    lattice_noise,
    length,
    mirrored,
    ramp,
    right_half,
    tinted,
)
from lit_restore.data.synthetic.hair import hair_coverage, hair_tone
from lit_restore.data.synthetic.person import Birthmark, Colour, Details, Mole, Person, Scar
from lit_restore.data.synthetic.seeds import random_state
from lit_restore.data.synthetic.sphere import SphereGrid, face_window, frontal, sphere_grid


@dataclass(frozen=True)
class Texture:
    """Paint on a (T, T) grid over (p, q)."""

    paint: np.ndarray
    """(T, T, 4) float32: linear RGB albedo and gloss."""
    x: np.ndarray
    """(T, T) float32: frontal position of each texel in face units."""
    y: np.ndarray
    hair: np.ndarray
    """(T, T) float32: coverage by hair."""


@dataclass(frozen=True)
class Face:
    """The part of a texture in progress that holds the face."""

    who: Person
    colour: np.ndarray
    """(H, W, 3) float32 linear, painted in place."""
    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    """(H, W) z of the unit sphere: above 0 on the front."""

    def window(self, x: float, y: float, reach: float) -> Face:
        """The part within ``reach`` face units of a point."""
        margin = self.x.shape[0] // 6  # of the eighth that was cut off the texture on each side
        box = (x - reach, y - reach, x + reach, y + reach)
        rows, columns = face_window(self.who.head, box, self.x.shape[0] + 2 * margin)
        rows, columns = (slice(max(0, s.start - margin), max(0, s.stop - margin)) for s in (rows, columns))
        parts = (a[rows, columns] for a in (self.colour, self.x, self.y, self.depth))
        return Face(self.who, *parts)


def linear(colour: Colour) -> np.ndarray:
    """sRGB in [0, 1] to linear light, with the exponent 2 that `develop` undoes."""
    return np.square(np.asarray(colour, dtype=np.float32))


def without_details(who: Person) -> Person:
    """The same person without marks and with average brown eyes: what one could guess without references."""
    plain = Details((), 0.0, 0, None, None, iris=(0.36, 0.25, 0.16), earring="none")
    return replace(who, details=plain)


@lru_cache(maxsize=3)  # 45 MB each for 512 px images
def texture(who: Person, size_px: int) -> Texture:
    grid = sphere_grid(size_px)
    x, y = frontal(who.head, grid.normal)
    colour = _skin_colour(who, x, y)
    # The face lies within the middle three quarters; everything drawn on it would repeat on the back of the head.
    middle = slice(size_px // 8, size_px - size_px // 8)
    face = Face(who, colour[middle, middle], x[middle, middle], y[middle, middle], grid.normal[middle, middle, 2])
    _paint_zones(face)
    _paint_nose(face)
    _paint_age(face)
    _paint_marks(face)
    _paint_beard(face)
    hair = hair_coverage(who, grid, x, y)
    tone = hair_tone(who, grid, x, y)
    _blend(colour, hair, tinted(np.square(tone), linear(who.hair.visible_colour)))
    gloss = _skin_gloss(x, y) * (1 - hair) + _hair_gloss(who, grid, tone) * hair
    return Texture(cv2.merge([*cv2.split(colour), gloss]), x, y, hair)


def _blend(colour: np.ndarray, coverage: np.ndarray, target: np.ndarray) -> None:
    """Paint ``target`` (3,) or (H, W, 3) over ``colour`` (H, W, 3) in place; all float32."""
    change = target - colour
    change *= grey(coverage)
    colour += change


def _skin_colour(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(T, T, 3) base tone, mottled."""
    seed, size = who.hair.noise_seed, x.shape
    mottle = lattice_noise(seed, (24, 24), size, "skin") + lattice_noise(seed, (90, 90), size, "pores")
    return tinted(1 + 0.030 * mottle, linear(who.skin))


def _paint_zones(face: Face) -> None:
    """The natural zones: rosy cheeks and nose, darker around the eyes, lighter forehead."""
    who, x, y = face.who, right_half(face.x), right_half(face.y)
    side, base = np.abs(x), linear(who.skin)
    rosy = 0.55 * bump(side, 0.52, 0.17) * bump(y, -0.12, 0.16) * (0.4 + who.make_up.blush)
    rosy += 0.35 * bump(x, 0.0, 0.12) * bump(y, -0.08, 0.11) + 0.15 * bump(side, 0.98, 0.1)
    _blend(face.colour, mirrored(rosy) * (0.5 + 0.5 * base[0]), base * np.float32([1.08, 0.70, 0.68]))
    around_eyes = bump(side, who.eyes.spacing - 0.02, 0.16) * bump(y, who.eyes.y + 0.06, 0.11)
    level = 1 + 0.05 * bump(x, 0.0, 0.5) * bump(y, -1.15, 0.25) - 0.07 * ramp(y, 0.55, 1.0)
    dark = mirrored((0.22 + 0.10 * who.age) * around_eyes)
    colour = face.colour
    level = mirrored(level)
    colour *= cv2.merge([level - np.float32(c) * dark for c in (0.75, 1.0, 0.95)])


def _skin_gloss(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shinier on forehead, nose and cheekbones."""
    nose = bump(x, 0.0, 0.09) * bump(y, -0.2, 0.22)
    cheeks = bump(np.abs(x), 0.55, 0.18) * bump(y, -0.35, 0.15)
    return 0.09 + 0.16 * nose + 0.07 * cheeks + 0.06 * bump(x, 0.0, 0.4) * bump(y, -1.15, 0.2)


def _hair_gloss(who: Person, grid: SphereGrid, tone: np.ndarray) -> np.ndarray:
    """Combed hair shines in a band around the crown, strand by strand."""
    if who.hair.style == "headscarf":
        return np.full_like(tone, 0.02)
    band = bump(length(grid.p, grid.q + 0.1), 0.95, 0.14)
    return (1 - 0.8 * who.hair.shape.curl) * clamp(tone - 0.75) * (0.05 + 0.35 * band)


def _paint_nose(face: Face) -> None:
    """Nostrils, the crease around the wings and the groove below the nose."""
    face = face.window(0.0, face.who.nose.length, 0.35)
    who, colour, x, y = face.who, face.colour, face.x, face.y
    nose, side = who.nose, np.abs(x)
    base = nose.length
    hole_x, hole_y = (side - 0.072 * nose.width) / (0.042 * nose.width), (y - base - 0.005 - 0.18 * side) / 0.022
    nostril = np.exp(-0.5 * np.square(np.square(hole_x) + np.square(hole_y)))
    _blend(colour, 0.70 * nostril, linear(who.skin) * np.float32([0.14, 0.08, 0.08]))
    ring = length((side - 0.105 * nose.width) / (0.075 * nose.width), (y - base + 0.045) / 0.07)
    crease = bump(ring, 1.0, 0.13) * ramp(side, 0.10 * nose.width, 0.15 * nose.width)
    crease = crease * ramp(y, base - 0.13, base - 0.06)
    colour *= grey(1 - 0.36 * crease)
    under = np.abs(y - base - 0.012 + 0.35 * np.square(side) - 0.9 * np.square(clamp(side - 0.09)))
    under = np.exp(-0.5 * np.square(under / 0.016)) * ramp(side, 0.15 * nose.width, 0.07 * nose.width)
    colour *= grey(1 - 0.30 * under)
    groove = bump(x, 0.0, 0.03) * bump(y, 0.5 * (base + who.mouth.y - who.mouth.upper) + 0.02, 0.05)
    colour *= grey(1 - 0.12 * groove)


def _paint_age(face: Face) -> None:
    """Folds from nose to mouth for all; lines on the forehead, at the eyes and bags under them with age."""
    who, x, y = face.who, right_half(face.x), right_half(face.y)
    side, old = np.abs(x), who.age
    start, end = who.nose.length - 0.05, who.mouth.y + 0.02
    fold_x = 0.17 * who.nose.width + 0.24 * np.clip((y - start) / (end - start), 0, 1.3)
    fold = np.exp(-0.5 * np.square((side - fold_x) / 0.022))
    fold = fold * ramp(y, start, start + 0.08) * ramp(y, end + 0.04, end - 0.08)
    wave = 0.015 * np.cos(4 * x)
    lines = sum(np.exp(-0.5 * np.square((y - level + wave) / 0.011)) for level in (-1.08, -1.17, -1.26))
    lines = lines * ramp(side, 0.52, 0.2)
    bag_y = who.eyes.y + 0.105 + 0.25 * np.square(side - who.eyes.spacing)
    bags = np.exp(-0.5 * np.square((y - bag_y) / 0.012)) * bump(side, who.eyes.spacing - 0.02, 0.10)
    crow_x = side - who.eyes.spacing - 0.19
    crow = np.abs(np.sin((y - who.eyes.y) / (0.06 + 0.4 * clamp(crow_x)) * 1.6))
    crow = np.exp(-0.5 * np.square(crow / 0.22)) * bump(crow_x, 0.05, 0.035) * bump(y, who.eyes.y, 0.06)
    old_lines = max(0.0, old - 0.35)
    shade = (0.14 + 0.28 * old) * fold + 0.34 * old_lines * lines + (0.10 + 0.25 * old) * bags + 0.4 * old_lines * crow
    colour = face.colour
    colour *= 1 - tinted(mirrored(shade), (0.7, 0.95, 1.0))


def _paint_marks(face: Face) -> None:
    details = face.who.details
    if details.freckles > 0:
        _paint_freckles(face)
    if details.birthmark is not None:
        _paint_birthmark(details.birthmark, face)
    if details.scar is not None:
        _paint_scar(details.scar, face)
    for mole in details.moles:
        _paint_mole(mole, face)


def _paint_mole(mole: Mole, face: Face) -> None:
    spot, skin = face.window(mole.x, mole.y, 1.6 * mole.radius + 0.02), linear(face.who.skin)
    texel = abs(float(face.x[0, 1] - face.x[0, 0]))
    distance = mole.radius - length(spot.x - mole.x, spot.y - mole.y)
    coverage = inside(distance, max(texel, 0.018)) * mole.strength
    _blend(spot.colour, coverage, skin * np.float32([0.16, 0.10, 0.08]) + np.float32([0.012, 0.004, 0.002]))
    lighter = 0.35 * bump(distance, mole.radius, 0.4 * mole.radius) * coverage
    _blend(spot.colour, lighter, skin * np.float32([0.34, 0.22, 0.18]))


def _paint_freckles(face: Face) -> None:
    rng = random_state("freckles", face.who.details.freckle_seed)
    for _ in range(int(70 * face.who.details.freckles)):
        x = float(np.clip(rng.normal() * 0.36, -0.78, 0.78))
        y, radius = float(-0.22 + rng.normal() * 0.13 + 0.10 * abs(x)), float(rng.uniform(0.014, 0.026))
        strength = float(rng.uniform(0.3, 0.62))
        spot = face.window(x, y, 3.2 * radius)
        coverage = strength * bump(length(spot.x - x, spot.y - y), 0.0, radius)
        _blend(spot.colour, coverage, linear(face.who.skin) * np.float32([0.50, 0.30, 0.20]))


def _paint_birthmark(mark: Birthmark, face: Face) -> None:
    distance = length(face.x - mark.x, (face.y - mark.y) * 1.2)
    edge = 0.35 * lattice_noise(mark.noise_seed, (30, 30), face.x.shape, "birthmark")
    coverage = inside(mark.radius * (1 + edge) - distance, 0.035) * bump(distance, 0.0, 2.2 * mark.radius)
    tint = np.float32([1.0, 0.45, 0.45]) * mark.redness + np.float32([0.55, 0.42, 0.36]) * (1 - mark.redness)
    colour = face.colour
    colour *= 1 - tinted(coverage * (face.depth > -0.05), 0.8 * (1 - tint))


def _paint_scar(scar: Scar, face: Face) -> None:
    """A pale line with a reddish border."""
    part, skin = face.window(scar.x, scar.y, scar.length), linear(face.who.skin)
    x, y, sin, cos = part.x - scar.x, part.y - scar.y, math.sin(scar.angle), math.cos(scar.angle)
    along = x * cos + y * sin
    across = y * cos - x * sin + 0.35 * np.square(along)
    ends = ramp(np.abs(along), scar.length / 2, scar.length / 2 - 0.06)
    border = 0.45 * bump(across, 0.0, scar.width * 1.5) * ends
    _blend(part.colour, border, skin * np.float32([0.62, 0.38, 0.36]))
    pale = np.minimum(skin * np.float32([1.45, 1.25, 1.25]) + 0.04, 0.95)
    _blend(part.colour, 0.85 * bump(across, 0.0, scar.width * 0.55) * ends, pale)


def _paint_beard(face: Face) -> None:
    who, colour, size = face.who, face.colour, face.x.shape
    if who.beard.style == "none":
        return
    coverage = clamp(_beard_area(who, face.x, face.y)) * (face.depth > -0.3)
    hairs = lattice_noise(who.hair.noise_seed, (112, 142), size, "beard")
    patches = lattice_noise(who.hair.noise_seed, (34, 45), size, "beard patches")
    strength = {"stubble": 0.42, "short": 0.78}.get(who.beard.style, 0.93) * who.beard.density
    ragged = clamp(coverage * (1 + 0.22 * hairs + 0.10 * patches)) * strength
    tone = np.clip(1 + 0.28 * hairs + 0.18 * patches, 0.3, 2.0)
    _blend(colour, ragged, tinted(tone, linear(who.beard.colour)))


def _beard_area(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How beardy each place is, 0 to 1, for the person's style."""
    side, mouth, style = np.abs(x), who.mouth, who.beard.style
    lip_top, lip_bottom = mouth.y - mouth.upper, mouth.y + mouth.lower
    arch = 0.20 * np.square(side)
    moustache = ramp(y, who.nose.length + 0.045, who.nose.length + 0.085)
    moustache = moustache * ramp(y, lip_top + 0.06 + arch, lip_top + 0.01 + arch)
    moustache = moustache * ramp(side, mouth.width + 0.05, mouth.width - 0.06)
    corners = bump(side, mouth.width + 0.045, 0.05) * ramp(y, lip_top - 0.02, mouth.y) * ramp(y, 0.62, 0.5)
    chin = ramp(y, lip_bottom + 0.035 - 0.25 * side, lip_bottom + 0.10 - 0.25 * side)
    if style == "moustache":
        return moustache
    if style == "goatee":
        return np.maximum(np.maximum(moustache, corners), chin * ramp(side, 0.36, 0.28))
    line = 0.42 - 0.85 * np.clip(side - 0.38, 0, 0.35) - 2.2 * np.clip(side - 0.73, 0, None)
    cheeks = ramp(y, line - 0.05, line + 0.07) * ramp(side, mouth.width - 0.02, mouth.width + 0.06)
    return np.maximum(np.maximum(moustache, corners), np.maximum(cheeks, chin))
