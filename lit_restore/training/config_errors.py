"""What is wrong with a configuration, in one line: key, place, what would have been right, the nearest right key.

jsonargparse decides whether a configuration is right. Where it says no, its message is about Python types and unions;
the code here walks through the same values, beside the signatures of the classes they configure, until it finds the
key that is meant.
"""

from __future__ import annotations

import argparse
import collections.abc
import difflib
import inspect
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from lit_restore.errors import UserError, nearest
from lit_restore.training.config_sources import COMMAND_LINE, NOTHING, Source

MOST_LISTED = 14


@dataclass(frozen=True)
class Group:
    """The parameters of a class, written without naming the class."""

    kind: type


def explain(sources: Iterable[Source], schema: dict[str, Any], message: str) -> UserError:
    """The error behind a refused configuration.

    Args:
        sources: where the values come from.
        schema: top-level key -> type hint or `Group`.
        message: what jsonargparse said; used where nothing more exact is found.
    """
    found = find_error(sources, schema)
    if found is not None:
        return found
    missing = re.search(r"required: (?:\w+\.)?(.+)", message)
    if missing and missing.group(1) == "model":
        return UserError("no model is configured", fix="Name a configuration: --config configs/quickstart.yaml")
    if missing:
        keys = [key if key in schema else f"model.init_args.{key}" for key in missing.group(1).split(", ")]
        return UserError(f"no value for {' and '.join(keys)}", fix=f"Write --{keys[0]} VALUE.")
    return UserError("configuration refused", found=_clean(message))


def find_error(sources: Iterable[Source], schema: dict[str, Any]) -> UserError | None:
    """The first wrong key or value."""
    walk = _Walk(schema)
    try:
        for source in sources:
            walk.check(source)
    except UserError as error:
        return error
    return None


def refuse_filled_groups(sources: Iterable[Source], schema: dict[str, Any]) -> None:
    """Refuse ``data: 3`` in a file, which jsonargparse would let pass.

    Raises:
        UserError: a group of keys has a value of its own.
    """
    for source in sources:
        if source.name != COMMAND_LINE:
            _Walk(schema).check_groups(source)


class _Walk:
    """One pass over all sources; classes named in one are known in the next."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.classes: dict[str, type] = {}

    def check(self, source: Source) -> None:
        """Raise a `UserError` about the first wrong key or value."""
        self.source = source
        self._check_keys("", source.values, self.schema)

    def check_groups(self, source: Source) -> None:
        """Raise a `UserError` about the first group that is no mapping."""
        self.source = source
        self._check_groups("", source.values, self.schema)

    def _check_groups(self, prefix: str, values: dict[str, Any], known: dict[str, Any]) -> None:
        for name, value in values.items():
            hint = known.get(name)
            kind = hint.kind if isinstance(hint, Group) else hint if is_dataclass(hint) else None
            if kind is None or isinstance(value, str):  # a text may be an interpolation or the name of a file
                continue
            key = f"{prefix}.{name}" if prefix else str(name)
            if not isinstance(value, dict):
                raise self._wrong(key, "keys and values", value)
            self._check_groups(key, value, parameters(kind) or {})

    def _check_keys(self, prefix: str, values: Any, known: dict[str, Any] | None) -> None:
        if not isinstance(values, dict):
            raise self._wrong(prefix, "keys and values", values)
        for name, value in values.items():
            key = f"{prefix}.{name}" if prefix else str(name)
            if known is None:  # a class that takes any keyword
                continue
            if name not in known:
                raise UserError(
                    f"unknown key '{key}'", where=self.source.place(key), fix=self._suggest(prefix, str(name), known)
                )
            self._check_value(key, value, known[name])

    def _check_value(self, key: str, value: Any, hint: Any) -> None:
        if value is NOTHING:
            raise UserError(f"--{key} needs a value", expected=readable(hint))
        if isinstance(value, str) and "${" in value:
            return
        if isinstance(hint, Group):
            return self._check_keys(key, value, parameters(hint.kind))
        options = _alternatives(hint)
        plain = {get_origin(option) or option for option in options}
        if isinstance(value, list) and (items := _items(options)):
            for index, item in enumerate(value):
                self._check_value(f"{key}[{index}]", item, Union[items])  # noqa: UP007, built at run time
                self.classes[key] = self.classes.get(f"{key}[{index}]", object)
            return
        if isinstance(value, dict) and dict not in plain:
            for option in options:
                if is_dataclass(option):
                    return self._check_keys(key, value, parameters(option))
        bases = [option for option in (*options, *_items(options)) if _is_configured_class(option)]
        named = isinstance(value, str) and str not in plain and value.lower() not in ("true", "false", "null")
        if bases and (named or (isinstance(value, dict) and dict not in plain)):
            return self._check_object(key, value, bases[0])
        self._check_leaf(key, value, hint)

    def _check_object(self, key: str, value: dict[str, Any] | str, base: type) -> None:
        """``class_path`` and ``init_args``; arguments may also stand directly below ``key``."""
        values = {"class_path": value} if isinstance(value, str) else dict(value)
        name = values.pop("class_path", None)
        if name is not None:
            self.classes[key] = self._find_class(f"{key}.class_path", name, base)
        if key not in self.classes:
            expected = f"class_path: {' or '.join(_own_names(base)) or 'a ' + base.__name__}"
            raise UserError(f"no class for '{key}'", where=self.source.place(key), expected=expected)
        known = parameters(self.classes[key])
        values.pop("dict_kwargs", None)
        self._check_keys(f"{key}.init_args", values.pop("init_args", None) or {}, known)
        self._check_keys(key, values, known)

    def _find_class(self, key: str, name: Any, base: type) -> type:
        module, _, leaf = str(name).rpartition(".")
        try:
            found = getattr(import_module(module), leaf) if module else _subclasses(base)[leaf]
        except (ImportError, AttributeError, KeyError, ValueError):
            found = None
        if inspect.isclass(found) and issubclass(found, base):
            return found
        what = f"unknown class '{name}'" if found is None else f"'{name}' is no {base.__name__}"
        close = difflib.get_close_matches(leaf, _subclasses(base), n=1)
        fix = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(_own_names(base) or _subclasses(base))}."
        raise UserError(f"{what} for '{key}'", where=self.source.place(key), fix=fix)

    def _check_leaf(self, key: str, value: Any, hint: Any) -> None:
        parser = ArgumentParser(exit_on_error=False)
        text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
        try:
            parser.add_argument("--value", type=hint)
        except ValueError:
            return  # nothing jsonargparse would check
        try:
            parser.parse_args([f"--value={text.removesuffix('...' + chr(10)).strip()}"])
        except (ArgumentError, argparse.ArgumentError):
            raise self._wrong(key, readable(hint), value, hint) from None

    def _wrong(self, key: str, expected: str, value: Any, hint: Any = None) -> UserError:
        choices = [str(choice) for option in _alternatives(hint) if get_origin(option) is Literal
                   for choice in get_args(option)]  # fmt: skip
        close = difflib.get_close_matches(str(value), choices, n=1)
        return UserError(
            f"wrong value for '{key}'",
            where=self.source.place(key),
            expected=expected,
            found="nothing" if value is None else repr(value),
            fix=f"Did you mean '{close[0]}'?" if close else None,
        )

    def _suggest(self, prefix: str, name: str, known: dict[str, Any]) -> str:
        """The nearest key at this level, else the same word at another level, else what is known here."""
        close = difflib.get_close_matches(name, known, n=1)
        if close:
            return f"Did you mean '{prefix}.{close[0]}'?" if prefix else f"Did you mean '{close[0]}'?"
        elsewhere = {key.rpartition(".")[2]: key for key in self._all_keys("", self.schema)}
        close = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.8)
        if close:
            return f"Did you mean '{elsewhere[close[0]]}'?"
        return nearest(name, known) if len(known) <= MOST_LISTED else "See --help-all for all keys."

    def _all_keys(self, prefix: str, known: dict[str, Any]) -> Iterator[str]:
        for name, hint in known.items():
            key = f"{prefix}{name}"
            yield key
            kinds = [hint.kind] if isinstance(hint, Group) else [o for o in _alternatives(hint) if is_dataclass(o)]
            for kind in kinds:
                yield from self._all_keys(f"{key}.", parameters(kind) or {})
            if key in self.classes:
                yield from self._all_keys(f"{key}.init_args.", parameters(self.classes[key]) or {})


def parameters(kind: type) -> dict[str, Any] | None:
    """Name -> type hint of what a class is made from; None if it takes any keyword."""
    try:
        signature = inspect.signature(kind)
        hints = get_type_hints(kind if is_dataclass(kind) else kind.__init__)
    except (TypeError, ValueError, NameError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return None
    return {name: hints.get(name, Any) for name in signature.parameters}


def readable(hint: Any) -> str:
    """A type hint in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    parts = []
    for option in _alternatives(hint):
        if get_origin(option) is Literal:
            parts += [repr(choice) for choice in get_args(option)]
        elif _items([option]):
            parts.append(f"a list ({readable(Union[_items([option])])} each)")  # noqa: UP007, built at run time
        elif is_dataclass(option) or get_origin(option) is dict:
            parts.append("keys and values")
        else:
            parts.append(words.get(option) or f"a {getattr(option, '__name__', str(option))}")
    return " or ".join(dict.fromkeys(parts))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _items(options: Iterable[Any]) -> tuple[Any, ...]:
    """The element types of those options that are lists."""
    lists = (list, collections.abc.Sequence, collections.abc.Iterable)
    return tuple(get_args(o)[0] for o in options if get_origin(o) in lists and get_args(o))


def _is_configured_class(option: Any) -> bool:
    """Classes that a config names by ``class_path``, unlike numbers, texts and times."""
    return inspect.isclass(option) and not is_dataclass(option) and option.__module__ not in ("builtins", "datetime")


def _subclasses(base: type) -> dict[str, type]:
    found = {base.__name__: base}
    for child in base.__subclasses__():
        found |= {name: kind for name, kind in _subclasses(child).items() if not name.startswith("_")}
    return found


def _own_names(base: type) -> list[str]:
    """Our own classes of a kind; abstract ones cannot be made."""
    return sorted(
        name
        for name, kind in _subclasses(base).items()
        if kind.__module__.startswith("lit_restore.") and not inspect.isabstract(kind)
    )


def _clean(message: str) -> str:
    """jsonargparse's message on one line, without what only a Python programmer understands."""
    text = " ".join(message.split())
    inner = re.findall(r'(?:Parser key|[Kk]ey) "?([\w.]+)"?:? (Expected .*?|is required.*?)(?= - |$)', text)
    if inner:
        text = "; ".join(dict.fromkeys(f"{key}: {what}" for key, what in inner))
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)[:300]
