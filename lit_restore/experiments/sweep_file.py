"""A sweep file: one training command and the values to try, in wandb's own schema.

    program: lit_restore
    command: [lit_restore, fit, --config, configs/quickstart.yaml, --config, experiments/sweep_run.yaml, "${args}"]
    method: grid                                    # grid | random | bayes
    metric: {name: val/psnr, goal: maximize}        # what bayes improves; shown beside finished runs
    run_cap: 20                                     # how many runs random and bayes make
    parameters:
      model.init_args.generator.lora_rank_unet: {values: [4, 8, 16]}
      model.init_args.seed: {values: [1, 2, 3]}

``wandb sweep FILE`` reads the same file. In the command ``${args}`` becomes ``--key=value`` of every parameter, and
``${env}``, ``${interpreter}``, ``${program}`` and ``${envvar:NAME}`` what wandb makes of them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_restore.errors import UserError, nearest
from lit_restore.training.config_sources import Source, read_yaml

Parameters = dict[str, Any]
METHODS = ("grid", "random", "bayes")
KEYS = (
    *("program", "command", "method", "metric", "parameters", "name", "description", "project", "entity", "run_cap"),
    *("early_terminate", "controller", "settings", "job", "image_uri"),
)
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
OWN_COMMAND = '[lit_restore, fit, --config, configs/quickstart.yaml, --config, experiments/sweep_run.yaml, "${args}"]'


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        source: the file with its line numbers.
        content: the file for wandb, with the command as it is below.
        parameters: config key -> wandb's description of its values.
        command: of every run, macros included.
        metric: what is watched; None = nothing.
        maximize: whether more of it is better.
        run_cap: at most so many runs.
    """

    name: str
    source: Source
    content: dict[str, Any]
    method: str
    parameters: dict[str, dict[str, Any]]
    command: tuple[str, ...]
    metric: str | None
    maximize: bool
    run_cap: int | None

    def argv(self, parameters: Mapping[str, Any]) -> list[str]:
        """The command line of one run, as wandb's agent would write it."""
        words: list[str] = []
        for word in self.command:
            if word == "${args}":
                words += arguments(parameters)
            elif word != "${env}":
                words.append(_replace(word, str(self.content.get("program", ""))))
        return words

    def fit_options(self, parameters: Mapping[str, Any]) -> list[str]:
        """What follows ``fit`` in `argv`."""
        argv = self.argv(parameters)
        return argv[argv.index("fit") + 1 :]


def arguments(parameters: Mapping[str, Any]) -> list[str]:
    """``--key=value`` of every parameter, as wandb's agent writes ``${args}``."""
    return [f"--{key}={value}" for key, value in parameters.items()]


def read_sweep(path: str | Path, *, options: Sequence[str] = (), base: str | None = None) -> Sweep:
    """Read and check a sweep file.

    Args:
        options: further options of every run; the sweep's own values come after them.
        base: a config file in place of the first one of the command.

    Raises:
        UserError: the file is missing, or not a sweep of ``lit_restore fit``.
    """
    path = Path(path)
    source = read_yaml(path)
    content = dict(source.values)
    for key in content:
        if key not in KEYS:
            raise UserError(f"unknown key '{key}'", where=source.place(str(key)), fix=nearest(str(key), KEYS))
    method, metric = content.get("method"), content.get("metric") or {}
    if method not in METHODS:
        raise _wrong(source, "method", " or ".join(METHODS), method)
    if not isinstance(metric, dict) or (metric and not isinstance(metric.get("name"), str)):
        raise _wrong(source, "metric", "{name: val/psnr, goal: maximize}", metric)
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise _wrong(source, "metric.goal", "minimize or maximize", metric["goal"])
    if method == "bayes" and not metric:
        raise UserError("a bayes sweep needs a metric", where=path, expected="metric: {name: val/psnr, goal: maximize}")
    parameters = content.get("parameters")
    if not isinstance(parameters, dict) or not parameters:
        raise _wrong(source, "parameters", "config keys, each with values or a range", parameters)
    for key, values in parameters.items():
        if not isinstance(values, dict):
            raise _wrong(source, f"parameters.{key}", "{values: [...]}, {value: ...} or {min: ..., max: ...}", values)
        if "parameters" in values:
            raise UserError(
                "nested parameters", where=source.place(f"parameters.{key}"), fix="Write dotted keys: model.init_args.x"
            )
    cap = content.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise _wrong(source, "run_cap", "a whole number above 0", cap)
    command = _command(source, content.get("command", list(DEFAULT_COMMAND)), options, base)
    return Sweep(
        name=path.stem + (f"-{Path(base).stem}" if base else ""),
        source=source,
        content=content | {"command": list(command)},
        method=method,
        parameters=parameters,
        command=command,
        metric=metric.get("name"),
        maximize=metric.get("goal") == "maximize",
        run_cap=cap,
    )


def _command(source: Source, command: Any, options: Sequence[str], base: str | None) -> tuple[str, ...]:
    words = [str(word) for word in command] if isinstance(command, list) else []
    if "fit" not in words or "${args}" not in words:
        raise UserError("not a sweep of 'lit_restore fit'", where=source.place("command"), expected=OWN_COMMAND)
    if base is not None:
        if "--config" not in words[:-1]:
            raise UserError("no --config in the command to replace", where=source.place("command"))
        words[words.index("--config") + 1] = base
    place = words.index("${args}")
    return (*words[:place], *options, *words[place:])


def _replace(word: str, program: str) -> str:
    word = {"${interpreter}": sys.executable, "${program}": program}.get(word, word)
    return re.sub(r"\$\{envvar:([A-Z0-9_]*)\}", lambda found: os.environ.get(found[1], found[1]), word)


def _wrong(source: Source, key: str, expected: str, found: Any) -> UserError:
    found = "nothing" if found is None else repr(found)
    return UserError(f"wrong value for '{key}'", where=source.place(key), expected=expected, found=found)
