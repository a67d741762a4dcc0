"""An ablation study: a sweep, which of its runs make a row of the table, and how they are measured.

    title: AdaIN
    sweep: ../sweeps/adain.yaml             # beside this file; a grid with one key for the seed
    seed: model.init_args.seed
    rows:                                   # the first one is what the others are compared with
      with AdaIN: {model.init_args.generator.use_adain: true}
      without: {model.init_args.generator.use_adain: false}
    references: [4]                         # several give a row each
    metrics: [psnr, ssim, id_synthetic]

Without ``rows`` every combination of the sweep's values is a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError, nearest
from lit_restore.evaluation.definitions import build
from lit_restore.experiments.expansion import PlannedRun, label
from lit_restore.experiments.sweep_file import Sweep, read_sweep
from lit_restore.training.config_sources import read_yaml


@dataclass(frozen=True)
class StudyDefinition:
    """What the file says.

    Attributes:
        sweep: file of the trainings, relative to the study's.
        seed: the sweep's key that only repeats.
        rows: name -> the values that its runs have; empty = one row per combination.
        references: how many the trained networks are given.
        notes: what has to be said about the result.
    """

    title: str
    sweep: str
    seed: str = "model.init_args.seed"
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references: Sequence[int] = (4,)
    metrics: Sequence[str] = ("psnr", "ssim")
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class StudyRow:
    """One row of the table: trainings that differ in nothing but their seed, with so many references."""

    name: str
    runs: Mapping[int, PlannedRun]
    references: int


@dataclass(frozen=True)
class Study:
    """A study, ready to be planned."""

    name: str
    path: Path
    definition: StudyDefinition
    sweep: Sweep

    def rows(self, runs: Sequence[PlannedRun]) -> list[StudyRow]:
        """Sort the runs of the sweep into rows.

        Raises:
            UserError: a row has no runs, or two with one seed; runs of no row.
        """
        groups: dict[str, dict[int, PlannedRun]] = {name: {} for name in self.definition.rows}
        for run in runs:
            name = self._row_of(run)
            group = groups.setdefault(name, {})
            seed = run.parameters[self.definition.seed]
            if seed in group:
                raise UserError(
                    f"two runs of row '{name}' have the same seed",
                    where=self.path,
                    found=f"{label(group[seed].parameters)} and {label(run.parameters)}",
                    fix="Give the row all values by which its runs differ from others.",
                )
            group[seed] = run
        for name, group in groups.items():
            if not group:
                raise UserError(f"no run of the sweep belongs to row '{name}'", where=self.path)
        several = len(self.definition.references) > 1
        return [
            StudyRow(", ".join(_words(name, count if several else None)), group, count)
            for name, group in groups.items()
            for count in self.definition.references
        ]

    def _row_of(self, run: PlannedRun) -> str:
        if not self.definition.rows:
            return label({key: value for key, value in run.parameters.items() if key != self.definition.seed})
        for name, values in self.definition.rows.items():
            if all(run.parameters.get(key) == value for key, value in values.items()):
                return name
        raise UserError("a run of the sweep belongs to no row", where=self.path, found=label(run.parameters))


def read_study(
    name: str,
    folder: Path,
    *,
    options: Sequence[str] = (),
    base: str | None = None,
    metrics: Sequence[str] | None = None,
    references: Sequence[int] | None = None,
) -> Study:
    """Read and check a study.

    Args:
        name: of a file in ``folder``, or a path.
        options: further options of every training.
        base: a config in place of the one in the sweep's command.
        metrics, references: instead of the file's.

    Raises:
        UserError: there is no such study, or something in it is wrong.
    """
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"no study '{name}'", where=path.parent, fix=nearest(name, study_names(folder) or [str(folder)])
        )
    source = read_yaml(path)
    definition: StudyDefinition = build(StudyDefinition, source.values, path)
    if metrics:
        definition = replace(definition, metrics=metrics)
    if references:
        definition = replace(definition, references=references)
    sweep = read_sweep(path.parent / definition.sweep, options=options, base=base)
    if sweep.method != "grid":
        raise UserError("a study needs a grid", where=sweep.source.name, found=sweep.method)
    keys = [definition.seed, *(key for values in definition.rows.values() for key in values)]
    for key in keys:
        if key not in sweep.parameters:
            raise UserError(
                f"the sweep does not vary '{key}'", where=path, fix=nearest(key, [str(key) for key in sweep.parameters])
            )
    return Study(path.stem + (f"-{Path(base).stem}" if base else ""), path, definition, sweep)


def study_names(folder: Path) -> list[str]:
    """Of all studies in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _words(name: str, references: int | None) -> list[str]:
    counted = [] if references is None else [f"{references} reference{'' if references == 1 else 's'}"]
    return [name, *counted] if name else counted
