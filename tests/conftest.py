"""Options of the test suite."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--degradation-fixtures",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder of degradation reference values instead of tests/fixtures/degradations; repeatable",
    )
