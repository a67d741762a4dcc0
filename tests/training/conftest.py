"""Small trainings on synthetic people."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def people_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the synthetic people are rendered once for all trainings."""
    return tmp_path_factory.mktemp("people")
