"""Is it the same person? Cosines of face vectors between restoration, truth and reference.

    gt      <f(restored), f(truth)>            higher is better
    angle   arccos of it, in degrees           "Deg." of the blind methods' tables
    ref     <f(restored), f(reference)>        higher is better, but not above:
    ref_gt  <f(reference), f(truth)>           how alike two photos of this person are in the first place

A restoration that copies its reference beats the truth in ``ref``, so ``ref`` never comes without ``ref_gt``.

``f`` is the unit vector of a recognition network on its own crop (`lit_restore.models.recognition`). Networks differ by
tenths of a cosine; only numbers of the same one can be compared.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from lit_restore.faces.crop import crop_faces
from lit_restore.faces.detect import find_faces
from lit_restore.faces.points import Points, detected_points, landmark_points, template_points
from lit_restore.metrics.measurement import NO_LANDMARKS, NO_TRUTH, MetricInfo, Values, with_reasons
from lit_restore.models.recognition import Recognizer
from lit_restore.types import RestorationBatch

Reference = Literal["first", "mean"]
"""Which references ``ref`` and ``ref_gt`` look at: the first one, which stays the same when a method is given more of
them (so do the published Ref- scores), or the mean of the cosines with all."""

INFOS = {
    "gt": ("ID ({})", True, "{:.3f}", "cosine"),
    "angle": ("Deg. ({})", False, "{:.2f}", "degree"),
    "ref": ("Ref-ID ({})", True, "{:.3f}", "cosine"),
    "ref_gt": ("Ref-truth ({})", None, "{:.3f}", "cosine"),
}
NO_REFERENCE = "no reference"


def identity_columns(label: str, network: str) -> dict[str, MetricInfo]:
    """The columns of a network.

    Args:
        label: what it is called in column names.
        network: what it is called in titles.
    """
    return {
        f"id_{label}_{name}": MetricInfo(title.format(network), better, form, unit)
        for name, (title, better, form, unit) in INFOS.items()
    }


class FaceVectors:
    """A recognition network and where its crop lies in a picture.

    Args:
        points: where the five points of the crop come from; see `Points`.

    Attributes:
        protocol: network, weights and crop.

    Raises:
        UserError: ``detect`` without the detector's weights.
    """

    def __init__(self, network: Recognizer, points: Points = "target") -> None:
        self.network = network
        self.points: Points = points
        self.protocol = network.protocol(points)
        if points == "detect" and network.crop is not None:
            find_faces(np.zeros((64, 64, 3), np.uint8))  # says now that weights are missing

    def __call__(
        self, images: torch.Tensor, landmarks: torch.Tensor, landmark_mask: torch.Tensor
    ) -> tuple[torch.Tensor, list[str]]:
        """Unit vectors (B, D) float64 on the CPU, and for every image why it would have none ("" = it has one).

        Args:
            images: (B, 3, H, W) in [-1, 1].
            landmarks, landmark_mask: (B, L, 2) and (B, L); those of the truth for a restoration.
        """
        images = images.float().clamp(-1, 1)
        network = self.network.to(images.device)
        if network.crop is None:
            return _normalise(network(images)), [""] * len(images)
        places, present = self._places(images, landmarks, landmark_mask)
        missing = "no face found" if self.points == "detect" else NO_LANDMARKS
        vectors = torch.full((len(images), 1), torch.nan, dtype=torch.float64)
        if present.any():
            found = network(crop_faces(images[torch.from_numpy(present)], places[present], network.crop))
            vectors = vectors.repeat(1, found.shape[1])
            vectors[torch.from_numpy(present)] = _normalise(found)
        return vectors, ["" if there else missing for there in present]

    def _places(
        self, images: torch.Tensor, landmarks: torch.Tensor, landmark_mask: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.points == "target":
            return landmark_points(landmarks, landmark_mask)
        return detected_points(images) if self.points == "detect" else template_points(images)


class Identity:
    """Columns ``id_LABEL_gt``, ``_angle``, ``_ref`` and ``_ref_gt``.

    Args:
        vectors: of faces.
        label: what the network is called in column names.
        columns: from `identity_columns`.
        reference: see `Reference`.
    """

    def __init__(
        self, vectors: FaceVectors, label: str, columns: dict[str, MetricInfo], reference: Reference = "first"
    ) -> None:
        self.vectors, self.label, self.reference, self.columns = vectors, label, reference, columns
        self.protocol = vectors.protocol | {"reference": reference}

    @torch.no_grad()
    def __call__(self, restored: torch.Tensor, batch: RestorationBatch) -> dict[str, Values]:
        landmarks = batch["landmarks"], batch["landmark_mask"]
        one, why_one = self.vectors(restored, *landmarks)
        truth, why_truth = self.vectors(batch["hq"].to(restored.device), *landmarks)
        known = batch["has_hq"].tolist()
        why_one = [why and f"{why} in the restoration" for why in why_one]
        why_truth = [
            (why and f"{why} in the truth") if there else NO_TRUTH for why, there in zip(why_truth, known, strict=True)
        ]
        truth = torch.where(batch["has_hq"].cpu()[:, None], truth, torch.nan)
        cosine = (one * truth).sum(1)
        to_reference, reference_to_truth, why_reference = self._references(restored.device, batch, one, truth)
        columns = {
            "gt": (cosine, _either(why_one, why_truth)),
            "angle": (cosine.clamp(-1, 1).arccos().rad2deg(), _either(why_one, why_truth)),
            "ref": (to_reference, _either(why_one, why_reference)),
            "ref_gt": (reference_to_truth, _either(why_truth, why_reference)),
        }
        return {f"id_{self.label}_{name}": with_reasons(*values) for name, values in columns.items()}

    def _references(
        self, device: torch.device, batch: RestorationBatch, one: torch.Tensor, truth: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Cosines (B,) of restoration and truth with the references, and why there would be none."""
        mask = batch["reference_mask"].cpu()
        if self.reference == "first":
            mask = mask & (mask.cumsum(1) == 1)
        sums, counts = torch.zeros(2, len(one), dtype=torch.float64), torch.zeros(len(one))
        reasons = [NO_REFERENCE] * len(one)
        for index in range(mask.shape[1]):
            rows = mask[:, index].nonzero().flatten()
            if len(rows) == 0:
                continue
            there = rows.to(batch["references"].device)
            fields = ("references", "reference_landmarks", "reference_landmark_mask")
            images, *landmarks = (batch[name][there, index] for name in fields)
            vectors, why = self.vectors(images.to(device), *landmarks)
            for row, vector, reason in zip(rows.tolist(), vectors, why, strict=True):
                if reason:
                    reasons[row] = f"{reason} in the reference"
                else:
                    sums[:, row] += torch.stack([one[row] @ vector, truth[row] @ vector])
                    counts[row] += 1
        return *(sums / counts), reasons  # 0 / 0 is NaN


def _normalise(vectors: torch.Tensor) -> torch.Tensor:
    """In double precision: single would leave an angle of 0.01 degrees between equal pictures."""
    return F.normalize(vectors.double().cpu(), dim=1)


def _either(first: list[str], second: list[str]) -> list[str]:
    return [one or other for one, other in zip(first, second, strict=True)]
