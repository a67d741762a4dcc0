"""What made a restoration: everything that somebody else needs to make it again."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from lit_restore import __version__
from lit_restore.errors import UserError

if TYPE_CHECKING:
    from lit_restore.inference.restorer import Restorer


def about(restorer: Restorer) -> dict[str, str]:
    """Networks, device and versions, in words."""
    generator, identity = restorer.generator, restorer.identity
    iteration = generator.origin.get("iteration")
    trained = "" if iteration is None else f", trained for {iteration} iterations"
    return {
        "trained weights": f"{generator.weights_fingerprint}{trained}",
        "base": f"{generator.config.base} ({generator.base_fingerprint})",
        "resolution": f"{restorer.size_px} x {restorer.size_px} px per face",
        "precision": f"{str(generator.dtype).removeprefix('torch.')} on {restorer.device}",
        "face detector": _detector(restorer),
        "recognition network": (
            "none" if identity is None else f"{identity.network.name}, same person from {identity.threshold:.2f} on"
        ),
        "versions": ", ".join(
            [f"lit_restore {__version__}"]
            + [f"{name} {version(name)}" for name in ("torch", "diffusers")]
            + [f"Python {platform.python_version()}"]
        ),
    }


def _detector(restorer: Restorer) -> str:
    try:
        return str(restorer.finder.settings["detector"])
    except UserError:
        return "none"
