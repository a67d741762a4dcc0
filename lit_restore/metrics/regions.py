"""Error by region: eyes, mouth, and the rest of the picture; lower is better.

    error_R = mean over the pixels of R and the three channels of |restored - truth|,   in 8-bit levels

Eyes and mouth decide who somebody is, but are 7 % of an aligned picture, so means over whole pictures hardly see them.
A region is an ellipse that turns and grows with the face; d is the distance of the eyes:

    eye      around its centre          half axes 0.32 d along the line of the eyes, 0.20 d across
    mouth    between its corners        half axes half its width + 0.10 d, 0.26 d across
"""

from __future__ import annotations

import numpy as np
import torch

from lit_restore.faces.detect import find_faces
from lit_restore.faces.points import Points, detected_points, landmark_points, template_points
from lit_restore.metrics.measurement import NO_LANDMARKS, NO_TRUTH, MetricInfo, Values, unit, with_reasons
from lit_restore.types import RestorationBatch

REGIONS = ("eyes", "mouth", "rest")
COLUMNS = {f"error_{name}": MetricInfo(f"Error, {name}", False, "{:.2f}", "8-bit levels") for name in REGIONS}

EYE_ALONG, EYE_ACROSS = 0.32, 0.20
MOUTH_ALONG, MOUTH_ACROSS = 0.10, 0.26


class RegionError:
    """Columns ``error_eyes``, ``error_mouth`` and ``error_rest``.

    Args:
        points: where the five points of the truth come from.

    Raises:
        UserError: ``detect`` without the detector's weights.
    """

    columns = COLUMNS

    def __init__(self, points: Points = "target") -> None:
        self.points: Points = points
        self.protocol = {"regions": "ellipses by five points", "points": f"{points}, of the truth", "colour": "RGB"}
        if points == "detect":
            find_faces(np.zeros((64, 64, 3), np.uint8))  # says now that weights are missing

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        hq = batch["hq"].to(restored.device)
        errors = (unit(restored) - unit(hq)).abs().mean(1).double().cpu().numpy() * 255  # (B, H, W)
        places, present = self._places(batch)
        missing = "no face found in the truth" if self.points == "detect" else f"{NO_LANDMARKS} of the truth"
        numbers, reasons = {name: [] for name in REGIONS}, []
        for error, points5, there, known in zip(errors, places, present, batch["has_hq"].tolist(), strict=True):
            usable = there and known
            masks = region_masks(points5, *error.shape) if usable else {}
            for name in REGIONS:
                inside = error[masks[name]] if usable else error[:0]
                numbers[name].append(float(inside.mean()) if inside.size else np.nan)
            reasons.append("outside of the picture" if usable else missing if known else NO_TRUTH)
        return {f"error_{name}": with_reasons(torch.tensor(values), reasons) for name, values in numbers.items()}

    def _places(self, batch: RestorationBatch) -> tuple[np.ndarray, np.ndarray]:
        if self.points == "target":
            return landmark_points(batch["landmarks"], batch["landmark_mask"])
        return detected_points(batch["hq"]) if self.points == "detect" else template_points(batch["hq"])


def region_masks(points5: np.ndarray, height: int, width: int) -> dict[str, np.ndarray]:
    """Which pixels belong to `REGIONS`: (height, width) bool each, everything in exactly one.

    Args:
        points5: (5, 2) x, y in pixels: eyes, nose tip, mouth corners.
    """
    left_eye, right_eye, _, *corners = points5
    along = right_eye - left_eye
    distance = float(np.linalg.norm(along))
    along = along / distance
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)

    def ellipse(centre: np.ndarray, half_along: float, half_across: float) -> np.ndarray:
        offset = pixels - centre
        across = np.array([-along[1], along[0]])
        return (offset @ along / half_along) ** 2 + (offset @ across / half_across) ** 2 <= 1

    eyes = np.zeros((height, width), bool)
    for eye in (left_eye, right_eye):
        eyes |= ellipse(eye, EYE_ALONG * distance, EYE_ACROSS * distance)
    half_mouth = float(np.linalg.norm(corners[1] - corners[0])) / 2
    mouth = ellipse(np.mean(corners, axis=0), half_mouth + MOUTH_ALONG * distance, MOUTH_ACROSS * distance) & ~eyes
    return {"eyes": eyes, "mouth": mouth, "rest": ~eyes & ~mouth}
