"""Silence of the libraries below us, so that what is left on the screen is worth reading."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Messages about which a user can do nothing, or which are wrong here; beginnings are matched.
NOISE = (
    r"LightningCLI's args parameter is intended to run from within Python",  # we are a command line
    r"Found \d+ module\(s\) in eval mode",  # frozen networks are meant to be
    r".*LeafSpec",
    r".*does not have many workers",
    r".*is smaller than the logging interval",
    r"You're resuming from a checkpoint that ended before the epoch ended",  # our sampler starts where it should
    r".*directory .* exists and is not empty",
    r".*Consider setting `persistent_workers=True`",
    r"You passed in a `val_dataloader` but have no `validation_step`",  # recipes of the bundled networks
    r"Please use the new API settings to control TF32",
)
# Their information lines (devices, seeds, tips) go; their errors stay.
CHATTY = ("pytorch_lightning", "lightning_fabric", "diffusers", "transformers", "peft")


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Within the block libraries keep their noise to themselves; warnings, ours above all, take one line each."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning):
                warnings.filterwarnings("ignore", category=category)
            for beginning in NOISE:
                warnings.filterwarnings("ignore", beginning)
            warnings.showwarning = _one_line
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def hide_loading_bars() -> None:
    """No bars for weights that are on the disk already; the hub's bars, for downloads, stay."""
    import diffusers.utils.logging
    import transformers.utils.logging
    from huggingface_hub.utils import enable_progress_bars

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    enable_progress_bars()


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"lit_restore: warning: {' '.join(str(message).split())}", file=file or sys.stderr)
