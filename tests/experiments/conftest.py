"""Sweep files of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lit_restore.experiments.sweep_file import Sweep, read_sweep

COMMAND = ["lit_restore", "fit", "--config", "a.yaml", "${args}"]


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sweep file; a key of value None is left out."""

    def write(**content: object) -> Path:
        values = {"program": "lit_restore", "command": COMMAND, "method": "grid"} | content
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    return write


@pytest.fixture
def sweep(write_sweep: Callable[..., Path]) -> Callable[..., Sweep]:
    """A sweep with these parameters."""
    return lambda parameters, **content: read_sweep(write_sweep(parameters=parameters, **content))
