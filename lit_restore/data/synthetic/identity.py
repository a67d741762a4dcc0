"""Drawing a person from (seed, identity): how often which faces, hair and marks occur.

Variety is wide and its parts are mostly independent; a few go together as they do in people (age and grey hair,
skin and hair tone, beard and angular features), never strictly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lit_restore.data.synthetic.hair_styles import HAIR_STYLES
from lit_restore.data.synthetic.person import (
    Beard,
    Birthmark,
    Brows,
    Colour,
    Details,
    Eyes,
    Glasses,
    Hair,
    Head,
    MakeUp,
    Mole,
    Mouth,
    Nose,
    Person,
    Scar,
)
from lit_restore.data.synthetic.seeds import random_state

# From very light to deep; a person lies anywhere on the line through them.
SKIN_TONES = (
    *((0.935, 0.795, 0.715), (0.900, 0.740, 0.640), (0.850, 0.670, 0.550), (0.775, 0.580, 0.450)),
    *((0.680, 0.490, 0.365), (0.550, 0.385, 0.285), (0.425, 0.295, 0.220), (0.325, 0.222, 0.170)),
)
HAIR_COLOURS = {
    "black": (0.105, 0.095, 0.095),
    "dark brown": (0.170, 0.110, 0.080),
    "brown": (0.300, 0.195, 0.125),
    "chestnut": (0.370, 0.200, 0.120),
    "auburn": (0.450, 0.170, 0.090),
    "ginger": (0.680, 0.330, 0.130),
    "dark blond": (0.530, 0.400, 0.240),
    "blond": (0.760, 0.620, 0.430),
    "grey": (0.550, 0.540, 0.530),
    "white": (0.850, 0.840, 0.820),
}
EYE_COLOURS = {
    "dark brown": (0.160, 0.090, 0.060),
    "brown": (0.330, 0.190, 0.100),
    "amber": (0.560, 0.360, 0.120),
    "hazel": (0.440, 0.400, 0.200),
    "green": (0.300, 0.480, 0.290),
    "grey": (0.470, 0.540, 0.580),
    "blue": (0.250, 0.460, 0.700),
    "light blue": (0.470, 0.680, 0.830),
}
# Places for moles that stay visible from most sides: cheeks, chin, forehead, temple, above the lip, jaw.
MOLE_PLACES = (
    *((-0.55, -0.12), (0.55, -0.12), (-0.40, 0.05), (0.40, 0.05), (-0.66, 0.14), (0.66, 0.14), (-0.30, -0.30)),
    *((0.30, -0.30), (-0.30, -1.12), (0.30, -1.12), (0.02, -1.18), (-0.56, -1.04), (0.56, -1.04), (-0.26, 0.10)),
    *((0.26, 0.10), (-0.25, 0.60), (0.25, 0.60), (0.06, 0.72), (-0.52, 0.38), (0.52, 0.38), (0.0, -0.92)),
    *((-0.72, -0.38), (0.72, -0.38), (-0.42, -0.40), (0.42, -0.40)),
)
BIRTHMARK_PLACES = ((-0.58, 0.02), (0.58, 0.02), (-0.42, -1.12), (0.42, -1.12), (-0.5, 0.36), (0.5, 0.36))
SCAR_PLACES = (
    *((-0.58, -0.28, 0.9), (0.58, -0.28, -0.9), (-0.48, -0.87, 1.2), (0.48, -0.87, -1.2)),
    *((-0.5, 0.22, 0.5), (0.5, 0.22, -0.5), (0.12, -1.1, 0.6), (-0.17, 0.56, -0.7)),
)


@lru_cache(maxsize=32)
def person(seed: int, identity: int) -> Person:
    """The person number ``identity`` of the population ``seed``; both at least 0."""
    rng = random_state("person", seed, identity)
    soft = float(np.clip(rng.normal(0.5, 0.33), 0, 1))  # 0 angular, bearded ... 1 soft, made up: one axis of variety
    age = float(np.clip(rng.beta(1.3, 2.0), 0, 1))
    tone = float(rng.uniform(0, len(SKIN_TONES) - 1))
    skin = _skin(rng, tone)
    head = _head(rng, soft)
    hair = _hair(rng, soft, age, tone)
    beard = _beard(rng, soft, hair.colour)
    return Person(
        seed=seed,
        identity=identity,
        head=head,
        nose=_nose(rng, soft),
        eyes=_eyes(rng, soft),
        brows=_brows(rng, soft),
        mouth=_mouth(rng, soft, skin, tone),
        skin=skin,
        age=age,
        hair=hair,
        beard=beard,
        glasses=_glasses(rng),
        make_up=_make_up(rng, soft, beard),
        details=_details(rng, soft, tone, hair, beard),
    )


def _normal(rng: np.random.RandomState, mean: float, std: float) -> float:
    """Normal, cut at two standard deviations."""
    return float(mean + std * np.clip(rng.normal(), -2, 2))


def _pick(rng: np.random.RandomState, weights: dict[str, float]) -> str:
    names, values = list(weights), np.array(list(weights.values()), dtype=float)
    return names[int(np.searchsorted(np.cumsum(values) / values.sum(), rng.random_sample()))]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(float(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def _jitter(rng: np.random.RandomState, colour: Colour, std: float) -> Colour:
    return tuple(float(np.clip(c + rng.normal() * std, 0.02, 0.98)) for c in colour)


def _skin(rng: np.random.RandomState, tone: float) -> Colour:
    low = min(int(tone), len(SKIN_TONES) - 2)
    colour = _mix(SKIN_TONES[low], SKIN_TONES[low + 1], tone - low)
    undertone = np.clip(rng.normal(), -2, 2) * 0.012  # rosy to golden
    return tuple(float(c + undertone * k) for c, k in zip(colour, (0.4, -0.7, 1.0), strict=True))


def _head(rng: np.random.RandomState, soft: float) -> Head:
    return Head(
        width=_normal(rng, 1.0, 0.035),
        jaw=_normal(rng, 0.05 - 0.10 * soft, 0.05),
        cheeks=_normal(rng, 0.0, 0.03),
        forehead=_normal(rng, 0.0, 0.03),
        chin_width=_normal(rng, 0.06 - 0.12 * soft, 0.06),
        lower_length=_normal(rng, 1.01 - 0.02 * soft, 0.04),
        chin=_normal(rng, 1.1 - 0.3 * soft, 0.3),
        chin_cleft=max(0.0, _normal(rng, 0.3 - 0.5 * soft, 0.5)),
        cheekbones=_normal(rng, 1.0, 0.45),
        cheek_hollow=max(0.0, _normal(rng, 0.9 - 0.5 * soft, 0.6)),
        brow_ridge=max(0.1, _normal(rng, 1.4 - 0.9 * soft, 0.35)),
        eye_depth=_normal(rng, 1.0, 0.25),
        ears=_normal(rng, 1.0, 0.13),
    )


def _nose(rng: np.random.RandomState, soft: float) -> Nose:
    return Nose(
        length=_normal(rng, 0.02 - 0.04 * soft, 0.045),
        width=_normal(rng, 1.06 - 0.10 * soft, 0.17),
        height=_normal(rng, 1.0, 0.17),
        bridge=_normal(rng, 1.0, 0.35),
        tip=_normal(rng, 0.0, 0.03),
    )


def _eyes(rng: np.random.RandomState, soft: float) -> Eyes:
    return Eyes(
        spacing=_normal(rng, 0.42, 0.022),
        size=_normal(rng, 0.97 + 0.10 * soft, 0.07),
        opening=_normal(rng, 0.97 + 0.14 * soft, 0.14),
        tilt=_normal(rng, 0.03 + 0.03 * soft, 0.06),
        crease=float(np.clip(_normal(rng, 0.7, 0.45), 0, 1)),
        iris_radius=_normal(rng, 0.078, 0.004),
        y=-0.615,
    )


def _brows(rng: np.random.RandomState, soft: float) -> Brows:
    return Brows(
        height=_normal(rng, 0.235 + 0.03 * soft, 0.025),
        thickness=max(0.034, _normal(rng, 0.066 - 0.020 * soft, 0.012)),
        tilt=_normal(rng, 0.02, 0.05),
        arch=_normal(rng, 0.045 + 0.02 * soft, 0.02),
        density=float(np.clip(_normal(rng, 0.85, 0.15), 0.45, 1)),
    )


def _mouth(rng: np.random.RandomState, soft: float, skin: Colour, tone: float) -> Mouth:
    natural = (0.76 - 0.065 * tone, 0.43 - 0.037 * tone, 0.42 - 0.030 * tone)
    colour = _jitter(rng, _mix(skin, natural, 0.55 + 0.3 * soft), 0.02)
    if rng.random_sample() < 0.45 * max(0.0, 2 * soft - 0.9):  # lipstick
        lipsticks = ((0.70, 0.10, 0.16), (0.80, 0.30, 0.40), (0.52, 0.12, 0.22), (0.78, 0.38, 0.30))
        colour = _jitter(rng, lipsticks[rng.randint(4)], 0.03)
    return Mouth(
        width=_normal(rng, 0.345, 0.032),
        upper=_normal(rng, 0.068 + 0.018 * soft + 0.004 * tone, 0.016),
        lower=_normal(rng, 0.092 + 0.022 * soft + 0.005 * tone, 0.018),
        bow=_normal(rng, 0.018, 0.010),
        y=_normal(rng, 0.265, 0.025),
        colour=colour,
    )


def _hair(rng: np.random.RandomState, soft: float, age: float, tone: float) -> Hair:
    weights = {name: style.angular * (1 - soft) + style.soft * soft for name, style in HAIR_STYLES.items()}
    weights["bald"] *= 0.4 + 1.6 * age
    weights["receding"] *= 0.4 + 1.6 * age
    weights["afro"] *= 0.35 if tone < 3.5 else 2.5
    style = _pick(rng, weights)
    dark = 1 / (1 + np.exp(-(tone - 2.6) * 1.6))  # darker skin: mostly, not always, darker hair
    light = 1 - dark
    colour_weights = {"black": 0.5 + 4 * dark, "dark brown": 1.2 + 1.5 * dark, "brown": 0.3 + 1.2 * light}
    colour_weights |= {"chestnut": 0.2 + 0.8 * light, "auburn": 0.05 + 0.5 * light, "ginger": 0.02 + 0.8 * light}
    colour_weights |= {"dark blond": 0.02 + light, "blond": 0.02 + 1.2 * light}
    colour_weights |= {"grey": 0.02 + 3.0 * max(0.0, age - 0.45), "white": 3.0 * max(0.0, age - 0.6)}
    colour = HAIR_COLOURS[_pick(rng, colour_weights)]
    colour = _jitter(rng, colour, 0.005 + 0.03 * colour[0])
    shape, visible = HAIR_STYLES[style].jittered(rng), colour
    if style == "headscarf":
        scarves = ((0.15, 0.2, 0.35), (0.5, 0.16, 0.22), (0.75, 0.7, 0.62), (0.2, 0.36, 0.33), (0.45, 0.35, 0.5))
        visible = _jitter(rng, scarves[rng.randint(5)], 0.04)
    return Hair(style, shape, colour, visible_colour=visible, noise_seed=int(rng.randint(1 << 30)))


def _beard(rng: np.random.RandomState, soft: float, hair: Colour) -> Beard:
    bearded = 0.62 * float(np.clip(1.25 - 2.5 * soft, 0, 1))
    weights = {"none": 1 - bearded} | dict.fromkeys(("stubble", "moustache", "goatee", "short", "full"), bearded / 5)
    colour = _mix(_jitter(rng, hair, 0.02), (0.22, 0.15, 0.12), 0.25)
    return Beard(style=_pick(rng, weights), density=float(rng.uniform(0.75, 1.0)), colour=colour)


def _glasses(rng: np.random.RandomState) -> Glasses:
    styles = {"none": 0.76, "round": 0.05, "oval": 0.04, "rectangle": 0.07, "aviator": 0.04, "cat-eye": 0.04}
    colours = ((0.06, 0.06, 0.07), (0.30, 0.16, 0.09), (0.72, 0.58, 0.30), (0.62, 0.62, 0.64), (0.45, 0.10, 0.14))
    colour = _jitter(rng, colours[rng.randint(5)], 0.02)
    rim = float(rng.uniform(0.018, 0.042))
    return Glasses(style=_pick(rng, styles), size=_normal(rng, 1.0, 0.06), rim=rim, colour=colour)


def _make_up(rng: np.random.RandomState, soft: float, beard: Beard) -> MakeUp:
    amount = max(0.0, 2 * soft - 0.9) * float(rng.random_sample()) * (beard.style == "none")
    shades = ((0.45, 0.30, 0.25), (0.35, 0.30, 0.42), (0.55, 0.38, 0.42), (0.30, 0.36, 0.40))
    return MakeUp(
        eyeliner=amount,
        shadow=amount * float(rng.uniform(0.2, 0.8)),
        shadow_colour=shades[rng.randint(4)],
        blush=float(rng.uniform(0.15, 0.5) + 0.5 * amount),
    )


def _details(rng: np.random.RandomState, soft: float, tone: float, hair: Hair, beard: Beard) -> Details:
    moles = _moles(rng, hair, beard)
    freckled = rng.random_sample() < (0.4 if tone < 3 else 0.12)
    scar, birthmark = _scar(rng), _birthmark(rng)
    eye_weights = {"dark brown": 1 + tone, "brown": 1.2 + 0.4 * tone} | dict.fromkeys(("amber", "hazel"), 0.6)
    eye_weights |= dict.fromkeys(("green", "grey", "blue", "light blue"), 0.9 if tone < 3 else 0.12)
    freckles = float(rng.uniform(0.45, 1.0)) if freckled else 0.0
    freckle_seed = int(rng.randint(1 << 30))
    iris = _jitter(rng, EYE_COLOURS[_pick(rng, eye_weights)], 0.02)
    earring = _pick(rng, {"none": 1.0, "stud": 0.08 + 0.35 * soft, "hoop": 0.04 + 0.3 * soft})
    if hair.shape.covers_ears:
        earring = "none"
    return Details(moles, freckles, freckle_seed, scar, birthmark, iris, earring)


def _moles(rng: np.random.RandomState, hair: Hair, beard: Beard) -> tuple[Mole, ...]:
    """One to four, well apart, where neither hair nor beard hides them."""
    places = [p for p in MOLE_PLACES if not _covered(p, hair, beard)]
    order = rng.permutation(len(places))
    count = 1 + int(np.searchsorted([0.35, 0.7, 0.9], rng.random_sample()))
    moles: list[Mole] = []
    for index in order[:count]:
        x, y = (float(c + rng.uniform(-0.03, 0.03)) for c in places[index])
        if all(np.hypot(x - m.x, y - m.y) > 0.25 for m in moles):
            moles.append(Mole(x, y, radius=float(rng.uniform(0.04, 0.075)), strength=float(rng.uniform(0.75, 1.0))))
    return tuple(moles)


def _scar(rng: np.random.RandomState) -> Scar | None:
    if rng.random_sample() >= 0.22:
        return None
    x, y, angle = SCAR_PLACES[rng.randint(len(SCAR_PLACES))]
    return Scar(x, y, _normal(rng, angle, 0.15), float(rng.uniform(0.18, 0.32)), float(rng.uniform(0.018, 0.028)))


def _birthmark(rng: np.random.RandomState) -> Birthmark | None:
    if rng.random_sample() >= 0.15:
        return None
    x, y = BIRTHMARK_PLACES[rng.randint(len(BIRTHMARK_PLACES))]
    radius, redness = float(rng.uniform(0.11, 0.2)), float(rng.random_sample())
    return Birthmark(x, y, radius, redness, noise_seed=int(rng.randint(1 << 30)))


def _covered(place: tuple[float, float], hair: Hair, beard: Beard) -> bool:
    """Whether hair or a beard would hide a mark at this place."""
    x, y = abs(place[0]), place[1]
    if y < hair.shape.front_y + 0.25 and y < -0.8:
        return True
    if x > 0.6 and hair.shape.covers_ears:
        return True
    if beard.style in ("short", "full", "stubble") and (y > 0.3 or (x > 0.6 and y > 0.1)):
        return True
    return beard.style != "none" and x < 0.35 and (y > 0.5 or 0.03 < y < 0.2)
