"""Synthetic degradations: an HQ face and a small record give an LQ face, bit for bit, anywhere.

>>> degradation = Degradation("diffbir_face", seed=0)
>>> record = degradation.record("anna/003.png", epoch=2, size_hw=(512, 512))
>>> lq = degrade(hq, record)  # doctest: +SKIP

Sources, formulas and figures: degradations.md, section numbers as given in the modules.
"""

from lit_restore.data.degradation.chain import degrade
from lit_restore.data.degradation.profile_types import Profile, SecondOrderProfile
from lit_restore.data.degradation.profiles import PROFILES, profile_names
from lit_restore.data.degradation.realesrgan import usm_sharpen
from lit_restore.data.degradation.record import Degradation

__all__ = [
    "PROFILES",
    "Degradation",
    "Profile",
    "SecondOrderProfile",
    "degrade",
    "profile_names",
    "usm_sharpen",
]
