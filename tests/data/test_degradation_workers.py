"""Identical samples for any number of workers and any start method (degradations.md 6.6, check 3)."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from lit_restore.data.degradation import Degradation, degrade


class Degraded(Dataset):
    """Digests of degraded images; every profile whose steps could depend on threads has its turn."""

    profiles = ("diffbir_face", "instantrestore_eval", "realesrgan", "gfpgan")

    def __init__(self, num_samples: int, *, skip: int | None = None) -> None:
        self.keys = [f"person/{index}.png" for index in range(num_samples) if index != skip]
        self.image = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[str, str]:
        key = self.keys[index]
        profile = self.profiles[int(key.split("/")[1].removesuffix(".png")) % len(self.profiles)]
        lq = degrade(self.image, Degradation(profile).record(key, 1, self.image.shape[:2]))
        return key, hashlib.sha256(lq.tobytes()).hexdigest()


def one_thread(worker: int) -> None:
    import cv2

    cv2.setNumThreads(1)


def digests(dataset: Degraded, num_workers: int, method: str | None = None, batch_size: int = 3) -> dict[str, str]:
    loader = DataLoader(
        dataset,
        batch_size,
        num_workers=num_workers,
        multiprocessing_context=method,
        worker_init_fn=one_thread if num_workers else None,
    )
    return {key: digest for keys, found in loader for key, digest in zip(keys, found, strict=True)}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return digests(Degraded(8), 0)


@pytest.mark.parametrize(("num_workers", "method"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_workers_make_no_difference(expected: dict[str, str], num_workers: int, method: str) -> None:
    assert digests(Degraded(8), num_workers, method, batch_size=2) == expected


def test_removing_a_photo_leaves_the_others(expected: dict[str, str]) -> None:
    fewer = digests(Degraded(8, skip=2), 0)
    assert fewer.items() <= expected.items()
    assert len(fewer) == 7
