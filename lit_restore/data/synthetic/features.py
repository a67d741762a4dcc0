"""What moves in a face: brows, eyes and mouth, as curves in frontal face units.

The paint (`feature_paint`) and the semantic points (`feature_points`) come from the same curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lit_restore.data.canonical_face import POINTS_68
from lit_restore.data.synthetic.curves import clamp, power
from lit_restore.data.synthetic.nuisance import Expression
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.sphere import AXES, CENTRE, width_profile

EYE_HALF_WIDTH = 0.166


# --- curves -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EyeCurve:
    """One eye in its own axes: u from -1 (inner corner) to 1 (outer), v downwards in face units."""

    who: Person
    expression: Expression

    @property
    def half_width(self) -> float:
        return EYE_HALF_WIDTH * self.who.eyes.size

    def lower(self, u: np.ndarray) -> np.ndarray:
        lifted = 1 - 0.25 * max(0.0, self.expression.smile)
        return 0.041 * self.who.eyes.opening * lifted * clamp(1 - u * u) * (1 + 0.15 * u)

    def upper(self, u: np.ndarray) -> np.ndarray:
        arc = power(clamp(1 - u * u), 0.75) * (1 - 0.12 * u)
        opened = -0.074 * self.who.eyes.opening * arc
        share = self.expression.eyes_open
        return opened * share + self.lower(u) * (1 - share)

    def local(self, x: np.ndarray, y: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Face units to (u, v); ``side`` is -1 for the eye on image left."""
        sin, cos = math.sin(self.who.eyes.tilt), math.cos(self.who.eyes.tilt)
        dx, dy = x * side - self.who.eyes.spacing, y - self.who.eyes.y
        return (dx * cos - dy * sin) / np.float32(self.half_width), dx * sin + dy * cos

    def place(self, u: float, v: float, side: int) -> tuple[float, float]:
        """(u, v) to face units."""
        sin, cos = math.sin(self.who.eyes.tilt), math.cos(self.who.eyes.tilt)
        dx, dy = u * self.half_width * cos + v * sin, -u * self.half_width * sin + v * cos
        return side * (self.who.eyes.spacing + dx), self.who.eyes.y + dy


def brow_line(who: Person, expression: Expression, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre line of a brow from the inner (t = 0) to the outer end (t = 1): |x| and y in face units."""
    brows, eyes = who.brows, who.eyes
    x = eyes.spacing - 0.185 + 0.54 * t
    arch = brows.arch * np.sin(np.pi * power(clamp(t), 1.25))
    y = eyes.y - brows.height - 0.045 * expression.brow_raise - arch - brows.tilt * t + 0.05 * t * t
    return x, y


@dataclass(frozen=True)
class MouthCurve:
    """The lips over u from -1 (corner at image left) to 1."""

    who: Person
    expression: Expression

    @property
    def half_width(self) -> float:
        smile, opened = self.expression.smile, self.expression.mouth_open
        return self.who.mouth.width * (1 + 0.16 * max(0.0, smile) - 0.08 * opened)

    @property
    def gap(self) -> float:
        """Half of the opening: the other half comes from the jaw (`geometry.Surface.jaw_drop`)."""
        return 0.10 * self.expression.mouth_open + 0.05 * max(0.0, self.expression.smile - 0.45)

    def line(self, u: np.ndarray) -> np.ndarray:
        return self.who.mouth.y - 0.055 * self.expression.smile * u * u

    def inner_upper(self, u: np.ndarray) -> np.ndarray:
        return self.line(u) - 0.2 * self.gap * clamp(1 - u * u)

    def inner_lower(self, u: np.ndarray) -> np.ndarray:
        return self.line(u) + self.gap * power(clamp(1 - u * u), 0.8)

    def outer_upper(self, u: np.ndarray) -> np.ndarray:
        thick = self.who.mouth.upper * (1 - 0.25 * max(0.0, self.expression.smile))
        rise = power(clamp(1 - power(np.abs(u), 1.6)), 0.9)
        return self.inner_upper(u) - thick * rise + self.who.mouth.bow * np.exp(-0.5 * np.square(u / 0.13))

    def outer_lower(self, u: np.ndarray) -> np.ndarray:
        thick = self.who.mouth.lower * (1 - 0.2 * max(0.0, self.expression.smile))
        return self.inner_lower(u) + thick * power(clamp(1 - u * u), 0.65)


# --- semantic points --------------------------------------------------------------------------------------------


def feature_points(who: Person, expression: Expression) -> np.ndarray:
    """(68, 2) float64 iBUG-68 points in frontal face units, before the surface itself moves with the expression."""
    points = np.zeros((68, 2))
    points[:17] = _jaw_points(who)
    inner_to_outer = np.stack(brow_line(who, expression, np.linspace(0.0, 1.0, 5)), axis=-1)
    points[17:22] = inner_to_outer[::-1] * [-1, 1]
    points[22:27] = inner_to_outer
    points[27:36] = _nose_points(who)
    points[36:48] = _eye_points(who, expression)
    points[48:68] = _mouth_points(who, expression)
    return points


def _jaw_points(who: Person) -> np.ndarray:
    """The canonical outline on this head, 3 % inside so that it lies on the surface."""
    x, y = POINTS_68[:17].T
    ny = (y - CENTRE[1]) / AXES[1]
    return np.stack([0.97 * x * width_profile(who.head, ny), CENTRE[1] + (y - CENTRE[1]) * who.head.lower_length], -1)


def _nose_points(who: Person) -> np.ndarray:
    nose = who.nose
    tip = -0.11 + nose.length + nose.tip
    ridge = [(0.0, y) for y in np.linspace(who.eyes.y + 0.02, tip, 4)]
    base = [(-0.155, -0.035), (-0.085, -0.01), (0.0, 0.015), (0.085, -0.01), (0.155, -0.035)]
    return np.array([*ridge, *((x * nose.width, nose.length + y) for x, y in base)])


def _eye_points(who: Person, expression: Expression) -> np.ndarray:
    curve = EyeCurve(who, expression)
    third = np.float64(0.36)
    outline = {"outer": (1.0, 0.0), "inner": (-1.0, 0.0)}
    outline |= {"upper out": (third, curve.upper(third)), "upper in": (-third, curve.upper(-third))}
    outline |= {"lower out": (third, curve.lower(third)), "lower in": (-third, curve.lower(-third))}
    left = ("outer", "upper out", "upper in", "inner", "lower in", "lower out")
    right = ("inner", "upper in", "upper out", "outer", "lower out", "lower in")
    return np.array([curve.place(*outline[k], -1) for k in left] + [curve.place(*outline[k], 1) for k in right])


def _mouth_points(who: Person, expression: Expression) -> np.ndarray:
    curve = MouthCurve(who, expression)
    upper, lower = np.array([-0.64, -0.2, 0.0, 0.2, 0.64]), np.array([0.62, 0.3, 0.0, -0.3, -0.62])
    inner = np.array([-0.32, 0.0, 0.32])
    ends = np.array([-1.0, 1.0, -0.93, 0.93])
    corner = curve.line(ends)
    u = np.concatenate([ends[:1], upper, ends[1:2], lower, ends[2:3], inner, ends[3:], inner[::-1]])
    y = np.concatenate(
        [
            *(corner[:1], curve.outer_upper(upper), corner[1:2], curve.outer_lower(lower)),
            *(corner[2:3], curve.inner_upper(inner), corner[3:], curve.inner_lower(inner[::-1])),
        ]
    )
    return np.stack([u * curve.half_width, y], axis=-1)
