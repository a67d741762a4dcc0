"""The trainings of a study, measured with the same photos, as a table: means, and differences from the first row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError
from lit_restore.evaluation.assemble import AvailableMetrics, MethodChoice, build_method
from lit_restore.evaluation.inputs import EvaluationSet, InputChoice, choice_of_run
from lit_restore.evaluation.protocol import protocol_hash
from lit_restore.evaluation.records import Journal, Row
from lit_restore.evaluation.runner import Evaluation, protocol_of
from lit_restore.evaluation.table import Cell, Column, Part, Table, TableRow, Unmeasured
from lit_restore.experiments.expansion import PlannedRun
from lit_restore.experiments.seeds_and_people import Values, difference, estimate
from lit_restore.experiments.study_file import Study, StudyRow
from lit_restore.experiments.sweep_folder import SweepFolder
from lit_restore.metrics.catalogue import COLUMNS

FEWEST_SEEDS = 3
INTERVALS = "95 % intervals, bootstrap over seeds and people"


@dataclass
class Measurements:
    """What is known of one row of the study.

    Attributes:
        photos: seed -> rows of the photos.
        missing: seed -> why there are none.
    """

    row: StudyRow
    photos: dict[int, list[Row]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)

    def values(self, metric: str) -> Values:
        """Of one metric, wherever it is known."""
        return {
            seed: {
                (row.identity, row.key): float(row.values[metric])  # type: ignore[arg-type]
                for row in rows
                if row.values.get(metric) is not None
            }
            for seed, rows in self.photos.items()
        }

    def num_missing(self, metric: str) -> int:
        """Photos, counted once for every training, without a value."""
        return sum(row.values.get(metric) is None for rows in self.photos.values() for row in rows)


class StudyEvaluation:
    """Measures the finished runs of a study; what was measured before is not measured again.

    Args:
        folder: of the evaluations.
        runs: of the sweep.
        metrics: those that can be used.
        limit: only so many photos.
        run: of `Evaluation.run`.
        report: told what is measured now.
    """

    def __init__(
        self,
        folder: Path,
        runs: SweepFolder,
        metrics: AvailableMetrics,
        *,
        limit: int | None = None,
        run: Mapping[str, Any] | None = None,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.runs, self.metrics, self.limit = folder, runs, metrics, limit
        self.options, self.report = dict(run or {}), report
        self.choice: InputChoice | None = None
        self._photos: dict[int, EvaluationSet] = {}

    def measure(self, rows: Sequence[StudyRow]) -> list[Measurements]:
        """All rows; a run that is not finished is missing in them.

        Raises:
            UserError: the runs were made to be tested on different photos.
        """
        measured = [Measurements(row) for row in rows]
        for one in measured:
            for seed, run in one.row.runs.items():
                if not self.runs.is_finished(run.name):
                    state = self.runs.records[run.name].state if run.name in self.runs.records else "not started"
                    one.missing[seed] = f"its training is {state}"
                    continue
                self.report(f"{one.row.name}, seed {seed}")
                one.photos[seed] = self._measure(run, one.row.references)
        return measured

    def measured_on(self) -> str:
        """The photos in words."""
        if self.choice is None:
            return ""
        photos = next(iter(self._photos.values()))
        degraded = f", degraded by {self.choice.profile}" if any(t.lq is None for t in photos.targets) else ""
        return (
            f"{len(photos)} photos of {photos.num_people} people of {self.choice.name}, split {self.choice.split}, "
            f"{self.choice.size_px} px{degraded}"
        )

    def _measure(self, run: PlannedRun, references: int) -> list[Row]:
        place = self.runs.path / run.name
        photos = self._photos_of(place, references)
        method = build_method(MethodChoice("checkpoint", str(place), name=run.name), photos, self.folder).method
        hashed = protocol_hash(protocol_of(photos, method, []))
        evaluation = Evaluation(
            photos,
            method,
            self.metrics.photo,
            self.folder / f"{run.name}-{references}-{hashed}",
            set_metrics=self.metrics.photo_set,
        )
        evaluation.run(**self.options)
        known = Journal(evaluation.folder).read()
        return [known[target.key] for target in photos.targets]

    def _photos_of(self, place: Path, references: int) -> EvaluationSet:
        choice = replace(choice_of_run(place), limit=self.limit)
        if self.choice is None:
            self.choice = choice
        different = [name for name in _different(choice, self.choice) if name not in ("num_references", "cache_dir")]
        if different:
            raise UserError(
                "the runs of a study have to be tested on the same photos",
                where=place,
                found=f"different {', '.join(different)}",
                fix="Let the seed be model.init_args.seed, and vary no key of the data that the test photos depend on.",
            )
        if references not in self._photos:
            self._photos[references] = EvaluationSet(replace(choice, num_references=references))
        return self._photos[references]


def make_table(
    study: Study, measured: Sequence[Measurements], measured_on: str, unavailable: Mapping[str, str]
) -> Table:
    """Means of all rows; differences of the others from the first.

    Args:
        unavailable: metric -> why it could not be used.
    """
    names = dict.fromkeys(
        name for one in measured for rows in one.photos.values() for row in rows for name in row.values
    )
    columns = tuple(_column(name) for name in COLUMNS if name in names and COLUMNS[name].higher_is_better is not None)
    title = study.definition.title
    notes = (
        *study.definition.notes,
        *_about_seeds(measured),
        *_about_people(measured),
        *(f"Not measured: {name}: {reason}" for name, reason in unavailable.items()),
    )
    means = _part(f"{title}: means", "means", measured_on, columns, [_means(one, columns) for one in measured], notes)
    if len(measured) < 2:
        return Table(study.name, title, (means,))
    first, *others = measured
    caption = f"{title}: difference from {first.row.name}, photo by photo and seed by seed"
    rows = [_differences(one, first, columns) for one in others]
    return Table(study.name, title, (means, _part(caption, "differences", measured_on, columns, rows, ())))


def _part(
    caption: str, name: str, measured_on: str, columns: tuple[Column, ...], rows: list[TableRow], notes: tuple[str, ...]
) -> Part:
    return Part(
        caption=caption,
        paper="",
        arxiv=None,
        published_id=name,
        dataset="",
        measured_on=measured_on or None,
        columns=columns,
        rows=tuple(rows),
        warnings=(),
        notes=notes,
        intervals=INTERVALS,
    )


def _column(name: str) -> Column:
    info = COLUMNS[name]
    digits = len(info.format.format(0.0).partition(".")[2])
    return Column(info.title, name, name, bool(info.higher_is_better), digits, info.unit)


def _means(one: Measurements, columns: Sequence[Column]) -> TableRow:
    cells = {
        column.name: Cell(
            estimate(one.values(column.metric)), None, "no photo could be measured", one.num_missing(column.metric)
        )
        for column in columns
    }
    return _row(one, cells)


def _differences(one: Measurements, first: Measurements, columns: Sequence[Column]) -> TableRow:
    cells = {}
    for column in columns:
        found = estimate(difference(one.values(column.metric), first.values(column.metric)))
        missing = max(one.num_missing(column.metric), first.num_missing(column.metric))
        cells[column.name] = Cell(found, None, f"no seed and photo in common with {first.row.name}", missing)
    return _row(one, cells)


def _row(one: Measurements, cells: dict[str, Cell]) -> TableRow:
    cells = {name: cell if cell.ours is None else replace(cell, missing=None) for name, cell in cells.items()}
    if not one.photos:
        reasons = tuple((reason, None) for reason in dict.fromkeys(one.missing.values()))
        return TableRow(one.row.name, cells, None, Unmeasured(reasons))
    return TableRow(one.row.name, cells, None, None, tuple(_warnings(one)))


def _warnings(one: Measurements) -> Iterator[str]:
    if one.missing:
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in one.missing.items())
        yield f"Only {len(one.photos)} of {len(one.row.runs)} seeds: {reasons}."
    failed = sum(row.failure is not None for rows in one.photos.values() for row in rows)
    if failed:
        yield f"{failed} photos, counted once per seed, could not be restored and do not count."


def _about_seeds(measured: Sequence[Measurements]) -> Iterator[str]:
    fewest = min((len(one.photos) for one in measured if one.photos), default=0)
    if 0 < fewest < FEWEST_SEEDS:
        counted = f"{fewest} seed{'' if fewest == 1 else 's'}"
        yield f"{counted}: the intervals say little about other trainings; {FEWEST_SEEDS} are advised."
    else:
        spread = math.sqrt((fewest - 1) / fewest) if fewest else 0
        yield f"{fewest} seeds: the part of the interval that is due to them is narrow by a factor of {spread:.2f}."


def _about_people(measured: Sequence[Measurements]) -> Iterator[str]:
    if len({row.identity for one in measured for rows in one.photos.values() for row in rows}) == 1:
        yield "One person: the intervals say nothing about other people."


def _different(one: InputChoice, other: InputChoice) -> list[str]:
    return [f.name for f in fields(InputChoice) if getattr(one, f.name) != getattr(other, f.name)]
