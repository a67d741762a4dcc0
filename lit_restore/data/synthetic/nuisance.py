"""What differs between two photos of one person: pose, expression, light, surroundings and camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lit_restore.data.synthetic.person import Colour
from lit_restore.data.synthetic.seeds import random_state


@dataclass(frozen=True)
class Pose:
    """Degrees. Positive yaw turns the nose to image right, positive pitch up, positive roll clockwise."""

    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    """Residual misalignment of the crop as a share of its side."""
    scale: float


@dataclass(frozen=True)
class Expression:
    smile: float
    """-0.5 sad ... 1 broad smile."""
    mouth_open: float
    """0 ... 1."""
    eyes_open: float
    """0 closed ... 1.15 wide."""
    brow_raise: float
    gaze: tuple[float, float]
    """Iris offset, face units."""


@dataclass(frozen=True)
class Light:
    direction: tuple[float, float, float]
    """Unit vector to the key light: x image right, y down, z to the camera."""
    key: Colour
    """Linear colour of the key light ..."""
    fill: Colour
    """... and of the light from all around."""
    softness: float
    """0 hard sun ... 1 overcast."""


@dataclass(frozen=True)
class Background:
    kind: str
    """plain | bokeh | wall | foliage"""
    first: Colour
    second: Colour
    noise_seed: int


@dataclass(frozen=True)
class Camera:
    exposure: float
    white_balance: Colour
    contrast: float
    noise: float
    noise_offset: tuple[float, float]
    """Where in the fixed noise tile this photo's grain begins, shares of its side."""


@dataclass(frozen=True)
class Nuisance:
    pose: Pose
    expression: Expression
    light: Light
    background: Background
    camera: Camera
    clothes: Colour
    collar: float
    """0 wide neckline ... 1 high collar."""


def nuisance(seed: int, identity: int, image: int) -> Nuisance:
    """The circumstances of photo number ``image`` of a person; all arguments at least 0."""
    rng = random_state("nuisance", seed, identity, image)
    return Nuisance(
        pose=_pose(rng),
        expression=_expression(rng),
        light=_light(rng),
        background=_background(rng),
        camera=_camera(rng),
        clothes=_muted(rng, 0.06, 0.8),
        collar=float(rng.random_sample()),
    )


def _cut_normal(rng: np.random.RandomState, std: float, limit: float) -> float:
    return float(min(max(rng.normal() * std, -limit), limit))  # np.clip is slow on single numbers


def _pose(rng: np.random.RandomState) -> Pose:
    return Pose(
        yaw=_cut_normal(rng, 17.0, 36.0),
        pitch=_cut_normal(rng, 6.0, 15.0),
        roll=_cut_normal(rng, 3.5, 10.0),
        shift=(_cut_normal(rng, 0.008, 0.02), _cut_normal(rng, 0.008, 0.02)),
        scale=float(np.exp(_cut_normal(rng, 0.02, 0.05))),
    )


def _expression(rng: np.random.RandomState) -> Expression:
    mood = rng.random_sample()
    smile = rng.uniform(0.45, 1.0) if mood < 0.45 else rng.uniform(-0.35, 0.35)
    opened = rng.random_sample()
    mouth_open = rng.uniform(0.12, 0.55) if opened < 0.38 else (rng.uniform(0.55, 1.0) if opened < 0.46 else 0.0)
    eyes = rng.random_sample()
    eyes_open = 0.0 if eyes < 0.03 else (rng.uniform(0.35, 0.8) if eyes < 0.2 else rng.uniform(0.85, 1.12))
    return Expression(
        smile=float(smile),
        mouth_open=float(mouth_open),
        eyes_open=float(eyes_open - 0.12 * max(0.0, smile) * (eyes_open > 0.5)),
        brow_raise=_cut_normal(rng, 0.35, 0.9),
        gaze=(_cut_normal(rng, 0.022, 0.05), _cut_normal(rng, 0.008, 0.018)),
    )


def _light(rng: np.random.RandomState) -> Light:
    azimuth = np.radians(_cut_normal(rng, 38.0, 80.0))
    elevation = np.radians(rng.uniform(5.0, 60.0))
    direction = (
        float(np.sin(azimuth) * np.cos(elevation)),
        float(-np.sin(elevation)),
        float(np.cos(azimuth) * np.cos(elevation)),
    )
    warmth = _cut_normal(rng, 0.07, 0.16)
    ratio = float(rng.uniform(0.28, 0.65))  # fill against key: dramatic ... flat
    sky = _cut_normal(rng, 0.06, 0.12)
    key, fill = 1.22 * (1.18 - ratio), 1.05 * ratio
    return Light(
        direction=direction,
        key=(key * (1 + warmth), key, key * (1 - warmth)),
        fill=(fill * (1 - sky), fill, fill * (1 + sky)),
        softness=float(rng.uniform(0.15, 1.0)),
    )


def _muted(rng: np.random.RandomState, low: float, high: float) -> Colour:
    """A colour of random brightness and mostly low saturation, sRGB."""
    value = rng.uniform(low, high)
    hue, saturation = rng.uniform(0, 2 * np.pi), 0.42 * rng.random_sample() ** 1.5
    wheel = np.cos(hue - np.array([0.0, 2.1, 4.2]))
    return tuple(float(c) for c in np.clip(value * (1 + saturation * wheel), 0.02, 0.98))


def _background(rng: np.random.RandomState) -> Background:
    kind = ("plain", "bokeh", "wall", "foliage")[rng.randint(4)]
    first = _muted(rng, 0.12, 0.9)
    second = tuple(float(c) for c in np.clip(np.array(_muted(rng, 0.12, 0.9)) * 0.6 + np.array(first) * 0.4, 0, 1))
    return Background(kind=kind, first=first, second=second, noise_seed=int(rng.randint(1 << 30)))


def _camera(rng: np.random.RandomState) -> Camera:
    warm = _cut_normal(rng, 0.025, 0.06)
    return Camera(
        exposure=float(np.exp(_cut_normal(rng, 0.10, 0.22))),
        white_balance=(1 + warm, 1.0, 1 - warm),
        contrast=float(rng.uniform(0.0, 0.5)),
        noise=float(rng.uniform(0.002, 0.012)),
        noise_offset=(float(rng.random_sample()), float(rng.random_sample())),
    )
