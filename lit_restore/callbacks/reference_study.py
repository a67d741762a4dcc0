"""The question the method lives on, answered at the end of a training: do references help people never seen?"""

from __future__ import annotations

import json
import math
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from lit_restore.callbacks.metrics import load_judge
from lit_restore.faces.points import Points
from lit_restore.image import atomic_path, to_uint8, write_image
from lit_restore.metrics.suite import METRICS, MetricSuite
from lit_restore.types import RestorationBatch
from lit_restore.visualization import column, restoration_rows

Values = dict[str, list[float]]
Statistics = dict[str, float | int | None]


class ReferenceStudy(Callback):
    """Restore the test people with 0, 1, 2, ... references: table, pictures, and the command to go on with.

    Args:
        num_references: the columns of the study.
        max_photos: test photos to use.
        num_pictures: rows of the picture grid.
        recognition: network of the identity metric; null = no identity column.
        points, allow_training_network: as for `lit_restore.callbacks.metrics.Metrics`.
    """

    def __init__(
        self,
        num_references: list[int] = [0, 1, 2, 4],
        max_photos: int = 64,
        num_pictures: int = 6,
        recognition: str | None = None,
        points: Points = "target",
        allow_training_network: bool = False,
    ) -> None:
        self.num_references = num_references
        self.max_photos = max_photos
        self.num_pictures = num_pictures
        self.recognition = recognition
        self.points: Points = points
        self.allow_training_network = allow_training_network
        self._loaded_for: LightningModule | None = None

    def load(self, pl_module: LightningModule) -> None:
        """As `lit_restore.callbacks.metrics.Metrics.load`."""
        judge = load_judge(self.recognition, pl_module, self.allow_training_network)
        self.suite = MetricSuite(recognition=judge, points=self.points)
        self._loaded_for = pl_module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._loaded_for is not pl_module:
            self.load(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        if trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.teardown(trainer, pl_module, "fit")  # a live bar would draw over the table
        folder = Path(trainer.default_root_dir)
        pl_module.eval()
        self.suite.to(pl_module.device)
        results: dict[str, Values] = {}
        shutil.rmtree(folder / "example", ignore_errors=True)
        pictures: list[np.ndarray] = []
        with torch.inference_mode():
            fewest = math.inf
            for batch in self._batches(trainer, pl_module):
                fewest = min(fewest, *batch["reference_mask"].sum(dim=1).tolist())
                restored = self._measure(pl_module, batch, results)
                pictures += restoration_rows(batch, restored[: self.num_pictures - len(pictures)])
                if not (folder / "example").exists():
                    _write_sample(batch, folder / "example")
        if not results:
            return
        for count in self.num_references:
            if count > fewest:  # some photo has not so many
                results[f"up to {_column(count)}"] = results.pop(_column(count))
        write_image(column(pictures), folder / "restored.png")
        with atomic_path(folder / "references.json") as path:
            study = {"iteration": pl_module.iteration, "protocol": self.suite.protocol(), **_summary(results)}
            path.write_text(json.dumps(study, indent=2, allow_nan=False) + "\n")
        show_study(folder)

    def _batches(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[RestorationBatch]:
        """The first ``max_photos`` test photos whose truth is known."""
        wanted = self.max_photos
        for batch in trainer.datamodule.test_dataloader():
            known = batch["has_hq"].nonzero().flatten()[:wanted].tolist()
            wanted -= len(known)
            if known:
                photos = {
                    name: values[known] if isinstance(values, torch.Tensor) else [values[index] for index in known]
                    for name, values in batch.items()
                }
                yield pl_module.transfer_batch_to_device(photos, pl_module.device, 0)
            if wanted == 0:
                return

    def _measure(self, pl_module: LightningModule, batch: RestorationBatch, results: dict[str, Values]) -> torch.Tensor:
        """Add this batch's values to ``results``; returns the restoration with the most references."""
        outputs = {"degraded input": batch["lq"]}
        for count in self.num_references:
            outputs[_column(count)] = pl_module.restore(batch, num_references=count)
        for name, output in outputs.items():
            for metric, values in self.suite(output, batch["hq"], batch["landmarks"], batch["landmark_mask"]).items():
                results.setdefault(name, {}).setdefault(metric, []).extend(values[~values.isnan()].tolist())
        return outputs[_column(max(self.num_references))]


def _column(count: int) -> str:
    return f"{count} reference{'' if count == 1 else 's'}"


def studied_iteration(folder: Path) -> int | None:
    """At which iteration the table in a run folder was made; None = there is none."""
    try:
        return json.loads((folder / "references.json").read_text())["iteration"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def show_study(folder: Path) -> None:
    """Print the table that a finished run left in its folder, and the command to go on with."""
    study = json.loads((folder / "references.json").read_text())
    table = Table(title=f"People never seen in training, {study['num_photos']} photos (± = 95 % interval of the mean)")
    table.add_column("")
    rows: dict[str, dict[str, Statistics]] = study["results"]
    metrics = list(next(iter(rows.values())))
    for metric in metrics:
        table.add_column(METRICS[metric].title, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(_cell(row[metric], METRICS[metric].format) for metric in metrics))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    console.print(f"Pictures (degraded | references | restored | truth): {folder / 'restored.png'}")
    example = folder / "example"
    paths = {"input": example / "degraded.png", "references": example / "references"}
    paths |= {"checkpoint": folder, "output": example / "restored.png"}
    # The last two are known of the example, and networks for real faces, where at hand, do not know synthetic people.
    options = [f"--{option} {shlex.quote(str(path))}" for option, path in paths.items()]
    options += ["--aligned yes", "--trust-references"]
    console.print(f"Restore a face with what was trained:\n  lit_restore restore {' '.join(options)}")


def _cell(statistics: Statistics, number: str) -> str:
    shown = [number.format(statistics[name]) for name in ("mean", "interval") if statistics[name] is not None]
    return " ± ".join(shown) or "–"


def _write_sample(batch: RestorationBatch, folder: Path) -> None:
    """The first test photo as files, so that the printed command has something to work on."""
    write_image(to_uint8(batch["lq"][0]), folder / "degraded.png")
    write_image(to_uint8(batch["hq"][0]), folder / "truth.png")
    for index, reference in enumerate(batch["references"][0][batch["reference_mask"][0]]):
        write_image(to_uint8(reference), folder / "references" / f"{index + 1}.png")


def _statistics(values: list[float]) -> Statistics:
    """Mean, half width of its 95 % interval (1.96 standard errors), and photos that count (those with a face).

    None, which JSON can say, where there are too few photos (none for the mean, one for the interval) or where a
    photo equals its truth, so that its PSNR is infinite.
    """
    finite = all(map(math.isfinite, values))
    mean = float(np.mean(values)) if values and finite else None
    interval = float(1.96 * np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 and finite else None
    return {"mean": mean, "interval": interval, "num_photos": len(values)}


def _summary(results: dict[str, Values]) -> dict[str, Any]:
    rows = {name: {metric: _statistics(values) for metric, values in row.items()} for name, row in results.items()}
    return {"num_photos": next(iter(rows.values()))["psnr"]["num_photos"], "results": rows}
