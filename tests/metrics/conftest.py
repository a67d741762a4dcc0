"""Batches for metrics, and a world without weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from lit_restore.types import RestorationBatch

MakeBatch = Callable[..., RestorationBatch]


@pytest.fixture
def make_batch() -> MakeBatch:
    """Truth (B, 3, H, W) in [-1, 1], and what else is known of it -> a batch; by default nothing else is."""

    def make(hq: torch.Tensor, references: torch.Tensor | None = None, **known: torch.Tensor) -> RestorationBatch:
        count = len(hq)
        references = hq.new_zeros(count, 0, *hq.shape[1:]) if references is None else references
        width = references.shape[1]
        batch = RestorationBatch(
            lq=hq,
            hq=hq,
            references=references,
            reference_mask=torch.ones(count, width, dtype=torch.bool),
            landmarks=torch.zeros(count, 68, 2),
            landmark_mask=torch.zeros(count, 68, dtype=torch.bool),
            reference_landmarks=torch.zeros(count, width, 68, 2),
            reference_landmark_mask=torch.zeros(count, width, 68, dtype=torch.bool),
            identity=[str(index) for index in range(count)],
            key=[str(index) for index in range(count)],
            has_hq=torch.ones(count, dtype=torch.bool),
        )
        return RestorationBatch(**{**batch, **known})

    return make


@pytest.fixture
def no_weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weight files anywhere, no network."""
    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
