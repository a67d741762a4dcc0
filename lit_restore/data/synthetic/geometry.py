"""The head as a surface: an ellipsoid whose points are displaced by relief, jaw shape and hair.

A point of the unit sphere n is addressed by its stereographic coordinates (p, q) = (nx, ny) / (1 + nz): the front
of the head is the unit disc, angles are kept, and there is no pole in sight. The surface is
``CENTRE + AXES * (n + displacement(p, q))``; in frontal view a face point lies at the x and y of `person`.
Painting, landmarks and rendering all use (p, q), so a landmark is where the paint is by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from lit_restore.data.synthetic.curves import bump, grey, mirrored, ramp, right_half
from lit_restore.data.synthetic.hair import hair_thickness
from lit_restore.data.synthetic.nuisance import Expression
from lit_restore.data.synthetic.person import Person
from lit_restore.data.synthetic.sphere import AXES, CENTRE, frontal, sample_grid, sphere_grid, unsphere

GRID_PX = 256


@dataclass(frozen=True)
class Surface:
    """The relaxed head of one person on a `GRID_PX` grid over (p, q)."""

    displacement: np.ndarray
    """(G, G, 3) float32, in units of the ellipsoid's axes."""
    relief: np.ndarray
    """(G, G, 4) float32: unit normal, head frame, and how open to light the place is (1; less in hollows)."""
    depth: np.ndarray
    """(G, G) float32: z of the bare face in face units."""
    jaw_drop: np.ndarray
    """(G, G, 3) float32: further displacement of a fully open mouth."""
    cheek_raise: np.ndarray
    """(G, G, 3) float32: further displacement of a full smile."""

    def posed(self, expression: Expression) -> np.ndarray:
        """(G, G, 3) displacement with an expression."""
        total = self.displacement
        if expression.mouth_open > 0:
            total = total + self.jaw_drop * np.float32(expression.mouth_open)
        if expression.smile > 0:
            total = total + self.cheek_raise * np.float32(expression.smile)
        return total


@lru_cache(maxsize=8)
def surface(who: Person) -> Surface:
    grid = sphere_grid(GRID_PX)
    x, y = frontal(who.head, grid.normal)
    front = ramp(grid.normal[..., 2], -0.6, 0.0)
    relief = mirrored(face_relief(who, right_half(x), right_half(y)))
    depth = grid.normal[..., 2] * AXES[2] + relief * front
    thickness = hair_thickness(who, grid, x, y)
    position = cv2.merge([x, y, depth]) + grid.normal * grey(thickness)
    zero = np.zeros_like(x)
    jaw_drop = cv2.merge([zero, 0.17 * ramp(y, 0.22, 0.55) * front, -0.05 * ramp(y, 0.3, 0.8) * front])
    cheek = bump(np.abs(x), 0.46, 0.16) * bump(y, -0.10, 0.15) * front
    cheek_raise = cv2.merge([zero, -0.025 * cheek, 0.055 * cheek])
    return Surface(
        displacement=(position - CENTRE) / AXES - grid.normal,
        relief=cv2.merge([*_normals(position), _occlusion(depth, thickness)]),
        depth=depth,
        jaw_drop=jaw_drop / AXES,
        cheek_raise=cheek_raise / AXES,
    )


def lift(displacement: np.ndarray, pq: np.ndarray) -> np.ndarray:
    """Surface points (N, 3), head frame and face units, of stereographic coordinates (N, 2)."""
    offset = sample_grid(displacement, pq)
    return CENTRE + AXES * (unsphere(pq) + offset)


def face_relief(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the face stands out of the ellipsoid towards the front, in face units; symmetric in ``x``."""
    head, eyes = who.head, who.eyes
    side = np.abs(x)
    height = 0.20 * ramp(y, -0.35, 0.35) * bump(x, 0.0, 0.62) + 0.50 * ramp(y, 0.25, 1.0) * bump(x, 0.0, 0.50)
    height += 0.05 * head.chin * bump(x, 0.0, 0.19) * bump(y, 0.73, 0.14)
    height -= 0.03 * head.chin_cleft * bump(x, 0.0, 0.04) * bump(y, 0.74, 0.12)
    height += 0.05 * bump(x, 0.0, 0.33) * bump(y, who.mouth.y, 0.17)  # teeth behind the lips
    height -= 0.035 * bump(x, 0.0, 0.22) * bump(y, who.mouth.y + 0.22, 0.06)  # hollow above the chin
    height += 0.06 * head.cheekbones * bump(side, 0.60, 0.17) * bump(y, -0.25, 0.17)
    height -= 0.06 * head.cheek_hollow * bump(side, 0.58, 0.16) * bump(y, 0.20, 0.19)
    height += 0.05 * head.brow_ridge * bump(side, 0.36, 0.26) * bump(y, -0.84, 0.10)
    height -= 0.105 * head.eye_depth * bump(side, eyes.spacing, 0.17) * bump(y, eyes.y + 0.01, 0.11)
    height -= 0.06 * bump(side, 0.20, 0.07) * bump(y, eyes.y, 0.10)  # inner corners
    height += 0.055 * bump(side, eyes.spacing, 0.11) * bump(y, eyes.y, 0.07)  # eyeballs
    return height + _nose_relief(who, x, y) + _lip_relief(who, x, y)


def _nose_relief(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    nose, side = who.nose, np.abs(x)
    tip_y = -0.11 + nose.length + nose.tip
    base_y = 0.0 + nose.length
    along = ramp(y, -0.72, tip_y)
    under = ramp(y, base_y + 0.10, base_y - 0.15)
    ridge = (0.05 * nose.bridge * ramp(y, -0.85, -0.5) + 0.27 * nose.height * along) * under
    width = (0.095 + 0.040 * along) * (0.6 + 0.4 * nose.width)
    scaled = side / width
    height = ridge * np.exp(-0.5 * scaled * scaled)
    height += 0.075 * nose.height * bump(x, 0.0, 0.085 * nose.width) * bump(y, tip_y, 0.085)
    height += 0.095 * bump(side, 0.125 * nose.width, 0.048) * bump(y, base_y - 0.045, 0.055)  # wings
    return height - 0.03 * bump(side, 0.07 * nose.width, 0.03) * bump(y, base_y + 0.005, 0.03)  # nostrils


def _lip_relief(who: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    mouth = who.mouth
    across = ramp(np.abs(x), mouth.width, 0.2 * mouth.width)
    upper = 0.4 * mouth.upper * bump(y, mouth.y - 0.45 * mouth.upper, 0.04)
    lower = 0.55 * mouth.lower * bump(y, mouth.y + 0.55 * mouth.lower, 0.045)
    philtrum = 0.02 * bump(x, 0.0, 0.035) * bump(y, mouth.y - mouth.upper - 0.07, 0.05)
    return across * (upper + lower) - philtrum


def _normals(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The components of the unit normals, (G, G) each."""
    across = cv2.Sobel(position, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(position, cv2.CV_32F, 0, 1, ksize=3)
    (ax, ay, az), (dx, dy, dz) = cv2.split(across), cv2.split(down)
    # x right, y down: their cross product points to +z, out of the face (np.cross takes five times as long)
    x, y, z = ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx
    scale = 1 / (np.sqrt(x * x + y * y + z * z) + np.float32(1e-9))
    return x * scale, y * scale, z * scale


def _occlusion(depth: np.ndarray, thickness: np.ndarray) -> np.ndarray:
    """Less light in hollows (eye sockets, beside the nose) and under the hairline."""
    fine = depth - cv2.GaussianBlur(depth, (0, 0), 5.0)
    broad = depth - _blurred_broadly(depth, 12.0)
    hollow = np.clip(0.010 - fine, 0, 0.05) * 4.5 + np.clip(0.02 - broad, 0, 0.1) * 1.6
    under_hair = np.clip(_blurred_broadly(thickness, 7.0) - thickness, 0, 0.08) * 5.0
    return np.clip(1.06 - hollow - under_hair, 0.35, 1.0)


def _blurred_broadly(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur at half the resolution, which a broad blur does not miss."""
    half = cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(half, (0, 0), sigma / 2)
    return cv2.resize(blurred, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
