"""The degradation as a step of an albumentations ``Compose`` (degradations.md section 8).

Albumentations repeats its random numbers in every worker and records whole noise fields; this transform draws nothing
itself: its parameters are the record of the sample.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Without this the package contacts a package index on import.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from albumentations import ImageOnlyTransform

from lit_restore.data.degradation import Degradation, degrade


class DegradationTransform(ImageOnlyTransform):
    """``Compose([..., DegradationTransform(degradation)])(image=hq, key="anna/003.png", epoch=2)["image"]``.

    uint8 RGB ``(H, W, 3)`` in, float32 RGB in ``[0, 1]`` out. ``key`` names the sample and is required; ``epoch``
    is 0 unless given. Transforms before this one must keep uint8.
    """

    def __init__(self, degradation: Degradation, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.degradation = degradation

    @property
    def targets_as_params(self) -> list[str]:
        return ["key"]

    def get_params_dependent_on_data(self, params: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """The record, drawn for the shape the image has at this point of the pipeline."""
        return {"record": self.degradation.record(data["key"], data.get("epoch", 0), params["shape"][:2])}

    def apply(self, img: np.ndarray, record: Mapping[str, Any], **params: Any) -> np.ndarray:
        """The degraded image."""
        return degrade(img, record)

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        return ("degradation",)
