"""Manifest entry -> sample. Composes reading, augmentation, degradation, references and landmarks; no
algorithm here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lit_restore.data.augmentation import Augmentation, augment
from lit_restore.data.canonical_face import NUM_DENSE
from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.landmarks import load_landmarks
from lit_restore.data.manifest import Manifest, Photo
from lit_restore.data.references import ReferencePools, evaluation_references, training_references
from lit_restore.errors import UserError
from lit_restore.image import fit_square, fit_square_points, read_rgb, to_tensor

PixelRange = tuple[float, float]
FULL_RANGE: PixelRange = (-1.0, 1.0)


class RestorationDataset(Dataset):
    """Samples of one split; see `lit_restore.types.RestorationBatch` for the meaning of the keys (here
    without B).

    Args:
        manifest: photos with splits.
        split: ``train``, ``val`` or ``test``.
        size_px: side of all images.
        degradation: draws the degraded input where the data set has no fixed one.
        max_references: the most references per target.
        training: random references and degradations of the given epoch; otherwise fixed references and epoch
            0, and targets without ground truth are included.
        seed: of the references and the augmentation.
        zero_reference_probability: training only, how often a target gets no reference.
        augmentation: training only.
        landmarks: folder of the landmark files, None = no landmarks.
        reference_range: pixel range of the references, lowest and highest value.

    Indexed by ``index`` (epoch 0) or, in training, by the (epoch, index) pairs of `TrainSampler`: the epoch
    travels with the index because worker processes that live on do not see attributes set in the main
    process.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        size_px: int,
        degradation: Degradation,
        max_references: int = 4,
        training: bool = False,
        seed: int = 0,
        zero_reference_probability: float = 0.0,
        augmentation: Augmentation = "none",
        landmarks: str | Path | None = None,
        reference_range: PixelRange = FULL_RANGE,
    ) -> None:
        low, high = reference_range
        if not -1 <= low < high <= 1:
            raise UserError(
                "bad pixel range of references",
                where="data.reference_range",
                expected="[low, high] within [-1, 1]",
                found=list(reference_range),
            )
        targets = manifest.targets(split)
        self.targets = [t for t in targets if t.role == "hq"] if training else _one_of_each(targets)
        self.pools = ReferencePools(manifest)
        self.size_px = size_px
        self.degradation = degradation
        self.max_references = max_references
        self.training = training
        self.seed = seed
        self.zero_reference_probability = zero_reference_probability
        self.augmentation: Augmentation = augmentation
        self.landmarks = landmarks
        self.reference_range = (float(low), float(high))

    def __len__(self) -> int:
        return len(self.targets)

    def references(self, target: Photo, epoch: int = 0) -> list[Photo]:
        """The references that ``target`` gets in this epoch."""
        candidates = self.pools.candidates(target)
        if not self.training:
            return evaluation_references(candidates, self.max_references)
        return training_references(
            candidates,
            self.max_references,
            seed=self.seed,
            key=target.key,
            epoch=epoch,
            zero_probability=self.zero_reference_probability,
        )

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """One sample.

        Raises:
            UserError: a file has become unreadable or its landmarks are stale; nothing is replaced silently.
        """
        epoch, index = item if isinstance(item, tuple) else (0, item)
        epoch = epoch if self.training else 0
        target = self.targets[index]
        references = self.references(target, epoch)
        lq, hq = self._images(target, epoch)
        points, mask = self._landmarks(target)
        reference_points, reference_mask = (
            zip(*map(self._landmarks, references), strict=True) if references else ((), ())
        )
        empty = (0, 3, self.size_px, self.size_px)
        images = [self._in_range(to_tensor(self._read(reference.path))) for reference in references]
        return {
            "lq": lq,
            "hq": hq,
            "has_hq": torch.tensor(target.role == "hq"),
            "references": torch.stack(images) if images else torch.zeros(empty),
            "landmarks": torch.from_numpy(points),
            "landmark_mask": torch.from_numpy(mask),
            "reference_landmarks": torch.from_numpy(np.array(reference_points, np.float32).reshape(-1, NUM_DENSE, 2)),
            "reference_landmark_mask": torch.from_numpy(np.array(reference_mask, bool).reshape(-1, NUM_DENSE)),
            "identity": target.identity,
            "key": target.key,
        }

    def _images(self, target: Photo, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(lq, hq): a fixed pair, a degraded photo, or twice the same where there is no ground truth."""
        image = self._read(target.path)
        if target.role == "lq":
            lq = to_tensor(image)
            return lq, lq
        if target.lq is not None:
            return to_tensor(self._read(target.lq)), to_tensor(image)
        if self.training:
            image = augment(image, self.augmentation, seed=self.seed, key=target.key, epoch=epoch)
        record = self.degradation.record(target.key, epoch, (self.size_px, self.size_px))
        return to_tensor(degrade(image, record)), to_tensor(image)

    def _in_range(self, reference: torch.Tensor) -> torch.Tensor:
        if self.reference_range == FULL_RANGE:
            return reference
        low, high = self.reference_range
        return low + (high - low) * (reference + 1) / 2

    def _read(self, path: str) -> np.ndarray:
        return fit_square(read_rgb(path), self.size_px)

    def _landmarks(self, photo: Photo) -> tuple[np.ndarray, np.ndarray]:
        """Points in pixels of the sample's image, and which of them are known and inside it."""
        if self.landmarks is None:
            return np.zeros((NUM_DENSE, 2), np.float32), np.zeros(NUM_DENSE, bool)
        points, mask = load_landmarks(self.landmarks, photo)
        points = fit_square_points(points, photo.height, photo.width, self.size_px).astype(np.float32)
        inside = ((points >= -0.5) & (points < self.size_px - 0.5)).all(axis=1)
        mask = mask & inside
        return np.where(mask[:, None], points, np.float32(0)), mask


def _one_of_each(targets: list[Photo]) -> list[Photo]:
    """First photo of every person, then the second of every person, ...: any first few show many people."""
    turn: dict[str, int] = {}
    rounds = []
    for target in targets:
        turn[target.identity] = turn.get(target.identity, -1) + 1
        rounds.append((turn[target.identity], target))
    return [target for _, target in sorted(rounds, key=lambda item: item[0])]


def require_targets(dataset: RestorationDataset, split: str, where: object) -> RestorationDataset:
    """The dataset itself, if it has a photo.

    Raises:
        UserError: it is empty; training on nothing would otherwise fail far away.
    """
    if len(dataset) == 0:
        raise UserError(
            f"no photos with ground truth in split '{split}'",
            where=where,
            fix="Use a folder of people, or change the split.",
        )
    return dataset
