"""Version of a record and of the libraries that decide its bits (degradations.md section 6.4)."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from lit_restore.data.degradation.operations import BLUR_ALGORITHM
from lit_restore.errors import UserError

RECORD_VERSION = 1


def record_header(profile: str, *packages: str) -> dict[str, Any]:
    """The first fields of a record; ``packages``: distributions it needs beyond NumPy and OpenCV."""
    return {"version": RECORD_VERSION, "profile": profile, "libraries": dict(library_versions(*packages))}


@functools.cache
def library_versions(*packages: str) -> Mapping[str, str]:
    """What has to be the same for identical bits (section 6.4); ``packages`` beyond those every record needs."""
    found = re.search(r"^\s*JPEG:\s*(.+)$", cv2.getBuildInformation(), re.MULTILINE)
    return {
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "jpeg": found.group(1).strip() if found else "unknown",
        "blur": BLUR_ALGORITHM,
        **{package: importlib.metadata.version(package) for package in packages},
    }


def check_record(record: Mapping[str, Any], *, exact: bool) -> None:
    """Refuse what this version of the package cannot re-create.

    Raises:
        UserError: not a record, a record of a later version, or, when ``exact``, one made with other libraries.
    """
    version = record.get("version") if isinstance(record, Mapping) else None
    if not isinstance(version, int):
        raise UserError("not a degradation record", expected="a dict with a version", found=f"{record!r:.60}")
    if version > RECORD_VERSION:
        raise UserError(
            "degradation record of a later version",
            expected=f"at most {RECORD_VERSION}",
            found=version,
            fix="Update lit_restore.",
        )
    if not exact:
        return
    then = record.get("libraries", {})
    now = library_versions(*(package for package in ("torch", "scipy") if package in then))
    different = [name for name in now if then.get(name) != now[name]]
    if different:
        raise UserError(
            "degradation record cannot be re-created bit for bit with other libraries",
            expected=", ".join(f"{name} {then.get(name)}" for name in different),
            found=", ".join(f"{name} {now[name]}" for name in different),
            fix="Install those versions, or ask for the nearest result with exact=False.",
        )
