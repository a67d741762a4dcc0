"""``lit_restore sweep``: the runs of a wandb sweep file, on wandb's server or expanded here."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser
from lit_restore.commands.evaluate import positive
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.experiments.run_sweep import SweepPlan
    from lit_restore.experiments.sweep_file import Sweep

PROJECT = "lit_restore"
FIT_OPTIONS = ("--config", "-c", "--seed_everything", "--ckpt_path", "--weights_only")

EXAMPLES = """examples:
  lit_restore sweep experiments/sweeps/lora_rank.yaml --offline --jobs 2
      every run here, two at a time; the same command goes on where it stopped
  lit_restore sweep experiments/sweeps/lora_rank.yaml --dry-run
  lit_restore sweep experiments/sweeps/learning_rate_bayes.yaml --project faces
      logged in (wandb login): creates the sweep on wandb's server and starts an agent; again: joins it
  lit_restore sweep experiments/sweeps/learning_rate_bayes.yaml --join ENTITY/PROJECT/ID --jobs 4
  lit_restore sweep experiments/sweeps/lora_rank.yaml --offline --model.max_iterations 100
      options of lit_restore fit that are not those below go to every run

Offline runs can be uploaded later: wandb sync FOLDER/*/wandb/offline-run-*        docs/experiments.md"""


def main(argv: list[str]) -> int:
    """Run a sweep; 0, or 1 when a run failed."""
    options, rest = own_and_fit_options(_parser(), argv[1:])
    # Before the libraries are told to be quiet: Lightning sets its own loudness when it is imported.
    from lit_restore.experiments.run_sweep import SweepPlan
    from lit_restore.experiments.sweep_file import read_sweep

    with quiet_libraries():
        hide_loading_bars()
        sweep = read_sweep(options.file, options=rest, base=options.base)
        folder = Path(options.output or f"runs/sweeps/{sweep.name}")
        plan = SweepPlan(sweep, folder, count=options.count)
        plan.check()
        if options.dry_run:
            return _show(plan)
        if not options.offline:
            failed = _online(sweep, plan, options)
            if failed is not None:
                return int(failed > 0)
        failed = plan.run(jobs=options.jobs)
        print(f"Runs: {folder}. Upload them with: wandb sync {folder}/*/wandb/offline-run-*")
        if failed:
            print(f"{failed} of {plan.count} runs failed; the same command tries them again.")
        return int(failed > 0)


def own_and_fit_options(parser: Parser, argv: list[str]) -> tuple[Namespace, list[str]]:
    """The parser's options, and those for ``lit_restore fit``, which nearly all have a dot.

    Raises:
        UserError: an option that is neither.
    """
    options, rest = parser.parse_known_args(argv)
    for word in rest:
        name = word.split("=")[0]
        if name.startswith("-") and "." not in name and name not in FIT_OPTIONS:
            parser.error(f"unrecognized arguments: {word}")
    return options, rest


def _online(sweep: Sweep, plan: SweepPlan, options: Namespace) -> int | None:
    """On wandb's server; None where that is not possible and the sweep has to be run here."""
    from lit_restore.experiments import online_sweep

    reason = online_sweep.why_offline()
    sweep_id = options.join
    if reason is None and sweep_id is None:
        sweep_id = plan.folder.sweep_id
        try:
            sweep_id = sweep_id or online_sweep.create(
                sweep, options.project or sweep.content.get("project", PROJECT), options.entity
            )
        except ConnectionError as error:
            reason = f"wandb's server: {error}"
    if reason is not None:
        online_sweep.require(options.join, reason)
        print(f"Offline, since {reason}: the sweep is expanded here. Say --offline to leave this line out.")
        return None
    plan.folder.sweep_id = sweep_id
    plan.folder.save()
    print(f"Sweep {sweep_id}; others join with: lit_restore sweep {options.file} --join {sweep_id}")
    return online_sweep.work(sweep_id, plan.folder.path, jobs=options.jobs, count=options.count)


def _show(plan: SweepPlan) -> int:
    from lit_restore.experiments.expansion import label

    print(f"{plan.sweep.name}: {plan.sweep.method}, {plan.count} runs in {plan.folder.path}")
    for run in plan.runs:
        record = plan.folder.records.get(run.name)
        print(f"  {'to do' if record is None else record.state:12}{label(run.parameters)}")
    if plan.is_open and len(plan.runs) < plan.count:
        print(f"  {plan.count - len(plan.runs)} runs whose values depend on the results of those before")
    if not plan.is_open and (leftover := plan.leftover()):
        print(f"{len(leftover)} runs of an earlier version of the file are left alone: {', '.join(leftover[:3])} ...")
    if plan.runs:
        print(f"first run: {' '.join(plan.sweep.argv(plan.runs[0].parameters))}")
    return 0


def _parser() -> Parser:
    parser = Parser("sweep", "Run many trainings from one wandb sweep file.", EXAMPLES)
    parser.add_argument(
        "file", metavar="FILE", help="a sweep in wandb's schema, e.g. experiments/sweeps/lora_rank.yaml"
    )
    parser.add_argument("--offline", action="store_true", help="expand the file here, do not ask wandb's server")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (1); they share the GPUs")
    parser.add_argument("--count", type=positive, metavar="N", help="at most so many runs (the file's run_cap)")
    parser.add_argument("--base", metavar="FILE", help="a config in place of the first one in the sweep's command")
    parser.add_argument("--output", metavar="DIR", help="of the runs (runs/sweeps/NAME)")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs")
    server = parser.add_argument_group("wandb's server")
    server.add_argument("--project", metavar="NAME", help="(the file's, or lit_restore)")
    server.add_argument("--entity", metavar="NAME", help="account or team")
    server.add_argument("--join", metavar="ID", help="work for a sweep that exists")
    return parser
