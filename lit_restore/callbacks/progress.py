"""The bar: iterations, speed, remaining time and losses."""

from __future__ import annotations

import sys
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

MIN_INTERVAL_S = 0.2
MIN_INTERVAL_IN_FILES_S = 10.0  # a log file keeps every state of the bar


class IterationProgress(ProgressBar):
    """Counts what the configuration counts, generator updates, rather than Lightning's batches and epochs."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._inner: tqdm | None = None

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = pl_module.max_iterations
        if 0 <= trainer.max_steps < total:
            total = trainer.max_steps
        self._bar = self._open("Training", total, unit="it", initial=pl_module.iteration)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._bar.set_postfix(_short(self.get_metrics(trainer, pl_module)), refresh=False)
        self._bar.update(pl_module.iteration - self._bar.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._inner = self._open("Validation", sum(_numbers(trainer.num_val_batches)))

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self._inner is not None:
            self._inner.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close_inner()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._inner = self._open("Testing", sum(_numbers(trainer.num_test_batches)))

    def on_test_batch_end(self, *_: Any) -> None:
        self._inner.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close_inner()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._inner = self._open("Restoring", sum(_numbers(trainer.num_predict_batches)))

    def on_predict_batch_end(self, *_: Any) -> None:
        self._inner.update()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close_inner()

    def _open(self, title: str, total: int, unit: str = "batch", initial: int = 0) -> tqdm:
        main = unit == "it"
        return tqdm(
            desc=title,
            total=total,
            unit=unit,
            initial=initial,
            disable=not self._enabled or not (main or sys.stderr.isatty()),
            leave=main,
            mininterval=MIN_INTERVAL_S if sys.stderr.isatty() else MIN_INTERVAL_IN_FILES_S,
            dynamic_ncols=True,
        )

    def _close_inner(self) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def _close(self) -> None:
        self._close_inner()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _short(metrics: dict[str, Any]) -> dict[str, str]:
    """``train/loss`` -> ``loss``, three digits; without the logger's version number."""
    return {
        name.split("/", 1)[-1]: f"{value:.3g}" if isinstance(value, float) else str(value)
        for name, value in metrics.items()
        if name != "v_num"
    }


def _numbers(batches: int | list[int]) -> list[int]:
    return batches if isinstance(batches, list) else [batches]
