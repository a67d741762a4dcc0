"""Options of the test suite, and what many tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before torch is loaded, also in child processes: the tests' networks are so small that threads only wait for each
# other (minutes become an hour on a busy machine), and the last bits of a sum depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs the suite in the background lets it ignore Ctrl-C, and so would the programs whose Ctrl-C is tested.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--degradation-fixtures",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder of degradation reference values instead of tests/fixtures/degradations; repeatable",
    )
    parser.addoption(
        "--parity-fixtures",
        action="append",
        type=Path,
        metavar="DIR",
        help="folder of InstantRestore reference values instead of tests/fixtures/instantrestore_parity; repeatable",
    )


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of SD-Turbo's shape with few, random weights; not to be changed."""
    from lit_restore.models.random_base import write_random_base

    return write_random_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a tiny restorer that has learned something; not to be changed."""
    from helpers import tiny_generator

    from lit_restore.models.artifact import save_generator

    folder = tmp_path_factory.mktemp("trained") / "model"
    save_generator(tiny_generator(tiny_base), folder, iteration=7)
    return folder
