"""A table definition -> a filled table: find data, methods and metrics, evaluate what can be, say what is missing.

Evaluations lie in ``<results>/<data>/<profile>/<method>-<references>-<hash>``; the hash is that of their protocol, so
other weights or other photos never meet older numbers, and what is finished is not done again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError
from lit_restore.evaluation.assemble import AvailableMetrics, Built, MethodChoice, available_metrics, build_method
from lit_restore.evaluation.comparability import Setting
from lit_restore.evaluation.definitions import (
    DatasetDefinition,
    Definitions,
    MethodDefinition,
    MetricDefinition,
    PartDefinition,
    QuickDefinition,
    RowDefinition,
)
from lit_restore.evaluation.inputs import EvaluationSet, InputChoice, choice_of_run
from lit_restore.evaluation.protocol import protocol_hash
from lit_restore.evaluation.runner import Evaluation, protocol_of
from lit_restore.evaluation.study.table_part import study_part
from lit_restore.evaluation.table import TIMING, Measured, Part, Table, Unmeasured, columns_of, fill_part
from lit_restore.metrics.catalogue import MetricOptions

METHOD_KINDS = ("checkpoint", "network", "outputs", "command", "baseline")
CHECKPOINT_SUFFIXES = (".pth", ".safetensors")


@dataclass(frozen=True)
class TableOptions:
    """What the person at the command line decides.

    Attributes:
        results: where evaluations go.
        data: data set -> folder that holds it.
        methods: method -> path instead of the one in methods.yaml.
        metric_options: weights and choices of the metrics.
        run: of `Evaluation.run`.
        quick: stand-ins of quick.yaml; None = the real thing.
        study: score.json of a user study.
        cache_dir: for manifests of folders that are not prepared.
    """

    results: Path
    data: Mapping[str, str] = field(default_factory=dict)
    methods: Mapping[str, str] = field(default_factory=dict)
    metric_options: MetricOptions = field(default_factory=MetricOptions)
    run: Mapping[str, Any] = field(default_factory=dict)
    quick: QuickDefinition | None = None
    study: Path | None = None
    cache_dir: str = InputChoice.cache_dir


class TableMaker:
    """Fills tables; what several of them need is loaded once.

    Args:
        definitions: of tables, data, methods, metrics.
        options: of the person at the command line.

    Raises:
        UserError: an option names data that is not defined.
    """

    def __init__(self, definitions: Definitions, options: TableOptions) -> None:
        self.definitions, self.options = definitions, options
        for name in options.data:
            if name not in definitions.datasets:
                raise UserError(f"unknown data set '{name}'", expected=", ".join(definitions.datasets))
        quick = {} if options.quick is None else options.quick.metrics
        self.metrics: dict[str, MetricDefinition] = definitions.metrics | dict(quick)
        self._photos: dict[tuple[InputChoice, str], EvaluationSet] = {}
        self._methods: dict[tuple[MethodChoice, int], Built] = {}
        self._available: dict[str, AvailableMetrics] = {}

    def make(self, name: str) -> Table:
        """One table.

        Raises:
            UserError: its definition is wrong. What is merely missing ends up in the table.
        """
        definition = self.definitions.table(name)
        parts = [part for part in definition.parts if self.options.quick is None or part.quick is not None]
        if not parts:
            raise UserError(
                f"table {name} has no --quick version",
                expected=", ".join(self.quick_names()),
                fix="Leave --quick out.",
            )
        title = definition.title + (" (quick, synthetic people)" if self.options.quick else "")
        return Table(name, title, tuple(self._part(part) for part in parts))

    def quick_names(self) -> list[str]:
        """Tables that can be made with --quick."""
        names = self.definitions.names()
        return [name for name in names if any(part.quick for part in self.definitions.table(name).parts)]

    def _part(self, part: PartDefinition) -> Part:
        published, contradictions = self.definitions.published(part.published)
        if part.data is None and self.options.study is not None:
            return study_part(published, self.options.study, part, self.metrics, contradictions)
        rows = {row: part.rows.get(row, RowDefinition(row)) for row in published.rows} | dict(part.more_rows)
        columns = {column.ours for column in columns_of(published, self.metrics) if column.ours} - {TIMING}
        unavailable: dict[str, str] = {}
        choice = self._choice(part)
        results: dict[str, Measured | Unmeasured] = {}
        for name, row in rows.items():
            method = self._method(row.method, part)
            lacking = [one for one in (choice, method) if isinstance(one, Unmeasured)]
            if lacking:
                results[name] = Unmeasured(tuple(reason for one in lacking for reason in one.reasons))
                continue
            references = part.references if row.references is None else row.references
            photos = replace(choice, num_references=references)
            results[name] = self._row(row.method, method, photos, part, sorted(columns), unavailable)
        return fill_part(
            published,
            results,
            self.metrics,
            self._setting(part, choice),
            unavailable=unavailable,
            contradictions=contradictions,
            notes=() if self._is_degraded_as_its_training(part) else part.notes,
        )

    def _is_degraded_as_its_training(self, part: PartDefinition) -> bool:
        """With --quick, where the part does not say otherwise; then its notes are about something else."""
        return self.options.quick is not None and (part.quick is None or part.quick.profile is None)

    def _choice(self, part: PartDefinition) -> InputChoice | Unmeasured:
        """The photos of a part, or why there are none."""
        quick = self.options.quick
        if quick is not None:
            choice = replace(choice_of_run(quick.run), limit=quick.limit)
            assert part.quick is not None
            if part.quick.profile is None:
                return choice
            return replace(
                choice,
                profile=part.quick.profile,
                profile_overrides=dict(part.quick.profile_changes),
                scale_profile=False,
            )
        if part.data is None:
            return _lacking("people have to be asked", "lit_restore study make, study score, then --study score.json")
        dataset = self.definitions.datasets[part.data]
        root = self.options.data.get(part.data, dataset.root)
        if root is None:
            return _lacking(f"{dataset.title}: no folder is known", dataset.get)
        if not Path(root).is_dir():
            return _lacking(f"{dataset.title}: {root} is not there", dataset.get)
        profile = part.profile or InputChoice.profile
        return InputChoice(
            root=(root,),
            layout=dataset.layout,
            split=dataset.split,
            size_px=dataset.size_px,
            profile=profile,
            cache_dir=self.options.cache_dir,
        )

    def _setting(self, part: PartDefinition, choice: InputChoice | Unmeasured) -> Setting:
        """What ours has to be compared with."""
        dataset = DatasetDefinition("user study") if part.data is None else self.definitions.datasets[part.data]
        quick = self.options.quick
        if quick is not None:
            measured_on = quick.title
        else:
            measured_on = "" if isinstance(choice, Unmeasured) else f"{dataset.title}, {', '.join(choice.root)}"
        return Setting(
            data=dataset.title,
            measured_on=measured_on,
            same_data=quick is None and dataset.root is not None,
            photos=dataset.photos,
            people=dataset.people,
            size_px=dataset.size_px,
            own_files=part.profile is None,
            subset=part.subset,
            profile=part.profile,
        )

    def _row(
        self,
        name: str,
        method: MethodChoice,
        choice: InputChoice,
        part: PartDefinition,
        columns: list[str],
        unavailable: dict[str, str],
    ) -> Measured | Unmeasured:
        try:
            photos = self._photos_of(choice)
            folder = self.options.results / _slug(part.data or "study", "quick" if self.options.quick else "")
            folder = folder / _slug(choice.profile if self._is_degraded(photos) else "own-files")
            built = self._built(method, photos, folder / _slug(name, str(choice.num_references), "program"))
            metrics = self._metrics(columns)
            unavailable.update(metrics.unavailable)
            protocol = protocol_of(photos, built.method, [])
            folder = folder / _slug(name, str(choice.num_references), protocol_hash(protocol))
            evaluation = Evaluation(
                photos,
                built.method,
                metrics.photo,
                folder,
                set_metrics=metrics.photo_set,
                remarks=built.remarks,
                timing=built.timing,
            )
            return Measured(evaluation.run(**self.options.run), evaluation.folder)
        except UserError as error:
            return _lacking(str(error))

    def _method(self, name: str, part: PartDefinition) -> MethodChoice | Unmeasured:
        """How a method's pictures are made here, or why they cannot be."""
        quick = self.options.quick
        definition = self.definitions.methods.get(name)
        given = self.options.methods.get(name)
        if quick is not None and given is None:
            if name == quick.method:
                return MethodChoice("checkpoint", quick.run, name=name)
            if definition is None or definition.baseline is None:
                return _lacking("not a part of --quick")
        if given is not None:
            return _choice_of_path(name, given)
        definition = definition or MethodDefinition(outputs=f"outputs/{name}/{{data}}")
        kinds = {kind: getattr(definition, kind) for kind in METHOD_KINDS if getattr(definition, kind) is not None}
        if len(kinds) != 1:
            raise UserError("a method needs one way to be made", where=f"methods.yaml, {name}", found=", ".join(kinds))
        [(kind, value)] = kinds.items()
        value = value.replace("{data}", part.data or "").replace("{profile}", part.profile or "own-files")
        if kind in ("checkpoint", "network", "outputs") and not Path(value).exists():
            fill = definition.get or f"its pictures of the same inputs as {value}/, or --method '{name}=FOLDER'"
            return _lacking(f"{kind} {value} is not there", fill)
        return MethodChoice(kind, value, name=name)

    def _photos_of(self, choice: InputChoice) -> EvaluationSet:
        key = replace(choice, profile_overrides=None), repr(choice.profile_overrides)
        if key not in self._photos:
            self._photos[key] = EvaluationSet(choice)
        return self._photos[key]

    def _is_degraded(self, photos: EvaluationSet) -> bool:
        return any(target.lq is None and target.role == "hq" for target in photos.targets)

    def _built(self, method: MethodChoice, photos: EvaluationSet, folder: Path) -> Built:
        if method.kind in ("outputs", "command"):
            return build_method(method, photos, folder)
        key = method, photos.choice.size_px
        if key not in self._methods:
            self._methods[key] = build_method(method, photos, folder)
        return self._methods[key]

    def _metrics(self, columns: list[str]) -> AvailableMetrics:
        """Loaded when the first row needs them; a missing one is only reported once."""
        for column in columns:
            if column not in self._available:
                self._available[column] = available_metrics([column], self.options.metric_options)
        chosen = [self._available[column] for column in columns]
        return AvailableMetrics(
            _unique(metric for one in chosen for metric in one.photo),
            _unique(metric for one in chosen for metric in one.photo_set),
            {column: reason for one in chosen for column, reason in one.unavailable.items()},
        )


def _choice_of_path(name: str, path: str) -> MethodChoice | Unmeasured:
    """What lies at a path that was named for a method."""
    place = Path(path)
    if not place.exists():
        return _lacking(f"{path} is not there")
    if place.is_file():
        return MethodChoice("network" if place.suffix in CHECKPOINT_SUFFIXES else "checkpoint", path, name=name)
    is_model = any((place / part).exists() for part in ("config.json", "model", "checkpoints"))
    return MethodChoice("checkpoint" if is_model else "outputs", path, name=name)


def _lacking(reason: str, fill: str | None = None) -> Unmeasured:
    return Unmeasured(((reason, fill),))


def _slug(*words: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.+]+", "_", word).strip("_") for word in words if word)


def _unique(items: Any) -> list[Any]:
    seen: dict[tuple[str, ...], Any] = {}
    for item in items:
        seen.setdefault(tuple(item.columns), item)
    return list(seen.values())
