"""Brows, eyes and mouth of one moment, painted on a copy of the person's texture."""

from __future__ import annotations

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import bump, clamp, inside, length, power, ramp
from lit_restore.data.synthetic.features import EyeCurve, MouthCurve, brow_line
from lit_restore.data.synthetic.nuisance import Expression
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.skin import Texture, linear
from lit_restore.data.synthetic.sphere import face_window


def paint_features(texture: Texture, who: Person, expression: Expression, light_x: float) -> np.ndarray:
    """A copy of the texture's paint with brows, eyes and mouth of this moment.

    Args:
        light_x: where the key light stands, -1 image left to 1 image right; moves the catch light in the eyes.
    """
    paint = texture.paint.copy()
    size_px = paint.shape[0]
    eyes, mouth = who.eyes, who.mouth
    # Both eye regions at once, the left one mirrored: their geometry is the same.
    box = (eyes.spacing - 0.27, eyes.y - 0.46, eyes.spacing + 0.42, eyes.y + 0.17)
    rows, right = face_window(who.head, box, size_px)
    left = slice(size_px - right.stop, size_px - right.start)
    pair = np.stack([paint[rows, left][:, ::-1], paint[rows, right]])
    hair = np.stack([texture.hair[rows, left][:, ::-1], texture.hair[rows, right]])
    x, y = texture.x[rows, right], texture.y[rows, right]
    _paint_brows(pair, x, y, hair, who, expression)
    # the eyes and their lids lie below this row
    first = face_window(who.head, (eyes.spacing, eyes.y - 0.25, eyes.spacing, eyes.y), size_px)[0].start - rows.start
    eye_pair = np.ascontiguousarray(pair[:, first:])
    _paint_eyes(eye_pair, x[first:], y[first:], EyeCurve(who, expression), light_x, _texel(x))
    pair[:, first:] = eye_pair
    paint[rows, left], paint[rows, right] = pair[0, :, ::-1], pair[1]
    rows, columns = face_window(who.head, (-0.62, mouth.y - 0.22, 0.62, mouth.y + 0.38), size_px)
    texel = _texel(texture.x[rows, columns])
    reach = 1.55 * mouth.width  # as far as the shadow at the corners of the broadest smile
    _, columns = face_window(who.head, (-reach, mouth.y, reach, mouth.y), size_px)
    window = (rows, columns)
    _paint_mouth(paint[window], texture.x[window], texture.y[window], MouthCurve(who, expression), texel)
    return paint


def _over(paint: np.ndarray, coverage: np.ndarray, colour: np.ndarray, gloss: float) -> None:
    """Blend colour (3,) or (H, W, 3) and gloss over paint (H, W, 4) in place; coverage (H, W)."""
    colours = colour if colour.ndim == 1 else cv2.split(colour)
    left = 1 - coverage
    paint *= cv2.merge([left] * 4)
    paint += cv2.merge([coverage * c for c in (*colours, np.float32(gloss))])


def _over_both(pair: np.ndarray, coverage: np.ndarray, colour: np.ndarray, gloss: float) -> None:
    """`_over` for (2, h, w, 4) with coverage (h, w) or (2, h, w) and colour (3,) or (2, h, w, 3)."""
    _, height, width, _ = pair.shape
    coverage = np.broadcast_to(coverage, (2, height, width)).reshape(2 * height, width)
    colour = colour if colour.ndim == 1 else colour.reshape(2 * height, width, 3)
    _over(pair.reshape(2 * height, width, 4), coverage, colour, gloss)


def _texel(paint_x: np.ndarray) -> float:
    """Width of a texel in face units."""
    return abs(float(paint_x[0, 1] - paint_x[0, 0]))


def _paint_brows(
    pair: np.ndarray, x: np.ndarray, y: np.ndarray, hair: np.ndarray, who: Person, expression: Expression
) -> None:
    """On (2, h, w, 4): the left side mirrored, and the right side at ``x``, ``y`` (h, w)."""
    t = (x - np.float32(who.eyes.spacing - 0.185)) * np.float32(1 / 0.54)
    _, centre = brow_line(who, expression, t)
    thickness = who.brows.thickness * (1 - 0.72 * power(clamp(t), 1.6)) * ramp(t, -0.10, 0.16)
    strokes = 0.5 + 0.5 * np.sin(120 * np.abs(x) + 70 * (y - centre) * (1.3 - t)) * np.sin(71 * np.abs(x) + 1.0)
    distance = thickness - np.abs(y - centre)
    ends = ramp(t, 1.06, 0.92) * ramp(t, -0.05, 0.07)
    coverage = inside(distance - 0.006 * strokes, max(0.030, 1.2 * _texel(x))) * ends
    coverage = coverage * who.brows.density * (0.80 + 0.20 * strokes) * (1 - hair)
    colour = linear(who.hair.colour)
    dark = np.float32([0.035, 0.020, 0.014])
    lightness = float(np.clip(colour.mean() * 1.6, 0.25, 0.5))
    _over_both(pair, coverage, colour * lightness + dark * (1 - lightness), 0.05)


def _paint_eyes(pair: np.ndarray, x: np.ndarray, y: np.ndarray, curve: EyeCurve, light_x: float, texel: float) -> None:
    """On (2, h, w, 4), as `_paint_brows`."""
    who = curve.who
    u, v = curve.local(x, y, 1)
    upper, lower = curve.upper(u), curve.lower(u)
    soft = max(1.2 * texel, 0.006)
    _paint_lids(pair, u, v, upper, lower, curve)
    ball = inside(np.minimum(v - upper, lower - v), soft) * (np.abs(u) < 1)
    _over_both(pair, ball, _eyeballs(u, v, upper, curve, light_x, soft), 0.04)
    liner = who.make_up.eyeliner
    lash_width = 0.013 + 0.010 * liner
    lash = np.exp(-0.5 * np.square((v - upper + 0.006) / np.maximum(lash_width * (0.75 + 0.35 * u), 0.5 * soft)))
    lash = lash * ramp(u, -1.08, -0.7) * ramp(u, 1.22 + 0.1 * liner, 1.0)
    _over_both(pair, clamp(lash * (0.72 + 0.25 * liner)), np.float32([0.014, 0.009, 0.008]), 0.1)
    under = np.exp(-0.5 * np.square((v - lower - 0.006) / max(0.010, 0.5 * soft))) * (np.abs(u) < 0.98)
    _over_both(pair, under * (0.26 + 0.35 * liner), np.float32([0.05, 0.025, 0.02]), 0.1)


def _paint_lids(
    pair: np.ndarray, u: np.ndarray, v: np.ndarray, upper: np.ndarray, lower: np.ndarray, curve: EyeCurve
) -> None:
    """Eye shadow, the crease above the eye and the rim below it."""
    who, open_share = curve.who, min(1.0, curve.expression.eyes_open)
    crease_v = -(0.074 * who.eyes.opening + 0.040) * np.sqrt(np.clip(1.25 - u * u, 0, 1.25)) + 0.02
    lid = ramp(v, crease_v - 0.05, crease_v + 0.02) * ramp(v, upper + 0.02, upper - 0.01) * ramp(np.abs(u), 1.35, 0.8)
    skin = pair[..., :3]
    skin *= 1 - (0.10 + 0.05 * (1 - open_share)) * lid[..., None]
    _over_both(pair, 0.65 * who.make_up.shadow * lid, linear(who.make_up.shadow_colour), 0.12)
    crease = np.exp(-0.5 * np.square((v - crease_v) / 0.011)) * ramp(np.abs(u - 0.05), 1.12, 0.65)
    skin *= 1 - (0.15 + 0.40 * who.eyes.crease * open_share) * crease[..., None] * np.float32([0.75, 0.95, 1.0])
    rim = np.exp(-0.5 * np.square((v - lower - 0.020) / 0.012)) * ramp(np.abs(u), 1.0, 0.7)
    skin *= 1 + 0.10 * rim[..., None]


def _eyeballs(
    u: np.ndarray, v: np.ndarray, upper: np.ndarray, curve: EyeCurve, light_x: float, soft: float
) -> np.ndarray:
    """(2, h, w, 3) linear colour: white, iris with dark rim and fibres, pupil, lid shadow, catch light."""
    who, eyes, gaze = curve.who, curve.who.eyes, curve.expression.gaze
    side = np.float32([-1, 1])[:, None, None]
    white = np.float32([0.66, 0.62, 0.60]) * (1 - 0.30 * np.abs(u * u * u))[..., None]
    pink = ramp(u, -0.72, -0.95)[..., None]
    white = white + pink * (np.float32([0.55, 0.26, 0.24]) - white)
    across = u * curve.half_width - side * np.float32(gaze[0])
    down = v + 0.012 - gaze[1]
    radius = np.sqrt(across * across + down * down)
    angle = np.arctan2(down, across)
    fibres = 1 + 0.16 * np.sin(13 * angle + 2.0) + 0.10 * np.sin(29 * angle)
    glow = 1 + 0.55 * np.clip(down / eyes.iris_radius, -0.6, 1)
    dark_rim = 1 - 0.6 * bump(radius, eyes.iris_radius, 0.013)
    iris = linear(who.details.iris) * (1.10 * fibres * glow * dark_rim)[..., None]
    colour = white + inside(eyes.iris_radius - radius, soft)[..., None] * (iris - white)
    pupil = inside(0.40 * eyes.iris_radius - radius, soft)[..., None]
    colour = colour + pupil * (np.float32([0.006, 0.005, 0.005]) - colour)
    colour = colour * (1 - 0.55 * np.exp(-clamp(v - upper) / 0.022))[..., None]
    spot_x = side * np.float32(0.026 * np.clip(2 * light_x, -1, 1))
    spot = length(across - spot_x, down + 0.030)
    bright = inside(0.019 - spot, max(soft, 0.014))[..., None] * 0.85
    faint = 0.05 * bump(length(across + spot_x, down - 0.035), 0.0, 0.018)[..., None]
    return colour + bright * (np.float32([1.2, 1.2, 1.2]) - colour) + faint


def _paint_mouth(paint: np.ndarray, x: np.ndarray, y: np.ndarray, curve: MouthCurve, texel: float) -> None:
    mouth = curve.who.mouth
    u = x * np.float32(1 / curve.half_width)
    soft = max(1.2 * texel, 0.008)
    within = ramp(np.abs(u), 1.04, 0.97)
    top, bottom = curve.outer_upper(u), curve.outer_lower(u)
    inner_top, inner_bottom = curve.inner_upper(u), curve.inner_lower(u)
    shadow = bump(y - bottom, 0.045, 0.03) * ramp(np.abs(u), 0.85, 0.4)
    corner = bump(np.abs(u), 1.02, 0.07) * bump(y - curve.line(u), 0.0, 0.025)
    paint[..., :3] *= (1 - 0.16 * shadow - 0.40 * corner)[..., None]
    lips = inside(np.minimum(y - top, bottom - y), 1.6 * soft) * within
    centre = 0.5 * (inner_bottom + bottom)
    shape = np.where(y < curve.line(u), 0.80, 0.96 + 0.22 * bump(y - centre, -0.008, 0.024) * bump(u, 0.0, 0.45))
    _over(paint, lips * 0.92, linear(mouth.colour) * shape[..., None].astype(np.float32), 0.22)
    seam = np.exp(-0.5 * np.square((y - inner_top) / max(0.010, 0.6 * soft))) * within
    _over(paint, 0.70 * seam * ramp(np.abs(u), 1.02, 0.7), linear(mouth.colour) * np.float32([0.18, 0.10, 0.10]), 0.1)
    if curve.gap > 0.002:
        opening = inside(np.minimum(y - inner_top, inner_bottom - y), soft) * within
        _over(paint, opening, _mouth_inside(x, y, u, inner_top, inner_bottom), 0.12)


def _mouth_inside(x: np.ndarray, y: np.ndarray, u: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """(h, w, 3) linear: dark, with upper teeth and tongue."""
    colour = np.empty((*x.shape, 3), dtype=np.float32)
    colour[:] = (0.045, 0.012, 0.012)
    tongue = ramp(y, bottom - 0.075, bottom - 0.02) * ramp(np.abs(u), 0.75, 0.4)
    colour += 0.85 * tongue[..., None] * (np.float32([0.26, 0.075, 0.075]) - colour)
    gaps = np.square(np.cos(np.float32(np.pi / 0.085) * x))
    gaps = 1 - 0.28 * np.square(gaps * gaps * gaps)
    lit = np.sqrt(clamp(1 - 0.85 * u * u)) * gaps
    teeth = ramp(y, top + 0.085, top + 0.065) * ramp(np.abs(u), 0.97, 0.8)
    return colour + teeth[..., None] * (np.float32([0.74, 0.70, 0.63]) * lit[..., None] - colour)
