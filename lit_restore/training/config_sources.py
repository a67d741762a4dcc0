"""Where configuration values come from: YAML files and options, each value with its place for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_restore.errors import UserError

COMMAND_LINE = "command line"
NOTHING = object()
"""The value of an option that has none."""


@dataclass
class Source:
    """One file or one option, in the order in which they override each other.

    Attributes:
        values: nested, as in YAML; those of options are still text.
        name: file name, or `COMMAND_LINE`.
        lines: dotted key -> line number, of a file.
    """

    values: dict[str, Any]
    name: str = COMMAND_LINE
    lines: dict[str, int] = field(default_factory=dict)

    def holds(self, key: str) -> bool:
        """Whether ``key`` is set here."""
        values: Any = self.values
        for name in key.split("."):
            if not isinstance(values, dict) or name not in values:
                return False
            values = values[name]
        return True

    def place(self, key: str) -> str:
        """Where ``key`` is written, or the nearest key around it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.name}, line {self.lines[key]}" if key else self.name


def read_sources(options: Sequence[str]) -> list[Source]:
    """Every ``--config FILE`` and ``--key value`` of a command line.

    Raises:
        UserError: a file is missing, cannot be read or is not a YAML mapping.
    """
    sources, rest = [], list(options)
    while rest:
        option = rest.pop(0)
        if option in ("-h", "--help") or option.split("=")[0] == "--print_config" or not option.startswith("-"):
            continue
        name, has_value, value = option.partition("=")
        if not has_value:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else NOTHING
        if name in ("-c", "--config"):
            if value is NOTHING:
                raise UserError(f"{name} needs the name of a file", fix="To begin, take configs/quickstart.yaml.")
            sources.append(read_yaml(value))
        elif not name.endswith(".help"):
            sources.append(Source(_nested(name.lstrip("-").removesuffix("+"), _structured(value))))
    return sources


def read_yaml(path: str | Path) -> Source:
    """A YAML file with the lines of its keys.

    Raises:
        UserError: it is missing, cannot be read, is not a YAML mapping, or has a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        source = Source({}, str(path))
        _number_lines(node, "", source)
        source.values = loader.construct_document(node) if node is not None else None
    except FileNotFoundError:
        raise UserError("no such config file", where=path, fix=_nearby(Path(path))) from None
    except IsADirectoryError:
        raise UserError("a folder where a config file was expected", where=path, fix=_nearby(Path(path))) from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise UserError("not a YAML file", where=path, expected="text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError("YAML syntax error", where=f"{path}{line}", found=error.problem) from None
    if not isinstance(source.values, dict):
        found = "nothing" if source.values is None else type(source.values).__name__
        raise UserError("not a configuration", where=path, expected="YAML keys like 'model:' and 'data:'", found=found)
    return source


def _number_lines(node: yaml.Node | None, key: str, source: Source) -> None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            dotted = f"{key}.{name.value}" if key else str(name.value)
            line = name.start_mark.line + 1
            if dotted in source.lines and name.value != "<<":
                raise UserError(  # YAML itself would silently forget the first
                    f"the key '{dotted}' is there twice",
                    where=source.name,
                    found=f"lines {source.lines[dotted]} and {line}",
                )
            source.lines[dotted] = line
            _number_lines(value, dotted, source)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            source.lines[f"{key}[{index}]"] = value.start_mark.line + 1
            _number_lines(value, f"{key}[{index}]", source)


def _nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _structured(text: Any) -> Any:
    """Options may hold YAML mappings and lists; everything else stays text."""
    if text is NOTHING or not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _nearby(path: Path) -> str:
    """A config file with a similar name, else the one to begin with."""
    folder = path if path.is_dir() else path.parent
    known = [str(file) for file in folder.glob("*.yaml")] if folder.is_dir() else []
    close = difflib.get_close_matches(str(path), known, n=1, cutoff=0.7)
    return f"Did you mean '{close[0]}'?" if close else "To begin, take configs/quickstart.yaml."
