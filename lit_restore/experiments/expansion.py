"""A sweep without a server: which runs a grid has, and what a random search draws.

The grid is the product of all values, the last key changing fastest. Draw number i of a random search depends only on
(key, i), so a sweep that is continued, or extended to more runs, keeps the runs it has. Distributions, with bounds
a < b and u uniform in [0, 1):

    uniform               a + (b - a) u
    int_uniform           a whole number from a to b
    log_uniform_values    exp(log a + (log b - log a) u)
    log_uniform           the same with a and b as logarithms
    normal, log_normal    mu + sigma z, exp(mu + sigma z)
    q_...                 rounded to a multiple of q
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from lit_restore.errors import UserError, nearest
from lit_restore.experiments.sweep_file import Parameters, Sweep

MOST_OF_A_GRID = 10_000


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep; the name is also that of its folder and its id in wandb."""

    name: str
    parameters: Parameters


def planned(parameters: Parameters) -> PlannedRun:
    """The run with these values: the same values, the same name."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode()).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9.+=-]+", "_", label(parameters).replace(" ", "_"))[:60].strip("_.")
    return PlannedRun(f"{words}-{digest}", parameters)


def label(parameters: Mapping[str, Any]) -> str:
    """The values by the last words of their keys: ``lora_rank_unet=8 seed=1``."""
    last = [key.rpartition(".")[2] for key in parameters]
    names = [key if last.count(short) > 1 else short for key, short in zip(parameters, last, strict=True)]
    return " ".join(f"{name}={_short(value)}" for name, value in zip(names, parameters.values(), strict=True))


def expand(sweep: Sweep, count: int | None = None) -> list[PlannedRun]:
    """All runs of a grid or random sweep; equal ones once.

    Args:
        count: at most so many instead of the file's ``run_cap``.

    Raises:
        UserError: a parameter cannot be expanded so, or nothing says how many runs.
    """
    cap = count or sweep.run_cap
    if sweep.method == "grid":
        values = [_grid_values(sweep, key) for key in sweep.parameters]
        if math.prod(map(len, values)) > MOST_OF_A_GRID:
            raise UserError("the grid is too large", where=sweep.source.name, found=math.prod(map(len, values)))
        chosen: Iterable[Parameters] = (dict(zip(sweep.parameters, one, strict=True)) for one in product(*values))
    else:
        if cap is None:
            raise UserError("how many runs?", where=sweep.source.name, fix="Write run_cap: N there, or pass --count N.")
        chosen = (draw(sweep, index) for index in range(cap))
    runs = list({run.name: run for run in map(planned, chosen)}.values())
    return runs[:cap]


def draw(sweep: Sweep, index: int) -> Parameters:
    """The values of draw number ``index``."""
    return {key: _draw(sweep, key, random.Random(f"lit-restore/sweep/{index}/{key}")) for key in sweep.parameters}


def _grid_values(sweep: Sweep, key: str) -> list[Any]:
    values = sweep.parameters[key]
    if values.get("values"):
        return list(values["values"])
    if "value" in values:
        return [values["value"]]
    if distribution(sweep, key) == "int_uniform":
        return list(range(values["min"], values["max"] + 1))
    raise _bad(sweep, key, "{values: [...]} in a grid", values)


def distribution(sweep: Sweep, key: str) -> str:
    """By name, or by what is there, as in wandb."""
    values = sweep.parameters[key]
    if "distribution" in values:
        if values["distribution"] not in _DRAWS:
            raise UserError(
                f"unknown distribution '{values['distribution']}'",
                where=sweep.source.place(f"parameters.{key}"),
                fix=nearest(str(values["distribution"]), _DRAWS),
            )
        return values["distribution"]
    if values.get("values"):
        return "categorical"
    if "value" in values:
        return "constant"
    ends = [values.get("min"), values.get("max")]
    if all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        return "int_uniform"
    if all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends):
        return "uniform"
    raise _bad(sweep, key, "{values: [...]}, {value: ...} or {min: ..., max: ...}", values)


def _draw(sweep: Sweep, key: str, source: random.Random) -> Any:
    name, values = distribution(sweep, key), sweep.parameters[key]
    try:
        value = _DRAWS[name](source, values)
    except KeyError as missing:
        raise _bad(sweep, key, f"{missing.args[0]} for {name}", values) from None
    except (TypeError, ValueError):
        raise _bad(sweep, key, f"numbers that fit {name}", values) from None
    return _rounded(value, values.get("q", 1)) if name.startswith("q_") else value


def _rounded(value: float, step: float) -> float:
    """To a multiple, without digits that only the arithmetic added: 0.30000000000000004 -> 0.3."""
    rounded = round(value / step) * step
    return rounded if isinstance(step, int) else float(f"{rounded:.12g}")


def _uniform(source: random.Random, values: Mapping[str, Any]) -> float:
    return source.uniform(values["min"], values["max"])


def _log_uniform_values(source: random.Random, values: Mapping[str, Any]) -> float:
    return math.exp(source.uniform(math.log(values["min"]), math.log(values["max"])))


def _normal(source: random.Random, values: Mapping[str, Any]) -> float:
    return source.gauss(values.get("mu", 0), values.get("sigma", 1))


def _categorical(source: random.Random, values: Mapping[str, Any]) -> Any:
    return source.choices(values["values"], values.get("probabilities"))[0]


_DRAWS: dict[str, Callable[[random.Random, Mapping[str, Any]], Any]] = {
    "constant": lambda source, values: values["value"],
    "categorical": _categorical,
    "categorical_w_probabilities": _categorical,
    "int_uniform": lambda source, values: source.randint(values["min"], values["max"]),
    "uniform": _uniform,
    "q_uniform": _uniform,
    "log_uniform": lambda source, values: math.exp(_uniform(source, values)),
    "log_uniform_values": _log_uniform_values,
    "q_log_uniform_values": _log_uniform_values,
    "normal": _normal,
    "q_normal": _normal,
    "log_normal": lambda source, values: math.exp(_normal(source, values)),
}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else re.sub(r"\s+", "", str(value))


def _bad(sweep: Sweep, key: str, expected: str, found: Any) -> UserError:
    return UserError(
        f"the values of '{key}' cannot be used",
        where=sweep.source.place(f"parameters.{key}"),
        expected=expected,
        found=found,
    )
