"""Hair styles as numbers: where the hair begins, how far it reaches and how thick it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class HairStyle:
    """Lengths in face units (see `person`); y grows downwards, the brows lie near -0.87, the chin at 0.91."""

    angular: float
    """Share of this style among angular faces ..."""
    soft: float
    """... and among soft ones."""
    front_y: float = -1.42
    """Height of the hairline above the nose."""
    recede: float = 0.0
    """How much higher the hairline is above the outer brows."""
    sweep: float = 0.0
    """Slope of the hairline: a fringe combed to one side (sign: which)."""
    side: float = 0.12
    """How far forward the hair reaches at the temples (depth of the head's unit normal)."""
    side_bottom: float = -0.25
    """Where the hair in front of the ear ends."""
    volume: float = 0.10
    """Thickness on top ..."""
    side_volume: float = 0.05
    """... and at the sides."""
    curl: float = 0.0
    """0 straight ... 1 tight curls: grain and a bumpy outline."""
    back_bottom: float = -9.0
    """Hair that hangs behind the neck down to here; -9 for none."""
    back_width: float = 1.15
    covers_ears: bool = False
    density: float = 1.0
    """0 bald ... 1 opaque."""
    flow: str = "back"
    """How strands run: back (away from the face) | fall (from the crown) | frame (parted, around the face)."""

    def jittered(self, rng: np.random.RandomState) -> HairStyle:
        """This style as one person wears it."""
        unit = np.clip(rng.normal(size=6), -2, 2)
        mirror = 1.0 if rng.random_sample() < 0.5 else -1.0
        return replace(
            self,
            front_y=float(self.front_y + 0.04 * unit[0]),
            recede=float(max(0.0, self.recede + 0.05 * unit[1])),
            sweep=float(mirror * (self.sweep + 0.04 * unit[2])),
            volume=float(self.volume * (1 + 0.18 * unit[3])),
            side_volume=float(self.side_volume * (1 + 0.2 * unit[4])),
            back_width=float(self.back_width * (1 + 0.05 * unit[5])),
        )


_LONG = {"back_bottom": 2.0, "covers_ears": True, "side": 0.38, "side_bottom": 0.75, "side_volume": 0.10}
_BOB = _LONG | {"back_bottom": 0.72, "back_width": 1.2}
_BOB_FRINGE = _LONG | {"back_bottom": 0.6}
_WAVY = _LONG | {"back_width": 1.32}
_SCARF = _LONG | {"side": 0.42, "side_bottom": 9.0, "side_volume": 0.09}

HAIR_STYLES: dict[str, HairStyle] = {
    "bald": HairStyle(0.8, 0.06, density=0.0, volume=0.0, side_volume=0.0),
    "buzz": HairStyle(1.2, 0.12, volume=0.015, side_volume=0.01, recede=0.06, density=0.8),
    "short": HairStyle(1.6, 0.35, volume=0.13, side_volume=0.035, recede=0.05),
    "swept": HairStyle(1.2, 0.5, front_y=-1.34, sweep=0.30, volume=0.19, side_volume=0.06),
    "short fringe": HairStyle(0.7, 0.5, front_y=-1.14, flow="fall", volume=0.12, side_volume=0.06, side=0.2),
    "receding": HairStyle(0.9, 0.05, front_y=-1.56, recede=0.20, volume=0.06, side_volume=0.05),
    "curly": HairStyle(0.8, 0.6, volume=0.24, side_volume=0.15, curl=0.85),
    "afro": HairStyle(0.5, 0.6, volume=0.40, side_volume=0.34, curl=1.0, side_bottom=0.05),
    "tied back": HairStyle(0.2, 1.1, front_y=-1.46, volume=0.06, side_volume=0.03),
    "bob": HairStyle(0.05, 0.9, front_y=-1.38, sweep=0.10, flow="frame", volume=0.14, **_BOB),
    "bob with fringe": HairStyle(0.03, 0.7, front_y=-1.0, flow="fall", volume=0.13, **_BOB_FRINGE),
    "long": HairStyle(0.15, 1.4, front_y=-1.42, sweep=0.06, flow="frame", volume=0.12, back_width=1.2, **_LONG),
    "long with fringe": HairStyle(0.05, 0.7, front_y=-1.0, flow="fall", volume=0.12, back_width=1.18, **_LONG),
    "long wavy": HairStyle(0.15, 1.0, sweep=0.10, flow="frame", volume=0.17, curl=0.45, **_WAVY),
    "headscarf": HairStyle(0.0, 0.35, front_y=-1.30, volume=0.10, **_SCARF),
}
