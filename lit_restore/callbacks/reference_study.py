"""The question the method lives on, answered at the end of a training: do references help people never seen?"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from lit_restore.image import atomic_path, to_uint8, write_image
from lit_restore.metrics.suite import METRICS, MetricSuite
from lit_restore.models.recognition import load_recognizer
from lit_restore.types import RestorationBatch
from lit_restore.visualization import column, restoration_rows

Values = dict[str, list[float]]


class ReferenceStudy(Callback):
    """Restore the test people with 0, 1, 2, ... references: table, pictures, and the command to go on with.

    Args:
        num_references: the columns of the study.
        max_photos: test photos to use.
        num_pictures: rows of the picture grid.
        recognition: network of the identity metric; null = no identity column.
    """

    def __init__(
        self,
        num_references: list[int] = [0, 1, 2, 4],
        max_photos: int = 64,
        num_pictures: int = 6,
        recognition: str | None = None,
    ) -> None:
        self.num_references = num_references
        self.max_photos = max_photos
        self.num_pictures = num_pictures
        self.recognition = recognition

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.suite = MetricSuite(recognition=load_recognizer(self.recognition) if self.recognition else None)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        pl_module.eval()
        self.suite.to(pl_module.device)
        results: dict[str, Values] = {}
        pictures: list[np.ndarray] = []
        sample: Path | None = None
        with torch.inference_mode():
            for batch in self._batches(trainer, pl_module):
                restored = self._measure(pl_module, batch, results)
                pictures += restoration_rows(batch, restored[: self.num_pictures - len(pictures)])
                sample = sample or _write_sample(batch, folder / "example")
        if not results:
            return
        write_image(column(pictures), folder / "restored.png")
        with atomic_path(folder / "references.json") as path:
            path.write_text(json.dumps({name: _summary(values) for name, values in results.items()}, indent=2) + "\n")
        self._print(results, folder, sample)

    def _batches(self, trainer: Trainer, pl_module: LightningModule):
        seen = 0
        for batch in trainer.datamodule.test_dataloader():
            if seen >= self.max_photos:
                return
            seen += len(batch["key"])
            yield pl_module.transfer_batch_to_device(batch, pl_module.device, 0)

    def _measure(self, pl_module: LightningModule, batch: RestorationBatch, results: dict[str, Values]) -> torch.Tensor:
        """Add this batch's values to ``results``; returns the restoration with the most references."""
        outputs = {"degraded input": batch["lq"]}
        for count in self.num_references:
            outputs[f"{count} references"] = pl_module.restore(batch, num_references=count)
        for name, output in outputs.items():
            for metric, values in self.suite(output, batch["hq"]).items():
                results.setdefault(name, {}).setdefault(metric, []).extend(values.tolist())
        return outputs[f"{max(self.num_references)} references"]

    def _print(self, results: dict[str, Values], folder: Path, sample: Path | None) -> None:
        count = len(next(iter(next(iter(results.values())).values())))
        table = Table(title=f"People never seen in training, {count} photos (± = 95 % interval of the mean)")
        table.add_column("")
        metrics = list(next(iter(results.values())))
        for metric in metrics:
            table.add_column(METRICS[metric].title, justify="right")
        for name, values in results.items():
            cells = [
                f"{METRICS[metric].format.format(mean)} ± {METRICS[metric].format.format(half)}"
                for metric, (mean, half) in ((metric, _interval(values[metric])) for metric in metrics)
            ]
            table.add_row(name, *cells)
        console = Console()
        console.print(table)
        console.print(f"Pictures (degraded | references | restored | truth): {folder / 'restored.png'}")
        if sample is not None:
            console.print("Restore a face with what was trained:")
            console.print(
                f"  lit_restore restore --input {sample / 'degraded.png'} --references {sample / 'references'} "
                f"--checkpoint {folder} --output {sample / 'restored.png'}",
                soft_wrap=True,
            )


def _write_sample(batch: RestorationBatch, folder: Path) -> Path:
    """The first test photo as files, so that the printed command has something to work on."""
    shutil.rmtree(folder, ignore_errors=True)
    write_image(to_uint8(batch["lq"][0]), folder / "degraded.png")
    write_image(to_uint8(batch["hq"][0]), folder / "truth.png")
    for index, reference in enumerate(batch["references"][0][batch["reference_mask"][0]]):
        write_image(to_uint8(reference), folder / "references" / f"{index + 1}.png")
    return folder


def _interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval, 1.96 standard errors."""
    if len(values) < 2:
        return values[0], math.nan
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / math.sqrt(len(values)))


def _summary(values: Values) -> dict[str, dict[str, float]]:
    return {
        metric: dict(zip(("mean", "interval"), _interval(numbers), strict=True)) for metric, numbers in values.items()
    }
