"""Tests here see no weights but those they make: no user cache, no ./weights, nothing from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_restore.faces import detect


@pytest.fixture(autouse=True)
def no_weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    detect._load.cache_clear()
