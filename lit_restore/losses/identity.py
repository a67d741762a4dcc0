"""Identity loss: the restored face should be the same person as the true one (InstantRestore, eq. 8; section 9).

    L_id = mean over samples of 1 - <f(y), f(p)>,   f = unit vector of a frozen recognition network

for truth y and restoration p, both cut to the crop the network was trained on. Samples without face points do not
count; if none is left the loss is 0 and has no gradient.

The paper gives network (ArcFace) and weight (1). Its code finds the five points with MTCNN in both pictures; here the
default is the landmarks of the truth for both (see `lit_restore.faces.points.Points`), and detection is an option.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.detect import find_faces
from lit_restore.faces.points import Points
from lit_restore.models.recognition import load_recognizer

PATIENCE = 64
"""Samples without a single usable face after which the training is stopped: its data has no landmarks."""


@dataclass
class IdentityConfig:
    """The identity term; weight 0 leaves it out and its network unloaded."""

    weight: float = 0.0
    """Paper and official code: 1."""
    network: str | None = None
    """Recognition network: arcface (paper), another public name, a weight file, a folder, or bundled:NAME. Never the
    one that evaluates."""
    points: Points = "target"
    """Where the five points of the crop come from: target = landmarks of the truth; detect = a detector on both images
    (official code); template = where FFHQ-aligned faces have them. Of no account for networks of whole faces."""


class IdentityLoss(nn.Module):
    """1 - cosine between restored and true face.

    Args:
        config: which network, and where its crop comes from.

    Raises:
        UserError: the network, or the detector of ``points: detect``, is missing or damaged.
    """

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        if config.network is None:
            raise UserError(
                "the identity loss needs a recognition network",
                expected="arcface, a weight file, a folder, or bundled:NAME",
                fix="Set model.losses.identity.network, or model.losses.identity.weight to 0.",
            )
        self.network = load_recognizer(config.network)
        self.points: Points = config.points
        self.num_seen, self.num_found = 0, 0
        if self.points == "detect" and self.network.crop is not None:
            find_faces(np.zeros((64, 64, 3), np.uint8))  # says now, and not at the first step, that weights are missing

    @property
    def fingerprint(self) -> str:
        """Which weights train, so that others can evaluate."""
        return self.network.fingerprint

    def forward(
        self,
        restored: torch.Tensor,
        hq: torch.Tensor,
        landmarks: torch.Tensor | None,
        landmark_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] -> scalar in [0, 2].

        Args:
            landmarks, landmark_mask: (B, L, 2) and (B, L) of ``hq`` as in `lit_restore.types.RestorationBatch`; used
                by ``points: target`` only.

        Raises:
            UserError: no face had points since the training started.
        """
        cosine, found = self.network.compare(restored, hq, self.points, landmarks, landmark_mask)
        self.num_seen, self.num_found = self.num_seen + len(found), self.num_found + int(found.sum())
        if self.num_found == 0 and self.num_seen >= PATIENCE:
            raise UserError(
                "the identity loss found no face",
                where=f"the first {self.num_seen} photos, points: {self.points}",
                expected="landmarks whose first 68 are iBUG's" if self.points == "target" else "a face in each picture",
                fix="Run 'lit_restore prepare', or set model.losses.identity.points to template (aligned faces).",
            )
        return 1 - cosine.mean() if len(cosine) else restored.new_zeros(())
