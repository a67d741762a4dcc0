"""Folder or synthetic people -> Lightning loaders. Splits, caches and loaders; no image code."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from lit_restore.data.augmentation import Augmentation
from lit_restore.data.collate import collate
from lit_restore.data.dataset import FULL_RANGE, PixelRange, RestorationDataset, require_targets
from lit_restore.data.degradation import Degradation
from lit_restore.data.landmarks import landmark_path
from lit_restore.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Split,
    read_prepared,
    read_previous,
    write_manifest,
)
from lit_restore.data.parallel import num_cores, single_threaded_cv2
from lit_restore.data.ready_landmarks import ReadyLandmarks, import_landmarks
from lit_restore.data.sampler import EvalSampler, TrainSampler
from lit_restore.data.scan import build_manifest
from lit_restore.data.splits import assign_splits, check_leaks
from lit_restore.data.synthetic_folder import (
    LANDMARKS_NAME,
    SyntheticPeople,
    fingerprint,
    write_synthetic_people,
)
from lit_restore.errors import UserError, check_at_least

DEFAULT_PEOPLE = SyntheticPeople()


class RestorationDataModule(LightningDataModule):
    """Photos of people as batches of degraded input, target and references
    (`lit_restore.types.RestorationBatch`).

    Args:
        root: folder of photos, several folders, or a folder made by ``lit_restore prepare``. Null = synthetic
            people.
        layout: how the folder is organised, see data/README.md.
        synthetic: which synthetic people, where ``root`` is null. They are rendered once and kept in
            ``cache_dir``.
        size_px: side of the training images; photos are scaled and centre-cropped to it.
        max_references: the most references per target; evaluation uses as many as there are up to this.
        zero_reference_probability: how often a training target gets no reference.
        degradation: profile that makes the input from the target.
        degradation_overrides: values that replace ranges of the profile.
        scale_degradation: adapt the profile, which is stated for 512 px, to ``size_px``.
        augmentation: ``official`` = the public code's colour jitter of target and input; ``none`` = as the
            paper says.
        split: how people are divided. Null = as the prepared folder says, else 10 % validation and 10 % test.
        batch_size: photos per training batch and device.
        eval_batch_size: photos per validation, test and prediction batch and device.
        num_workers: processes that prepare batches; 0 = none.
        seed: of order, references, degradation and augmentation.
        landmarks: read landmarks, where there are any.
        reference_range: pixel range of the references in training and validation. ``[0, 1]`` as the official code
            trains; it still restores with ``[-1, 1]``, like `lit_restore restore` and testing here
            (instantrestore.md, D2).
        cache_dir: where manifests, imported landmarks and synthetic people are kept.
    """

    def __init__(
        self,
        root: str | list[str] | None = None,
        layout: str = "auto",
        synthetic: SyntheticPeople = DEFAULT_PEOPLE,
        size_px: int = 512,
        max_references: int = 4,
        zero_reference_probability: float = 0.0,
        degradation: str = "diffbir_face",
        degradation_overrides: dict[str, Any] | None = None,
        scale_degradation: bool = False,
        augmentation: Augmentation = "none",
        split: Split | None = None,
        batch_size: int = 4,
        eval_batch_size: int = 4,
        num_workers: int = 2,
        seed: int = 0,
        landmarks: bool = True,
        reference_range: PixelRange = FULL_RANGE,
        cache_dir: str = "data/cache",
    ) -> None:
        super().__init__()
        check_at_least(1, "data", size_px=size_px, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_at_least(0, "data", max_references=max_references, num_workers=num_workers)
        if not 0 <= zero_reference_probability <= 1:
            raise UserError(
                "bad probability",
                where="data.zero_reference_probability",
                expected="0 to 1",
                found=zero_reference_probability,
            )
        self.roots = [] if root is None else [root] if isinstance(root, str) else list(root)
        self.layout = layout
        self.synthetic = synthetic
        self.size_px = size_px
        self.max_references = max_references
        self.zero_reference_probability = zero_reference_probability
        self.degradation = Degradation(
            degradation, seed=seed, overrides=degradation_overrides, scale_to_resolution=scale_degradation
        )
        self.augmentation: Augmentation = augmentation
        self.split = split
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.landmarks = landmarks
        self.reference_range = reference_range
        self.cache_dir = Path(cache_dir)
        self.manifest: Manifest | None = None
        self.datasets: dict[str, RestorationDataset] = {}

    @property
    def folder(self) -> Path:
        """Where manifest and landmarks are: the prepared folder itself, or one in the cache."""
        if not self.roots:
            return self.cache_dir / f"synthetic-{fingerprint(self.synthetic, self.size_px)}"
        if self._is_prepared:
            return Path(self.roots[0])
        identity = json.dumps([self.layout, *(os.path.abspath(root) for root in self.roots)])
        return self.cache_dir / f"{Path(self.roots[0]).name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"

    @property
    def _is_prepared(self) -> bool:
        return len(self.roots) == 1 and (Path(self.roots[0]) / MANIFEST_NAME).exists()

    def prepare_data(self) -> None:
        """Render the synthetic people or read the folders, once; unchanged files are not read again."""
        if self._is_prepared:
            return
        folder = self.folder
        path = folder / MANIFEST_NAME
        previous = read_previous(path)
        if not self.roots and previous:
            return
        roots: list[str] | Path = self.roots
        if not self.roots:
            write_synthetic_people(self.synthetic, self.size_px, folder, num_workers=num_cores())
            roots = folder
        manifest = build_manifest(roots, self.layout, previous=previous)
        if any(photo.landmarks for photo in manifest.photos):
            import_landmarks(manifest.photos, folder / LANDMARKS_NAME, ReadyLandmarks())
        write_manifest(manifest, path)

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets of all splits.

        Raises:
            UserError: photos have gone or changed since they were prepared, or a person is in two splits.
        """
        if self.datasets:
            return
        folder = self.folder
        manifest = read_prepared(folder)
        if self.split is not None:
            manifest = assign_splits(manifest, self.split)
        for problem in check_leaks(manifest):
            raise UserError("the splits leak", where=folder, found=problem, fix="Remove one of the copies.")
        landmarks = folder / LANDMARKS_NAME if self.landmarks else None
        if landmarks is not None:
            _report_landmarks(manifest, landmarks)
        self.manifest = manifest
        self.datasets = {split: self._dataset(manifest, split, landmarks) for split in ("train", "val", "test")}

    def _dataset(self, manifest: Manifest, split: str, landmarks: Path | None) -> RestorationDataset:
        return RestorationDataset(
            manifest,
            split,
            size_px=self.size_px,
            degradation=self.degradation,
            max_references=self.max_references,
            training=split == "train",
            seed=self.seed,
            zero_reference_probability=self.zero_reference_probability,
            augmentation=self.augmentation,
            landmarks=landmarks,
            reference_range=FULL_RANGE if split == "test" else self.reference_range,
        )

    def train_dataloader(self) -> DataLoader:
        """All batches of the training in one epoch, from the module's ``iteration`` on where a run is resumed.

        How long the training is (``max_iterations`` times ``accumulate`` batches) is the module's to say.
        """
        dataset = require_targets(self.datasets["train"], "train", ", ".join(self.roots))
        module = self.trainer.lightning_module
        accumulate = getattr(module, "accumulate", 1)
        rank, world_size = self._rank_and_world_size()
        sampler = TrainSampler(
            len(dataset),
            batch_size=self.batch_size,
            num_batches=module.max_iterations * accumulate,
            seed=self.seed,
            start_batch=module.iteration * accumulate,
            rank=rank,
            world_size=world_size,
        )
        return self._loader(dataset, sampler, self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """Validation photos with fixed references and degradations."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader:
        """Test photos with fixed references and degradations."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader:
        """The same photos as for testing; they need no ground truth."""
        return self._eval_loader("test")

    def _eval_loader(self, split: str) -> DataLoader:
        dataset = self.datasets[split]
        rank, world_size = self._rank_and_world_size()
        sampler = EvalSampler(len(dataset), rank=rank, world_size=world_size)
        return self._loader(dataset, sampler, self.eval_batch_size)

    def _loader(self, dataset: RestorationDataset, sampler: Sampler, batch_size: int) -> DataLoader:
        if self.num_workers:
            single_threaded_cv2()
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=one_thread,
            pin_memory=torch.cuda.is_available(),
        )

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def one_thread(_: int) -> None:
    """Workers are the parallelism; threads inside them would fight for the same cores.

    Ctrl-C reaches every process of a terminal; the main one decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    single_threaded_cv2()
    torch.set_num_threads(1)


def _report_landmarks(manifest: Manifest, folder: Path) -> None:
    """Say when landmark supervision will have nothing to work with."""
    photos = [photo for photo in manifest.photos if photo.split == "train" and photo.role != "lq"]
    missing = sum(not landmark_path(folder, photo.key).exists() for photo in photos)
    if missing:
        warnings.warn(
            f"{missing} of {len(photos)} training photos have no landmarks in {folder}; landmark supervision "
            "skips them. 'lit_restore prepare' computes landmarks.",
            stacklevel=2,
        )
