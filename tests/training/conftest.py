"""Small trainings on synthetic people."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def people_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the synthetic people are rendered once for all trainings."""
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="session")
def face_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random recognition network: identity network, and backbone of the discriminator."""
    import torch

    from lit_restore.models.recognition import SmallRecognizer

    folder = tmp_path_factory.mktemp("recognition")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SmallRecognizer(widths=(4, 8, 8), embedding=16, size_px=32).save(folder)
    return folder
