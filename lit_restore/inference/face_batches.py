"""Faces through the networks, several at a time.

Faces with equally many references go together, so nothing has to be padded, and each is computed as it would be alone:
the same noise, its own references. Only rounding depends on the company, since kernels differ between batch sizes; a
batch of one has none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from lit_restore.errors import UserError
from lit_restore.image import to_tensor
from lit_restore.inference.found_faces import FoundFace
from lit_restore.inference.matching import Match
from lit_restore.inference.people import Candidate
from lit_restore.inference.reference_keys import reference_keys
from lit_restore.inference.report import FaceReport
from lit_restore.inference.restored import Settings
from lit_restore.inference.strength import restore_faces
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.models.reference_cache import ReferenceCache
from lit_restore.models.reference_shares import ReferenceShares, reference_shares


def default_batch(device: torch.device) -> int:
    """Faces at once: 8 on a GPU. A processor gains nothing by more than one."""
    return 8 if device.type == "cuda" else 1


@dataclass
class FaceWork:
    """A face on its way through the networks."""

    face: FoundFace
    vector: np.ndarray | None
    """(D,) of the recognition network, None without one."""
    match: Match
    content: str
    """Of the photo it is from."""
    settings: Settings
    report: FaceReport
    references: list[Candidate]
    values: np.ndarray | None = None
    """What came out: float32 (S, S, 3) in [0, 1]."""
    shares: ReferenceShares | None = None

    @property
    def crops(self) -> list[np.ndarray]:
        """uint8 (S, S, 3) of the references that take part."""
        return [one.face.crop for one in self.references] if self.report.action == "with references" else []


Known = dict[tuple[int, ...], tuple[list[np.ndarray], ReferenceFeatures | None]]
"""Seed and identities of the crops -> the crops, which keep their identity by being kept, and what they give."""


@dataclass
class FaceBatches:
    """Restores faces.

    Args:
        generator: in any form.
        cache: of references' keys and values; None = none.
        size: faces at once; halved for good where memory does not suffice.
    """

    generator: OneStepGenerator
    cache: ReferenceCache | None
    size: int
    _known: Known = field(default_factory=dict)
    """References of the last call, since a person's photos come in a row."""

    def __call__(self, works: Sequence[FaceWork]) -> None:
        """Fill in ``values`` and ``shares``.

        Args:
            works: of any number of photos, with the same settings.

        Raises:
            UserError: not even one face fits into the memory.
        """
        kept: Known = {}
        groups: dict[int, list[FaceWork]] = {}
        for work in works:
            groups.setdefault(len(work.crops), []).append(work)
        for group in groups.values():
            done = 0
            while done < len(group):
                batch = group[done : done + self.size]
                if self._run(batch, kept):
                    done += len(batch)
                elif len(batch) == 1:
                    raise UserError(
                        "the memory of the device does not suffice for one face",
                        where=self.generator.prompt_embedding.device,
                        fix="Try --low-memory tiles, --precision bfloat16, or --device cpu.",
                    )
                else:
                    self.size = len(batch) // 2
        self._known = kept

    def _run(self, batch: Sequence[FaceWork], kept: Known) -> bool:
        """Restore one batch; False if it does not fit into the memory."""
        started = time.perf_counter()
        generator, settings = self.generator, batch[0].settings
        try:
            features = _together([self._features(work, kept) for work in batch])
            lq = torch.stack([to_tensor(work.face.crop) for work in batch]).to(generator.prompt_embedding.device)
            probe = AttentionProbe(range(len(generator.shared_layers))) if settings.attention else None
            values = restore_faces(generator, lq, features, settings.strength, settings.seed, probe)
        except torch.OutOfMemoryError:
            return False
        values = ((values.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
        for index, work in enumerate(batch):
            work.values = values[index]
            work.shares = reference_shares(probe, index) if probe else None
        seconds = (time.perf_counter() - started) / len(batch)
        for work in batch:
            work.report.seconds += seconds
        return True

    def _features(self, work: FaceWork, kept: Known) -> ReferenceFeatures | None:
        crops, notes, seed = work.crops, work.report.cache, work.settings.seed
        key = (seed, *map(id, crops))
        known = kept.get(key) or self._known.get(key)
        if known is None:
            known = crops, reference_keys(self.generator, crops, seed, self.cache, notes)
        elif self.cache is not None:
            notes.found += len(crops)
        kept[key] = known
        return known[1]


def _together(each: Sequence[ReferenceFeatures | None]) -> ReferenceFeatures | None:
    """Features of one face each, of equally many references, as those of a batch."""
    if len(each) == 1 or each[0] is None:
        return each[0]
    layers = range(len(each[0].keys))
    return ReferenceFeatures(
        *([torch.cat([getattr(one, kind)[layer] for one in each]) for layer in layers] for kind in ("keys", "values"))
    )
