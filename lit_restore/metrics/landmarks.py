"""Landmark distance (LMD): how far the restored face's features lie from where they should be; lower is better.

    LMD = mean_k |p_k(restored) - p_k(truth)|,    in pixels of a 512 px picture

over the 68 points p_k of one landmark network (iBUG order), which looks at both pictures; besides, over the points of
the eyes and of the mouth alone. Not every paper says which points and which scale it takes, so compare within a table.
"""

from __future__ import annotations

import numpy as np
import torch

from lit_restore.faces.detect import detector_version, find_faces
from lit_restore.faces.weights import LANDMARKS68, missing
from lit_restore.image import to_uint8
from lit_restore.metrics.measurement import NO_TRUTH, MetricInfo, Values, with_reasons
from lit_restore.types import RestorationBatch

FRAME_PX = 512
PARTS = {"landmark_distance": slice(0, 68), "landmark_distance_eyes": slice(36, 48)}
PARTS |= {"landmark_distance_mouth": slice(48, 68)}
COLUMNS = {
    "landmark_distance": MetricInfo("LMD", False, "{:.2f}", "px"),
    "landmark_distance_eyes": MetricInfo("LMD eyes", False, "{:.2f}", "px"),
    "landmark_distance_mouth": MetricInfo("LMD mouth", False, "{:.2f}", "px"),
}


class LandmarkDistance:
    """Columns ``landmark_distance``, ``landmark_distance_eyes`` and ``landmark_distance_mouth``.

    Of several faces in a picture the largest counts.

    Raises:
        UserError: there are no weights of a detector and a 68-point network.
    """

    columns = COLUMNS

    def __init__(self) -> None:
        find_faces(np.zeros((64, 64, 3), np.uint8))  # says now that weights are missing
        version = detector_version()
        if version.startswith("retinaface") and "+68" not in version:
            raise missing([LANDMARKS68])
        self.protocol = {"points": f"68, {version}, largest face", "unit": f"px of a {FRAME_PX} px picture"}

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        distances = np.full((len(restored), 68), np.nan)
        reasons = []
        for index, (image, hq, known) in enumerate(zip(restored, batch["hq"], batch["has_hq"].tolist(), strict=True)):
            one, truth = find_68(image), find_68(hq) if known else None
            if not known:
                reasons.append(NO_TRUTH)
            elif one is None or truth is None:
                reasons.append(f"no face found in the {'truth' if truth is None else 'restoration'}")
            else:
                reasons.append("")
                distances[index] = np.linalg.norm(one - truth, axis=1) * FRAME_PX / image.shape[-1]
        return {
            name: with_reasons(torch.from_numpy(distances[:, part].mean(1)), reasons) for name, part in PARTS.items()
        }


def find_68(image: torch.Tensor) -> np.ndarray | None:
    """(68, 2) of the largest face in a picture (3, H, W) in [-1, 1]; None = no face."""
    faces = find_faces(to_uint8(image), device=str(image.device))
    return faces[0].points68 if faces else None
