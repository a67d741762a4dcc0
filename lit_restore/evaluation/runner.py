"""Method x photos -> an evaluation folder.

    protocol.json    what has to be said beside every number
    rows/            one line per photo, while it runs; what makes it restartable
    restored/        the restored photos, 8 bits; measured as they are stored
    images.csv       per photo: values, or why there are none
    summary.json     means, intervals, failures, timing, protocol
    sheet.png        best, median and worst photo

A restarted evaluation does only what is missing; one of another protocol is refused. Lightning shares the photos among
processes; each writes rows of its own, the first one sums up.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, Subset

from lit_restore.data.collate import collate
from lit_restore.data.datamodule import one_thread
from lit_restore.data.parallel import single_threaded_cv2
from lit_restore.data.sampler import EvalSampler
from lit_restore.errors import UserError
from lit_restore.evaluation.checkpoint_method import Checkpoint
from lit_restore.evaluation.face_networks import FaceNetwork
from lit_restore.evaluation.inputs import EvaluationSet, Unreadable, collate_readable
from lit_restore.evaluation.methods import Method, Outcome
from lit_restore.evaluation.output_folder import flat_names
from lit_restore.evaluation.pictures import RESTORED_NAME, write_examples, write_sheet
from lit_restore.evaluation.protocol import Protocol, differences, plain, software_versions
from lit_restore.evaluation.records import Journal, Row, number, write_rows
from lit_restore.evaluation.summary import Summary, read_summary, summarise, write_summary
from lit_restore.evaluation.timing import Timing, measure
from lit_restore.image import atomic_path, read_rgb, to_tensor, to_uint8, write_image
from lit_restore.metrics.catalogue import COLUMNS, SetMetric
from lit_restore.metrics.measurement import Metric, MetricInfo
from lit_restore.metrics.network_attention import NetworkAttention
from lit_restore.types import RestorationBatch

PROTOCOL_NAME = "protocol.json"
TIMING_NAME = "timing.json"


class Evaluation:
    """One method on one set of photos, in one folder.

    Args:
        photos: what is restored.
        method: what restores them.
        metrics: per photo.
        set_metrics: over all restored photos together.
        folder: of the evaluation.
        remarks: sentences for the summary.
        timing: where it is known already.
    """

    def __init__(
        self,
        photos: EvaluationSet,
        method: Method,
        metrics: Sequence[Metric],
        folder: str | Path,
        *,
        set_metrics: Sequence[SetMetric] = (),
        remarks: Sequence[str] = (),
        timing: Timing | None = None,
    ) -> None:
        self.photos, self.method, self.set_metrics = photos, method, list(set_metrics)
        self.metrics = [metric.of(method) if isinstance(metric, NetworkAttention) else metric for metric in metrics]
        self.columns = _columns(self.metrics)
        self.set_columns = _columns(self.set_metrics)
        self.device = torch.device("cpu")
        self.folder = Path(folder)
        self.remarks, self.timing = list(remarks), timing
        names = flat_names(target.key for target in photos.targets)
        self.restored = {key: self.folder / RESTORED_NAME / f"{name}.png" for key, name in names.items()}
        self.protocol = protocol_of(photos, method, [*self.metrics, *self.set_metrics])

    def run(self, *, batch_size: int = 1, num_workers: int = 0, num_timed: int = 5, **trainer: Any) -> Summary:
        """Do what is missing, then sum up.

        Args:
            batch_size: photos at once; does not change the results of a photo beyond rounding.
            num_workers: processes that read and degrade photos.
            num_timed: photos to time the method on, one by one; 0 = no timing.
            trainer: of Lightning's trainer: accelerator, devices, ...

        Raises:
            UserError: the folder holds an evaluation of another protocol.
        """
        self.claim()
        pending = self.pending()
        done = None if pending else read_summary(self.folder)
        if done is not None and {*self.columns, *self.set_columns} <= set(done.metrics):
            return done
        if pending:
            module = _Module(self, batch_size, num_workers, num_timed)
            _call(lambda: _trainer(trainer).test(module, verbose=False))
        with main_process_first() as is_main:
            if is_main:
                self._sum_up()
        summary = read_summary(self.folder)
        assert summary is not None
        return summary

    def pending(self) -> list[int]:
        """Indices of the photos that have no row with all metrics yet."""
        rows = Journal(self.folder).read()
        return [
            index
            for index, target in enumerate(self.photos.targets)
            if not _is_complete(rows.get(target.key), set(self.columns), self.restored[target.key])
        ]

    def claim(self) -> None:
        """Write the protocol into the folder, or see that it is the one already there.

        Raises:
            UserError: it is another one.
        """
        path, mine = self.folder / PROTOCOL_NAME, plain(self.protocol)
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            theirs = None
        except ValueError:
            raise UserError("damaged protocol of an evaluation", where=path, fix="Delete that folder.") from None
        if theirs is not None:
            refuse_other_protocol(self.folder, mine, theirs)
            mine["metrics"] = theirs["metrics"] | mine["metrics"]
        if mine != theirs:
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(mine, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _sum_up(self) -> None:
        """Everything that is known, also by metrics that were measured earlier and are not asked for now."""
        known = Journal(self.folder).read()
        rows = [known[target.key] for target in self.photos.targets]
        measured = {*self.columns, *(name for row in rows for name in row.values)}
        columns = [name for name in COLUMNS if name in measured]
        earlier = read_summary(self.folder)
        set_values = {} if earlier is None else _values_of_set(earlier, columns)
        set_values |= self._set_values(known)
        write_rows(rows, columns, self.folder)
        summary = summarise(
            rows,
            {name: COLUMNS[name].higher_is_better for name in (*columns, *set_values)},
            json.loads((self.folder / PROTOCOL_NAME).read_text(encoding="utf-8")),
            method=self.method.name,
            set_values=set_values,
            timing=self.timing or read_timing(self.folder),
            remarks=self.remarks,
        )
        write_sheet(self.photos, summary.examples, self.restored, self.folder)
        write_examples(self.photos, summary.examples, self.folder)
        write_summary(summary, self.folder)

    def _set_values(self, rows: dict[str, Row]) -> dict[str, float | str]:
        """Metrics over all restored photos together; a text where there is no value."""
        # They collect, and another evaluation may use them, too.
        metrics = [deepcopy(metric) for metric in self.set_metrics]
        for index, target in enumerate(self.photos.targets if metrics else ()):
            sample = self.photos[index]
            if rows[target.key].failure is not None or isinstance(sample, Unreadable):
                continue
            batch = _on_device(collate([sample]), self.device)
            restored = to_tensor(read_rgb(self.restored[target.key]))[None].to(self.device)
            for metric in metrics:
                metric.update(restored, batch)
        return {name: value for metric in metrics for name, value in metric.compute().items()}


def protocol_of(photos: EvaluationSet, method: Method, metrics: Sequence[Metric | SetMetric]) -> Protocol:
    """The whole protocol of an evaluation."""
    return photos.protocol | {
        "method": method.protocol,
        "metrics": {name: dict(metric.protocol) for metric in metrics for name in metric.columns},
        "software": software_versions(),
    }


def refuse_other_protocol(folder: Path, mine: Protocol, theirs: Protocol) -> None:
    """Rows may only be added under the protocol of those that are there; further metrics are welcome.

    Raises:
        UserError: something else differs.
    """
    shared = {name: value for name, value in mine["metrics"].items() if name in theirs.get("metrics", {})}
    different = differences(
        mine | {"metrics": shared}, theirs | {"metrics": {name: theirs["metrics"][name] for name in shared}}
    )
    if different:
        raise UserError(
            "the folder holds an evaluation of another protocol",
            where=folder,
            found="; ".join(different[:4]) + (f" and {len(different) - 4} more" if len(different) > 4 else ""),
            fix="Choose another --output, or delete that folder.",
        )


def read_timing(folder: Path) -> Timing | None:
    """What was timed when the evaluation was begun."""
    try:
        return Timing(**json.loads((folder / TIMING_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def main_process_first() -> Iterator[bool]:
    """The first process does the block, then the others; gives whether this is the first."""
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    if shared and not is_main_process():
        torch.distributed.barrier()
    yield is_main_process()
    if shared and is_main_process():
        torch.distributed.barrier()


def is_main_process() -> bool:
    """Whether this is the first, or the only, of the processes that share the work."""
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not shared or torch.distributed.get_rank() == 0


class _Module(LightningModule):
    """What Lightning moves to the device and shares among processes; it trains nothing."""

    def __init__(self, evaluation: Evaluation, batch_size: int, num_workers: int, num_timed: int) -> None:
        super().__init__()
        self.evaluation = evaluation
        self.batch_size, self.num_workers, self.num_timed = batch_size, num_workers, num_timed

    def test_dataloader(self) -> DataLoader:
        pending = self.evaluation.pending()
        self.trainer.strategy.barrier()  # before anybody adds rows
        self.journal = Journal(self.evaluation.folder, self.global_rank)
        self.known = self.journal.read()
        photos = Subset(self.evaluation.photos, pending)
        sampler = EvalSampler(len(photos), rank=self.global_rank, world_size=self.trainer.world_size)
        if self.num_workers:
            single_threaded_cv2()
        return DataLoader(
            photos,
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate_readable,
            num_workers=self.num_workers,
            worker_init_fn=one_thread,
        )

    def transfer_batch_to_device(self, samples: Any, device: torch.device, dataloader_idx: int) -> Any:
        batch, unreadable = samples
        return batch and super().transfer_batch_to_device(batch, device, dataloader_idx), unreadable

    def on_test_start(self) -> None:
        evaluation = self.evaluation
        evaluation.device = self.device
        evaluation.method.to(self.device)
        is_network = isinstance(evaluation.method, (Checkpoint, FaceNetwork))
        if self.num_timed and is_network and self.trainer.is_global_zero and read_timing(evaluation.folder) is None:
            self._time()
        self.trainer.strategy.barrier()

    def _time(self) -> None:
        """On the first photos of the set, whether or not they are restored already."""
        photos = self.evaluation.photos
        batches = (collate_readable([photos[index]])[0] for index in range(len(photos)))
        chosen = list(islice((batch for batch in batches if batch is not None), self.num_timed + 1))
        if not chosen:
            return
        moved = [self.transfer_batch_to_device((batch, []), self.device, 0)[0] for batch in chosen]
        timing = measure(self.evaluation.method, moved, self.device)
        with atomic_path(self.evaluation.folder / TIMING_NAME) as path:
            path.write_text(json.dumps(asdict(timing), indent=1) + "\n")

    def test_step(self, samples: tuple[RestorationBatch | None, list[Unreadable]], batch_idx: int) -> None:
        batch, unreadable = samples
        for photo in unreadable:
            self.journal.append(Row(photo.key, photo.identity, failure=photo.reason))
        if batch is None:
            return
        outcomes = self._restore(batch)
        for key, identity, outcome in zip(batch["key"], batch["identity"], outcomes, strict=True):
            if isinstance(outcome, UserError):
                self.journal.append(Row(key, identity, failure=str(outcome)))
        there = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, torch.Tensor)]
        if there:
            # Measured as stored: the same files given to --outputs get the same numbers.
            stored = [to_tensor(to_uint8(outcomes[index])) for index in there]
            for index, picture in zip(there, stored, strict=True):
                write_image(to_uint8(picture), self.evaluation.restored[batch["key"][index]])
            self._measure(torch.stack(stored).to(self.device), select(batch, there))

    def on_test_end(self) -> None:
        self.trainer.strategy.barrier()  # before the first process reads all rows

    def _restore(self, batch: RestorationBatch) -> list[Outcome]:
        """From the disk where an earlier run has restored it and only a further metric is wanted."""
        outcomes: list[Outcome | None] = [self._stored(key) for key in batch["key"]]
        missing = [index for index, outcome in enumerate(outcomes) if outcome is None]
        if missing:
            for index, outcome in zip(missing, self.evaluation.method(select(batch, missing)), strict=True):
                outcomes[index] = outcome
        return outcomes

    def _stored(self, key: str) -> torch.Tensor | None:
        row, path = self.known.get(key), self.evaluation.restored[key]
        return to_tensor(read_rgb(path)).to(self.device) if row and row.failure is None and path.exists() else None

    def _measure(self, restored: torch.Tensor, batch: RestorationBatch) -> None:
        """Rows with all columns; those of metrics that were measured before and are not wanted now stay."""
        before = [self.known.get(key) for key in batch["key"]]
        rows = [
            Row(key, identity, None, dict(row.values) if row else {}, dict(row.reasons) if row else {})
            for key, identity, row in zip(batch["key"], batch["identity"], before, strict=True)
        ]
        for metric in self.evaluation.metrics:
            for name, values in metric(restored, batch).items():
                for index, (row, value) in enumerate(zip(rows, values.numbers.tolist(), strict=True)):
                    row.values[name] = number(value)
                    if index in values.failures:
                        row.reasons[name] = values.failures[index]
        for row in rows:
            self.journal.append(row)


def _columns(metrics: Sequence[Metric | SetMetric]) -> dict[str, MetricInfo]:
    return {name: info for metric in metrics for name, info in metric.columns.items()}


def _values_of_set(summary: Summary, columns: Sequence[str]) -> dict[str, float | str]:
    """Those of its metrics that are not ``columns`` of single photos."""
    others = {name: metric for name, metric in summary.metrics.items() if name not in columns}
    return {
        name: next(iter(metric.not_measured), "") if metric.estimate is None else metric.estimate.mean
        for name, metric in others.items()
    }


def _on_device(batch: RestorationBatch, device: torch.device) -> RestorationBatch:
    return RestorationBatch(**{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()})


def select(batch: RestorationBatch, indices: Sequence[int]) -> RestorationBatch:
    """Some photos of a batch."""
    indices = list(indices)
    return RestorationBatch(
        **{
            name: values[indices] if isinstance(values, torch.Tensor) else [values[index] for index in indices]
            for name, values in batch.items()
        }
    )


def _is_complete(row: Row | None, metrics: set[str], restored: Path) -> bool:
    if row is None:
        return False
    return row.failure is not None or (metrics <= set(row.values) and restored.exists())


def _trainer(options: dict[str, Any]) -> Trainer:
    try:
        return Trainer(
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # ours gives every photo exactly once
            **options,
        )
    except (MisconfigurationException, ValueError) as error:
        found = " ".join(str(error).split())[:200]
        raise UserError("photos cannot be shared so", found=found, fix="Change --devices or --accelerator.") from None


def _call(function: Callable[[], object]) -> None:
    """Lightning's way out on Ctrl-C becomes Ctrl-C again."""
    try:
        function()
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
        raise
