"""What a degradation profile consists of, its validation, and overriding parts of it.

Ranges are uniform and half open, ``lo + (hi - lo) * u`` with ``u`` in ``[0, 1)``; integers are floored, so JPEG
``(30, 100)`` means 30..99. Sigmas of blurs are pixels of a 512 px face, noise sigmas are on the 0..255 scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lit_restore.data.degradation.kernels import SHAPED_FAMILIES
from lit_restore.errors import UserError, nearest

Range = tuple[float, float]
Probability = float

STEPS = ("blur", "down", "noise", "jpeg", "up")
JPEG_CODECS = ("libjpeg", "diffjpeg")
CHANNEL_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class Profile:
    """Ranges of a first-order degradation ``[(hq * k) down r + n]_JPEG up r`` (section 1.1)."""

    name: str
    source: str
    sigma_px: Range
    scale: Range
    noise_sigma: Range
    jpeg_quality: Range
    families: Mapping[str, Probability] = field(default_factory=lambda: {"iso": 0.5, "aniso": 0.5})
    kernel_sizes: tuple[int, ...] = (41,)
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    integer_scale: bool = False
    antialias: bool = False
    gray_noise_probability: Probability = 0.0
    jpeg_codec: str = "libjpeg"
    jpeg_channel_order: str = "rgb"
    order: tuple[str, ...] = STEPS
    blur_probability: Probability = 1.0
    noise_probability: Probability = 1.0
    jpeg_probability: Probability = 1.0
    color_shift_probability: Probability = 0.0
    color_jitter_probability: Probability = 0.0
    gray_probability: Probability = 0.0
    num_stages: int = 1
    round: bool = False

    def __post_init__(self) -> None:
        _check_common(self)
        if self.scale[0] <= 0:
            raise _bad(self, "scale", "a range above 0")
        if sorted(self.order) != sorted(STEPS):
            raise _bad(self, "order", f"each of {', '.join(STEPS)} once")
        if self.jpeg_codec not in JPEG_CODECS:
            raise _bad(self, "jpeg_codec", " or ".join(JPEG_CODECS))
        if self.jpeg_channel_order not in CHANNEL_ORDERS:
            raise _bad(self, "jpeg_channel_order", " or ".join(CHANNEL_ORDERS))
        if self.jpeg_codec == "diffjpeg":
            _check_diffjpeg_quality(self)
        if self.num_stages < 1:
            raise _bad(self, "num_stages", "at least 1")


@dataclass(frozen=True)
class SecondOrderProfile:
    """Ranges of the second-order degradation of Real-ESRGAN (section 2), both passes side by side."""

    name: str
    source: str
    sigma_px_first: Range = (0.2, 3.0)
    sigma_px_second: Range = (0.2, 1.5)
    families: Mapping[str, Probability] = field(
        default_factory=lambda: {
            "iso": 0.45,
            "aniso": 0.25,
            "generalized_iso": 0.12,
            "generalized_aniso": 0.03,
            "plateau_iso": 0.12,
            "plateau_aniso": 0.03,
        }
    )
    kernel_sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    sinc_probability: Probability = 0.1
    second_blur_probability: Probability = 0.8
    final_sinc_probability: Probability = 0.8
    enlarge_probability_first: Probability = 0.2
    shrink_probability_first: Probability = 0.7
    enlarge_first: Range = (1.0, 1.5)
    shrink_first: Range = (0.15, 1.0)
    enlarge_probability_second: Probability = 0.3
    shrink_probability_second: Probability = 0.4
    enlarge_second: Range = (1.0, 1.2)
    shrink_second: Range = (0.3, 1.0)
    gaussian_noise_probability: Probability = 0.5
    gray_noise_probability: Probability = 0.4
    noise_sigma_first: Range = (1.0, 30.0)
    noise_sigma_second: Range = (1.0, 25.0)
    poisson_scale_first: Range = (0.05, 3.0)
    poisson_scale_second: Range = (0.05, 2.5)
    jpeg_quality: Range = (30.0, 95.0)
    final_scale: int = 4
    usm: bool = True

    def __post_init__(self) -> None:
        _check_common(self)
        for key in ("enlarge_first", "shrink_first", "enlarge_second", "shrink_second"):
            if getattr(self, key)[0] <= 0:
                raise _bad(self, key, "a range above 0")
        for when in ("first", "second"):
            if getattr(self, f"enlarge_probability_{when}") + getattr(self, f"shrink_probability_{when}") > 1:
                raise _bad(self, f"shrink_probability_{when}", "at most 1 together with enlarging")
        _check_diffjpeg_quality(self)
        if self.final_scale < 1:
            raise _bad(self, "final_scale", "at least 1")


AnyProfile = Profile | SecondOrderProfile


def override(profile: AnyProfile, overrides: Mapping[str, Any] | None) -> AnyProfile:
    """The profile with some fields replaced; a single number stands for a fixed value of a range.

    The name gains the changed keys (``diffbir_face+scale``), so that records tell a changed profile from the original.

    Raises:
        UserError: unknown field, or a value that makes no sense for it.
    """
    if not overrides:
        return profile
    types = {item.name: item.type for item in fields(profile) if item.name not in ("name", "source")}
    changes = {}
    for key, value in overrides.items():
        if key not in types:
            raise UserError("unknown degradation setting", where=f"{profile.name}.{key}", fix=nearest(str(key), types))
        changes[key] = _coerce(profile, key, str(types[key]), value)
    return replace(profile, name=f"{profile.name}+{','.join(sorted(changes))}", **changes)


def _coerce(profile: AnyProfile, key: str, kind: str, value: Any) -> Any:
    """A value as YAML or a command line gives it -> the type of the field."""
    try:
        if kind == "Range":
            low, high = (value, value) if _is_number(value) else value
            return (float(low), float(high))
        if kind.startswith("Mapping"):
            return {str(name): float(share) for name, share in dict(value).items()}
        if kind.startswith("tuple"):
            return tuple(value) if not isinstance(value, (str, int)) else (value,)
        if kind == "Probability" and _is_number(value):
            return float(value)
        if kind == {bool: "bool", int: "int", str: "str"}.get(type(value)):
            return value
    except (TypeError, ValueError):
        pass
    expected = {"Range": "two numbers, low and high, or one fixed number"}.get(kind, kind)
    raise UserError("bad degradation setting", where=f"{profile.name}.{key}", expected=expected, found=repr(value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_common(profile: AnyProfile) -> None:
    for item in fields(profile):
        value = getattr(profile, item.name)
        if item.type == "Range" and not 0 <= value[0] <= value[1] < float("inf"):
            raise _bad(profile, item.name, "0 <= low <= high")
        if item.type == "Probability" and not 0 <= value <= 1:
            raise _bad(profile, item.name, "a probability, 0..1")
    low, high = profile.jpeg_quality
    if low < 1 or low > 100 or high > 101:
        raise _bad(profile, "jpeg_quality", "a range within 1..100 (high exclusive, so at most 101)")
    for key in ("beta_generalized", "beta_plateau"):
        if not getattr(profile, key)[0] <= 1 <= getattr(profile, key)[1]:
            raise _bad(profile, key, "a range around 1")
    sizes = profile.kernel_sizes
    if not sizes or any(not isinstance(size, int) or size < 1 or size % 2 == 0 for size in sizes):
        raise _bad(profile, "kernel_sizes", "odd numbers of pixels")
    for family, share in profile.families.items():
        if family not in SHAPED_FAMILIES:
            raise UserError(
                "unknown blur kernel family",
                where=f"{profile.name}.families",
                found=family,
                fix=nearest(family, SHAPED_FAMILIES),
            )
        if not 0 <= share <= 1:
            raise _bad(profile, "families", "probabilities, 0..1")
    if abs(sum(profile.families.values()) - 1) > 1e-9:
        raise _bad(profile, "families", "probabilities that add up to 1")


def _check_diffjpeg_quality(profile: AnyProfile) -> None:
    if profile.jpeg_quality[0] >= 100 or profile.jpeg_quality[1] > 100:
        raise _bad(profile, "jpeg_quality", "below 100, where DiffJPEG's quantisation step is 0")


def _bad(profile: AnyProfile, key: str, expected: str) -> UserError:
    return UserError(
        "bad degradation setting",
        where=f"{profile.name}.{key}",
        expected=expected,
        found=repr(getattr(profile, key)),
    )
