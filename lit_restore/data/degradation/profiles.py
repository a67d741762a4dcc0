"""Parameter ranges of the published degradations (degradations.md 1.4, 3, 4, 5): one literal table.

What the numbers mean is said in `lit_restore.data.degradation.profile_types`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lit_restore.data.degradation.profile_types import AnyProfile, Profile, SecondOrderProfile
from lit_restore.errors import UserError, nearest


def profile_names() -> list[str]:
    """Names `Degradation` accepts, in the order of the specification."""
    return list(PROFILES)


def find_profile(name: str) -> AnyProfile:
    """Raises: UserError: unknown name, with the nearest known one."""
    if name not in PROFILES:
        raise UserError("unknown degradation profile", found=repr(name), fix=nearest(str(name), PROFILES))
    return PROFILES[name]


_DIFFBIR_FACE = Profile(
    "diffbir_face", "DiffBIR face dataset [code], section 1.2", (0.1, 12), (1, 12), (0, 15), (30, 100)
)
_GFPGAN_RANGES: dict[str, Any] = {
    "sigma_px": (0.1, 10),
    "scale": (0.8, 8),
    "noise_sigma": (0, 20),
    "jpeg_quality": (60, 100),
    "round": True,
}
# Each of blur, noise and JPEG with DFDNet's probability (section 4).
_RANDOM_COMBINATION = {"blur_probability": 0.9, "noise_probability": 0.9, "jpeg_probability": 0.6}


def _super_resolution(factor: int, *, combination: bool) -> Profile:
    """DiffBIR's ranges at a fixed scale: our reading of InstantRestore's Table 6 (section 4, inferred)."""
    name = f"sr_x{factor}" + ("_random_combination" if combination else "")
    extra = _RANDOM_COMBINATION if combination else {}
    source = "InstantRestore Table 6 [inferred], section 4"
    return replace(_DIFFBIR_FACE, name=name, source=source, scale=(factor, factor), **extra)


_ALL: tuple[AnyProfile, ...] = (
    _DIFFBIR_FACE,
    Profile("codeformer_stage2", "CodeFormer [code]", (1, 15), (4, 30), (0, 20), (30, 80), round=True),
    Profile("codeformer_stage3_small", "CodeFormer [code]", (0.1, 10), (1, 12), (0, 15), (60, 100), round=True),
    Profile("codeformer_stage3_large", "CodeFormer [code]", (1, 15), (4, 30), (0, 20), (30, 80), round=True),
    Profile(
        "gfpgan",
        "GFPGAN [code]; the only one that changes the colours of the LQ image",
        color_shift_probability=0.3,
        color_jitter_probability=0.3,
        gray_probability=0.01,
        **_GFPGAN_RANGES,
    ),
    Profile("vqfr", "VQFR [code]", **_GFPGAN_RANGES),
    # RestoreFormer++ adds an "uneven" class of degradations that the specification does not describe.
    Profile("restoreformer", "RestoreFormer(++) [code]", kernel_sizes=(39, 41), **_GFPGAN_RANGES),
    # The public code computes in float64 up to JPEG; here float32, which differs only on rounding ties.
    Profile("reflm_train", "ReF-LDM [paper][code]", (0, 16), (1, 32), (0, 20), (30, 100), round=True),
    Profile("ffhqref_moderate", "ReF-LDM [paper]", (0, 8), (1, 8), (0, 15), (60, 100), round=True),
    # A comment in the public code says r 16-32 and noise 0-15 instead (section 5.1); the paper is followed.
    Profile("ffhqref_severe", "ReF-LDM [paper]", (8, 16), (8, 32), (0, 20), (30, 100), round=True),
    Profile("faceme", "FaceMe [code]", (0.2, 10), (1, 16), (0, 15), (30, 100)),
    # Section 3.1. Its HQ augmentation (gray 0.1, jitter 0.3) belongs to the data set, not to the degradation.
    # No anti-aliasing as in the pinned environment; `antialias: true` gives what torchvision >= 0.17 does.
    Profile(
        "instantrestore_code",
        "InstantRestore training [code], section 3.1",
        (0.1, 12),
        (1, 13),
        (10, 20),
        (10, 20),
        families={"aniso": 1.0},
        integer_scale=True,
        jpeg_channel_order="bgr",
    ),
    # Order and JPEG as measured on the 18 released inputs; their blur, noise and scale ranges are unknown: DiffBIR's.
    Profile(
        "instantrestore_eval",
        "InstantRestore released inputs [measured], section 3.4",
        (0.1, 12),
        (1, 12),
        (0, 15),
        (30, 60),
        families={"iso": 1.0},
        order=("blur", "noise", "down", "up", "jpeg"),
        jpeg_codec="diffjpeg",
        round=True,
    ),
    # Unconfirmed: from a third-party re-implementation (section 5.3).
    Profile("osdface", "OSDFace [secondary]", (0.1, 10), (0.8, 16), (0, 15), (40, 95), num_stages=2),
    SecondOrderProfile("realesrgan", "Real-ESRGAN; DiffBIR v2.1 stage 2 [code], section 2"),
    *(_super_resolution(factor, combination=False) for factor in (4, 8, 16)),
    *(_super_resolution(factor, combination=True) for factor in (4, 8, 16)),
)

PROFILES: dict[str, AnyProfile] = {profile.name: profile for profile in _ALL}
