"""Who is it? Cosines of a recognition network, and from which on they mean the same person.

The threshold comes from 83 real photos of 21 people, one of them blurred at a time and compared with the mean vector of
each person's other photos (face-reidentification-retail-0095, views of 256 px):

    the 512 px face shrunk by     1      4      8      8, noise, JPEG 40     12     16
    same person, lowest           0.68   0.66   0.64   0.61                  0.41   0.19
    same person, 5 % below        0.71   0.70   0.67   0.65                  0.50   0.38
    other people, 1 % above       0.25   0.25   0.24   0.25                  0.23   0.25
    other people, highest         0.38   0.37   0.35   0.37                  0.39   0.38

Blur lowers the right person's cosine and leaves the wrong ones' where they are: at 0.45 nobody was taken for somebody
else at any blur, nobody was refused up to 8, 2 % at 12 and 19 % at 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lit_restore.errors import UserError
from lit_restore.faces.crop import crop_faces
from lit_restore.faces.weights import locate, missing
from lit_restore.image import to_tensor
from lit_restore.models.recognition import PUBLIC, Recognizer, load_recognizer

MEASURED = "face_reid_0095"
THRESHOLDS = {PUBLIC[MEASURED].name: 0.45}
"""Network -> cosine from which on two faces count as one person's."""
DOUBT = 0.2
"""So far below the threshold a person may still be the right one, too blurred to be told."""
BLURRED_DOUBT = 0.35
"""So far below the threshold a face too blurred to be recognised may be and still be believed to be the one person
whose photos are given with it. Of 83 real photos degraded as ``ffhqref_severe``, the right person's cosine is 0.20 in
the middle, another's -0.01; at 0.45 - 0.35 = 0.10, 22 % of the right people are refused and 91 % of the wrong ones."""
MARGIN = 0.1
"""A face that is nearly as much like a second person is nobody's: on the photos above the right person led by 0.42 at
least up to a shrinking by 8, and where accepted by 0.14 at 16."""


class Identity:
    """A recognition network with its threshold.

    Args:
        network: of `lit_restore.models.recognition`.
        threshold: None = the one that was measured for this network.
        device: where it runs.

    Raises:
        UserError: nobody has measured a threshold for this network and none is given.
    """

    def __init__(self, network: Recognizer, threshold: float | None = None, device: str | torch.device = "cpu") -> None:
        if threshold is None and network.name not in THRESHOLDS:
            raise UserError(
                "no similarity is known from which on this network means the same person",
                where=network.name,
                fix="Say one (--threshold), or use the network it is known for: " + ", ".join(THRESHOLDS) + ".",
            )
        self.network = network.to(device)
        self.device = device
        self.threshold = THRESHOLDS[network.name] if threshold is None else threshold

    @property
    def fingerprint(self) -> str:
        """Tells networks apart."""
        return self.network.fingerprint

    @torch.inference_mode()
    def __call__(self, views: Sequence[np.ndarray], points5: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors (N, D) float64 of faces.

        Args:
            views: uint8 RGB (V, V, 3) each.
            points5: (5, 2) each, in pixels of the view.
        """
        vectors = []
        for view, points in zip(views, points5, strict=True):  # one by one: no result depends on the company
            image = to_tensor(view)[None].to(self.device)
            crop = self.network.crop
            face = image if crop is None else crop_faces(image, points[None], crop)
            vectors.append(self.network(face)[0].cpu().double().numpy())
        return np.stack([vector / np.linalg.norm(vector) for vector in vectors])


def find_identity(
    source: str | Path | None = None,
    *,
    threshold: float | None = None,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> Identity | UserError:
    """The recognition network, or, where none was asked for, the error that says why there is none.

    Args:
        source: as for `load_recognizer`; None = face-reidentification-retail-0095 if its file is at hand.
        threshold: as for `Identity`.
        weights: folder to look for the file in before the usual ones.

    Raises:
        UserError: ``source`` cannot be used.
    """
    if source is not None:
        return Identity(load_recognizer(str(source)), threshold, device)
    file = PUBLIC[MEASURED].file
    path = locate(file, weights)
    if path is None:
        return missing([file], weights, what="face recognition network")
    return Identity(load_recognizer(str(path)), threshold, device)
