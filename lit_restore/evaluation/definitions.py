"""Table definitions: which published table, on which data, by which methods. Plain YAML below ``experiments/``.

    tables/NAME.yaml   title and parts; a part points at one published table and says how to measure it anew
    datasets.yaml      data sets: where they are looked for, how many photos and people, how to get them
    methods.yaml       methods by the papers' names: checkpoint, network, command, outputs or a baseline
    metrics.yaml       the papers' metrics -> ours
    quick.yaml         what stands in for data, methods and metrics with --quick
    published/         the papers' numbers

Nothing here computes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lit_restore.errors import UserError, nearest
from lit_restore.evaluation.published import PublishedFile, PublishedTable, contradictions, read_published

FOLDER = "experiments"


@dataclass(frozen=True)
class DatasetDefinition:
    """A data set of the papers.

    Attributes:
        photos, people: as published; None = not stated.
        get: the command or sentence that gets it; None = it is not published.
    """

    title: str
    root: str | None = None
    layout: str = "auto"
    split: str = "test"
    size_px: int = 512
    photos: int | None = None
    people: int | None = None
    get: str | None = None


@dataclass(frozen=True)
class MethodDefinition:
    """How a method's pictures are made: exactly one of the first five.

    Attributes:
        outputs: folder of pictures; ``{data}`` and ``{profile}`` are replaced.
        command: as in `lit_restore.evaluation.programs`.
        get: how to get what is missing.
    """

    checkpoint: str | None = None
    network: str | None = None
    outputs: str | None = None
    command: str | None = None
    baseline: str | None = None
    get: str | None = None


@dataclass(frozen=True)
class MetricDefinition:
    """What we measure for a metric of the papers.

    Attributes:
        ours: our metric; ``seconds`` = the timing; None = it is not measured.
        digits: decimals to print.
        network: the paper's recognition network or backbone; None = none or not stated.
        remark: what has to be said about comparing the two.
    """

    ours: str | None = None
    digits: int = 3
    network: str | None = None
    remark: str | None = None


@dataclass(frozen=True)
class RowDefinition:
    """A row of ours: a method with a number of references."""

    method: str
    references: int | None = None


@dataclass(frozen=True)
class QuickPart:
    """The degradation that stands in with --quick; the profile None = that of the training."""

    profile: str | None = None
    profile_changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PartDefinition:
    """One published table measured anew.

    Attributes:
        published: ``file.yaml/table id``.
        data: name in datasets.yaml; None = people are asked (a user study).
        preferred: of a user study: the method whose share against each row's method is printed.
        profile: degradation; None = the data set's own degraded files.
        subset: why the paper's photos are fewer than the data set's.
        rows: published row -> how we make it; others are made by the method of the same name.
        more_rows: rows that the paper does not have.
        quick: how the part is made with --quick; None = not.
        notes: what has to be said about ours and how it is degraded.
    """

    published: str
    data: str | None = None
    preferred: str | None = None
    profile: str | None = None
    references: int = 4
    subset: str | None = None
    rows: Mapping[str, RowDefinition] = field(default_factory=dict)
    more_rows: Mapping[str, RowDefinition] = field(default_factory=dict)
    quick: QuickPart | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TableDefinition:
    """A table of a paper."""

    name: str
    title: str
    parts: tuple[PartDefinition, ...]


@dataclass(frozen=True)
class QuickDefinition:
    """Stand-ins for --quick.

    Attributes:
        config: of the training that makes ``run`` where it is not there.
        limit: photos.
        metrics: a paper's metric -> stand-in.
        title: of the data.
    """

    run: str
    config: str
    method: str
    limit: int
    title: str
    metrics: Mapping[str, MetricDefinition] = field(default_factory=dict)


class Definitions:
    """Everything below an ``experiments`` folder.

    Raises:
        UserError: the folder or a file is missing, or a key is unknown.
    """

    def __init__(self, folder: str | Path = FOLDER) -> None:
        self.folder = Path(folder)
        if not (self.folder / "tables").is_dir():
            raise UserError(
                "no table definitions",
                where=self.folder.absolute(),
                expected="tables/, published/, datasets.yaml, methods.yaml, metrics.yaml",
                fix="Run the command in the repository of lit_restore, or name its folder: --experiments DIR.",
            )
        self._published: dict[str, PublishedFile] = {}
        self.datasets = self._mapping("datasets.yaml", DatasetDefinition)
        self.methods = self._mapping("methods.yaml", MethodDefinition)
        self.metrics = self._mapping("metrics.yaml", MetricDefinition)

    def names(self) -> list[str]:
        """Of all tables."""
        return sorted(path.stem for path in (self.folder / "tables").glob("*.yaml"))

    def table(self, name: str) -> TableDefinition:
        """One table.

        Raises:
            UserError: there is none of this name, or it names data that datasets.yaml does not have.
        """
        path = self.folder / "tables" / f"{name}.yaml"
        if not path.is_file():
            raise UserError(f"no table '{name}'", where=path.parent, fix=nearest(name, self.names()))
        content = _read(path)
        parts = content.pop("parts", None)
        if not isinstance(parts, list) or not parts or "title" not in content or len(content) > 1:
            raise UserError("bad table definition", where=path, expected="title and parts")
        table = TableDefinition(name, content["title"], tuple(self._part(part, path) for part in parts))
        for part in table.parts:
            if part.data is not None and part.data not in self.datasets:
                raise UserError(f"unknown data set '{part.data}'", where=path, fix=nearest(part.data, self.datasets))
        return table

    def quick(self) -> QuickDefinition:
        """The stand-ins."""
        path = self.folder / "quick.yaml"
        content = _read(path)
        metrics = {name: build(MetricDefinition, value, path) for name, value in content.pop("metrics", {}).items()}
        return build(QuickDefinition, content | {"metrics": metrics}, path)

    def published(self, pointer: str) -> tuple[PublishedTable, list[str]]:
        """The table that ``file.yaml/table id`` points at, and its contradictions with others of its file."""
        name, _, table_id = pointer.partition("/")
        path = self.folder / "published" / name
        if name not in self._published:
            self._published[name] = read_published(path)
        content = self._published[name]
        return content.table(table_id, path), contradictions(content, table_id)

    def _part(self, content: Any, path: Path) -> PartDefinition:
        if not isinstance(content, dict):
            raise UserError("bad part of a table", where=path, expected="keys like published and data")
        for key in ("rows", "more_rows"):
            rows = content.get(key, {})
            content[key] = {str(name): build(RowDefinition, row, f"{path}, {name}") for name, row in rows.items()}
        if content.get("quick") is not None:
            content["quick"] = build(QuickPart, content["quick"], f"{path}, quick")
        return build(PartDefinition, content, path)

    def _mapping(self, name: str, kind: type[Kind]) -> dict[str, Kind]:
        path = self.folder / name
        return {str(key): build(kind, value, f"{path}, {key}") for key, value in _read(path).items()}


Kind = TypeVar("Kind")


def build(kind: type[Kind], content: Any, where: object) -> Kind:
    """A dataclass from YAML.

    Raises:
        UserError: a key is unknown or missing.
    """
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(content, Mapping):
        raise UserError("bad definition", where=where, expected=f"keys {', '.join(known)}", found=repr(content)[:60])
    for key in content:
        if key not in known:
            raise UserError(f"unknown key '{key}'", where=where, fix=nearest(str(key), known))
    for name, one in known.items():
        if one.default is MISSING and one.default_factory is MISSING and name not in content:
            raise UserError(f"no key '{name}'", where=where)
    return kind(**content)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError("no such definition file", where=path) from None
    except yaml.YAMLError as error:
        raise UserError("not a YAML file", where=path, found=" ".join(str(error).split())[:200]) from None
    if not isinstance(content, dict):
        raise UserError("bad definition file", where=path, expected="keys and values")
    return content
