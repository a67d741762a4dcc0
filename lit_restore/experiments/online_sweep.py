"""A sweep on wandb's server: create it or join it, and start agents, which ask the server for runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import wandb

from lit_restore.errors import UserError
from lit_restore.experiments.check import ROOT_VARIABLE
from lit_restore.experiments.sweep_file import Sweep

OFFLINE_MODES = ("offline", "dryrun", "disabled")


def why_offline() -> str | None:
    """Why the server is not asked; None = it can be."""
    mode = os.environ.get("WANDB_MODE", "").lower()
    if mode in OFFLINE_MODES:
        return f"WANDB_MODE is {mode}"
    try:
        known = wandb.login(prompt=False, verify=False)
    except Exception as error:  # wandb has errors of many kinds, and all mean the same here
        return f"wandb: {_one_line(error)}"
    return None if known else "nobody is logged in (wandb login)"


def create(sweep: Sweep, project: str, entity: str | None) -> str:
    """Create the sweep; gives ``entity/project/id`` or what is known of it.

    Raises:
        ConnectionError: the server cannot be reached or refuses.
    """
    try:
        sweep_id = wandb.sweep(sweep.content, project=project, entity=entity)
    except Exception as error:  # see above
        raise ConnectionError(_one_line(error)) from None
    return "/".join(part for part in (entity, project, sweep_id) if part)


def work(sweep_id: str, folder: Path, *, jobs: int, count: int | None) -> int:
    """Run agents until the server has no more runs; gives the number of agents that failed.

    Args:
        sweep_id: as given by `create`, or any that ``wandb agent`` takes.
        folder: run folders go below it, named by the server's run ids.
        count: at most so many runs, dealt out to the agents.

    Raises:
        KeyboardInterrupt: Ctrl-C; the agents pass it to their runs, which save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {ROOT_VARIABLE: str(folder)}
    agents = [
        # In a session of its own, so that Ctrl-C reaches its run once, through it.
        subprocess.Popen(agent_command(sweep_id, share), env=environment, start_new_session=True)
        for share in shares(count, jobs)
        if share
    ]
    try:
        return sum(agent.wait() != 0 for agent in agents)
    except KeyboardInterrupt:
        for agent in agents:
            with contextlib.suppress(ProcessLookupError):
                agent.send_signal(signal.SIGINT)
        for agent in agents:
            agent.wait()
        raise


def agent_command(sweep_id: str, count: int) -> Sequence[str]:
    """One agent as a process; a negative count is no limit."""
    limit = () if count < 0 else ("--count", str(count))
    return (sys.executable, "-m", "wandb", "agent", "--forward-signals", *limit, sweep_id)


def shares(count: int | None, jobs: int) -> list[int]:
    """How many runs each agent takes; -1 = as many as there are."""
    if count is None:
        return [-1] * jobs
    return [count // jobs + (number < count % jobs) for number in range(jobs)]


def require(sweep_id: str | None, reason: str) -> None:
    """A sweep of the server cannot be joined without it.

    Raises:
        UserError: one was named.
    """
    if sweep_id is not None:
        raise UserError(
            "a sweep on wandb's server cannot be joined now",
            where=sweep_id,
            found=reason,
            fix="Log in with 'wandb login', or leave --join out to run the file here.",
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
