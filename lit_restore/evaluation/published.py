"""Numbers that papers print: tables of facts, read from ``experiments/published/*.yaml``, and where they disagree.

A file holds one paper or a list of papers. A paper has ``tables`` (columns with metric, direction and unit; rows with
values, null = not readable) and may list cells of one setting, whose numbers ought to be equal:

    same_setting:
    - about: the full model with four references
      cells: [1-blind/InstantRestore, 3-num-references/InstantRestore n=4]        # table id / row

`contradictions` compares those cells; nothing about the numbers themselves is written down a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_restore.errors import UserError, nearest


@dataclass(frozen=True)
class PublishedColumn:
    """One column as printed.

    Attributes:
        metric: normalised name, the same for the same quantity in all files of one source.
        higher_is_better: direction of improvement.
    """

    name: str
    metric: str
    higher_is_better: bool
    unit: str | None


@dataclass(frozen=True)
class SameSetting:
    """Cells that describe one experiment: (table id, row) each."""

    about: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PublishedTable:
    """One table of a paper; ``rows`` is row name -> column name -> number, None where it could not be read."""

    paper: str
    arxiv: str | None
    id: str
    caption: str
    dataset: str
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, Mapping[str, float | None]]
    notes: str | None
    second_hand: bool

    def by_metric(self, row: str) -> dict[str, float | None]:
        """Numbers of a row by metric instead of column name."""
        return {column.metric: self.rows[row].get(column.name) for column in self.columns}


@dataclass(frozen=True)
class PublishedFile:
    """All tables of one file by id."""

    tables: Mapping[str, PublishedTable]
    same_setting: tuple[SameSetting, ...]

    def table(self, table_id: str, where: object) -> PublishedTable:
        """One table.

        Raises:
            UserError: there is none of this id.
        """
        if table_id not in self.tables:
            raise UserError("no such published table", where=where, found=table_id, fix=nearest(table_id, self.tables))
        return self.tables[table_id]


def read_published(path: str | Path) -> PublishedFile:
    """Read and check one file.

    Raises:
        UserError: missing, not YAML, or a value that is not a number.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError("no such file of published numbers", where=path) from None
    except yaml.YAMLError as error:
        raise UserError("not a YAML file", where=path, found=" ".join(str(error).split())[:200]) from None
    papers = content if isinstance(content, list) else [content]
    tables: dict[str, PublishedTable] = {}
    same: list[SameSetting] = []
    try:
        for paper in papers:
            for values in paper["tables"]:
                if values["id"] in tables:
                    raise UserError("two published tables of one id", where=path, found=values["id"])
                tables[values["id"]] = _table(paper, values, path)
            same += [
                SameSetting(item["about"], tuple(_cell(cell) for cell in item["cells"]))
                for item in paper.get("same_setting", ())
            ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("incomplete table of published numbers", where=path, found=f"no {error}") from None
    published = PublishedFile(tables, tuple(same))
    for setting in same:
        for table_id, row in setting.cells:
            if row not in published.table(table_id, path).rows:
                raise UserError("no such published row", where=f"{path}, same_setting", found=f"{table_id}/{row}")
    return published


def contradictions(published: PublishedFile, table_id: str) -> list[str]:
    """Sentences about numbers of this table that differ from the same setting's numbers elsewhere in the file."""
    sentences = []
    for setting in published.same_setting:
        if not any(table == table_id for table, _ in setting.cells):
            continue
        for column in published.tables[table_id].columns:
            printed: dict[float, list[str]] = {}
            for table, row in setting.cells:
                value = published.tables[table].by_metric(row).get(column.metric)
                if value is not None:
                    printed.setdefault(value, []).append(f"{table}/{row}")
            if len(printed) > 1:
                values = ", ".join(f"{value:g} in {' and '.join(cells)}" for value, cells in printed.items())
                sentences.append(f"The paper contradicts itself on {setting.about}: {column.name} is {values}.")
    return sentences


def _cell(text: str) -> tuple[str, str]:
    table, _, row = text.partition("/")
    return table, row


def _table(paper: Mapping[str, Any], values: Mapping[str, Any], path: Path) -> PublishedTable:
    columns = tuple(
        PublishedColumn(str(c["name"]), c["metric"], _is_up(c["direction"], path), c["unit"]) for c in values["columns"]
    )
    names = {column.name for column in columns}
    rows: dict[str, dict[str, float | None]] = {}
    for row in values["rows"]:
        for name, value in row["values"].items():
            if name not in names:
                raise UserError("value of no column", where=f"{path}, {values['id']}, {row['method']}", found=name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise UserError(
                    "not a number", where=f"{path}, {values['id']}, {row['method']}, {name}", found=repr(value)
                )
        rows[str(row["method"])] = row["values"]
    return PublishedTable(
        paper=paper["paper"],
        arxiv=paper.get("arxiv_id", paper.get("arxiv")),
        id=values["id"],
        caption=values["caption"],
        dataset=values["dataset"],
        columns=columns,
        rows=rows,
        notes=values.get("notes"),
        second_hand=values.get("read_as") == "third_party",
    )


def _is_up(direction: str, path: Path) -> bool:
    if direction not in ("up", "down"):
        raise UserError("bad direction of a column", where=path, expected="up or down", found=direction)
    return direction == "up"
