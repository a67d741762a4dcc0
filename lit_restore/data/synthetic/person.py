"""Who a synthetic person is: every lasting property of the head.

Lengths are in face units: half the width of an average face, about 29 % of the side of an aligned photo. x points
to image right, y down, z to the viewer; the face of `canonical_face.POINTS_68` lies in the same units.
Colours are sRGB in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

from lit_restore.data.synthetic.hair_styles import HairStyle

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Mole:
    x: float
    y: float
    radius: float
    """0.04 to 0.075: 2 to 3.75 % of the face width."""
    strength: float


@dataclass(frozen=True)
class Scar:
    x: float
    y: float
    angle: float
    length: float
    width: float


@dataclass(frozen=True)
class Birthmark:
    x: float
    y: float
    radius: float
    redness: float
    noise_seed: int


@dataclass(frozen=True)
class Details:
    """What only another photo of the person can tell."""

    moles: tuple[Mole, ...]
    freckles: float
    """Density, 0 for none to 1."""
    freckle_seed: int
    scar: Scar | None
    birthmark: Birthmark | None
    iris: Colour
    earring: str
    """none | stud | hoop"""


@dataclass(frozen=True)
class Head:
    width: float
    jaw: float
    cheeks: float
    forehead: float
    chin_width: float
    lower_length: float
    chin: float
    chin_cleft: float
    cheekbones: float
    cheek_hollow: float
    brow_ridge: float
    eye_depth: float
    ears: float


@dataclass(frozen=True)
class Nose:
    length: float
    width: float
    height: float
    bridge: float
    tip: float


@dataclass(frozen=True)
class Eyes:
    spacing: float
    size: float
    opening: float
    tilt: float
    crease: float
    iris_radius: float
    y: float


@dataclass(frozen=True)
class Brows:
    height: float
    thickness: float
    tilt: float
    arch: float
    density: float


@dataclass(frozen=True)
class Mouth:
    width: float
    upper: float
    lower: float
    bow: float
    y: float
    colour: Colour


@dataclass(frozen=True)
class Hair:
    style: str
    shape: HairStyle
    colour: Colour
    """Of the hair itself; also of brows and beard."""
    visible_colour: Colour
    """The same, or that of the headscarf."""
    noise_seed: int


@dataclass(frozen=True)
class Beard:
    style: str
    """none | stubble | moustache | goatee | short | full"""
    density: float
    colour: Colour


@dataclass(frozen=True)
class Glasses:
    style: str
    """none | round | oval | rectangle | aviator | cat-eye"""
    size: float
    rim: float
    colour: Colour


@dataclass(frozen=True)
class MakeUp:
    eyeliner: float
    shadow: float
    shadow_colour: Colour
    blush: float


@dataclass(frozen=True)
class Person:
    """One synthetic person; `dataclasses.asdict` gives plain JSON."""

    seed: int
    identity: int
    head: Head
    nose: Nose
    eyes: Eyes
    brows: Brows
    mouth: Mouth
    skin: Colour
    age: float
    """0 young adult to 1 old: lines and grey hair."""
    hair: Hair
    beard: Beard
    glasses: Glasses
    make_up: MakeUp
    details: Details
