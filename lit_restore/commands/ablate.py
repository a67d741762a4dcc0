"""``lit_restore ablate``: train the runs of a study, measure them, make its table."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser
from lit_restore.commands.evaluate import count, pair, positive, trainer_options
from lit_restore.commands.sweep import own_and_fit_options
from lit_restore.errors import UserError
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.evaluation.table import Table
    from lit_restore.experiments.run_sweep import SweepPlan
    from lit_restore.experiments.study_file import Study, StudyRow

EXAMPLES = """examples:
  lit_restore ablate --dry-run all
      every study: its rows, its trainings, what is done already
  lit_restore ablate adain --jobs 2
      trains (offline wandb runs), evaluates and prints the table; the same command goes on where it stopped
  lit_restore ablate references --model.max_iterations 100 --limit 16
      options of lit_restore fit that are not those below go to every training
  lit_restore ablate adain --base configs/instantrestore.yaml --metrics psnr ssim id_curricular

Studies are plain YAML in experiments/ablations. Means and differences come with 95 % intervals over seeds and people;
text, Markdown, LaTeX and CSV are in runs/ablations.                               docs/experiments.md"""


def main(argv: list[str]) -> int:
    """Do studies; 0, or 1 when a training or a photo failed or a study could not be done."""
    options, rest = own_and_fit_options(_parser(), argv[1:])
    # Before the libraries are told to be quiet: Lightning sets its own loudness when it is imported.
    from lit_restore.experiments import ablation  # noqa: F401
    from lit_restore.experiments.study_file import read_study, study_names

    folder = Path(options.studies)
    names = study_names(folder) if options.names == ["all"] else options.names
    if not names:
        raise UserError("no studies", where=folder.absolute(), fix="Name their folder: --studies DIR.")
    problems = 0
    with quiet_libraries():
        hide_loading_bars()
        # All of them are read first: a mistake in the last one shows before the first one trains for days.
        studies = [
            read_study(
                name,
                folder,
                options=rest,
                base=options.base,
                metrics=options.metrics,
                references=options.references,
            )
            for name in names
        ]
        plans = [_plan(study, options) for study in studies]
        all_rows = [study.rows(plan.runs) for study, plan in zip(studies, plans, strict=True)]
        for study, plan, rows in zip(studies, plans, all_rows, strict=True):
            if options.dry_run:
                _show_plan(study, plan, rows)
                continue
            try:
                problems += _do(study, plan, rows, options)
            except UserError as error:
                if len(studies) == 1:
                    raise
                print(f"lit_restore: study {study.name}: {error}", file=sys.stderr)
                problems += 1
    return int(problems > 0)


def _plan(study: Study, options: Namespace) -> SweepPlan:
    from lit_restore.experiments.run_sweep import SweepPlan

    plan = SweepPlan(study.sweep, Path(options.sweeps) / study.sweep.name)
    plan.check()
    return plan


def _do(study: Study, plan: SweepPlan, rows: list[StudyRow], options: Namespace) -> int:
    from rich.console import Console

    from lit_restore.evaluation.assemble import available_metrics
    from lit_restore.evaluation.rendering.terminal import show
    from lit_restore.experiments.ablation import StudyEvaluation, make_table
    from lit_restore.image import check_writable
    from lit_restore.metrics.catalogue import MetricOptions

    output = Path(options.output) / study.name
    check_writable(output)
    metrics = available_metrics(
        study.definition.metrics, MetricOptions(weights=dict(options.weights or ()), points=options.points)
    )
    for reason in dict.fromkeys(metrics.unavailable.values()):
        print(f"lit_restore: left out: {reason}", file=sys.stderr)
    if not metrics.photo:
        raise UserError("no metric of single photos can be used", fix="See the messages above.")
    failed = plan.run(jobs=options.jobs)
    evaluation = StudyEvaluation(
        output / "evaluations",
        plan.folder,
        metrics,
        limit=options.limit,
        run={"batch_size": options.batch_size, "num_workers": options.workers, "num_timed": 0}
        | trainer_options(options),
        report=lambda text: print(f"Evaluating {text}", flush=True),
    )
    table = make_table(study, evaluation.measure(rows), evaluation.measured_on(), metrics.unavailable)
    _write(table, output)
    show(table, Console(soft_wrap=True, highlight=False))
    print(f"Markdown, LaTeX and CSV: {output}/table.*; trainings: {plan.folder.path}")
    return failed + any(row.warnings or row.unmeasured for part in table.parts for row in part.rows)


def _write(table: Table, output: Path) -> None:
    from lit_restore.evaluation.rendering.latex import latex
    from lit_restore.evaluation.rendering.markdown import markdown
    from lit_restore.evaluation.rendering.spreadsheet import spreadsheet
    from lit_restore.image import atomic_path

    for kind, render in ((".md", markdown), (".tex", latex), (".csv", spreadsheet)):
        with atomic_path(output / f"table{kind}") as temporary:
            temporary.write_text(render(table), encoding="utf-8")


def _show_plan(study: Study, plan: SweepPlan, rows: list[StudyRow]) -> None:
    print(f"{study.name}: {study.definition.title}")
    print(f"  {plan.count} trainings in {plan.folder.path}, {len(plan.finished())} finished")
    for row in rows:
        seeds = ", ".join(str(seed) for seed in row.runs)
        print(f"  row '{row.name}': seeds {seeds}; {row.references} references")
    print(f"  metrics: {' '.join(study.definition.metrics)}")


def _parser() -> Parser:
    parser = Parser("ablate", "Train, measure and compare the variants of a study.", EXAMPLES)
    parser.add_argument("names", nargs="+", metavar="STUDY", help="in experiments/ablations, a path, or all")
    parser.add_argument("--studies", default="experiments/ablations", metavar="DIR", help="(experiments/ablations)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    training = parser.add_argument_group("training")
    training.add_argument("--jobs", type=positive, default=1, metavar="N", help="trainings at a time (1)")
    training.add_argument("--base", metavar="FILE", help="a config in place of the first one in the sweep's command")
    training.add_argument("--sweeps", default="runs/sweeps", metavar="DIR", help="for the trainings (runs/sweeps)")
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument("--references", type=count, nargs="+", metavar="N", help="instead of the study's")
    measuring.add_argument("--metrics", nargs="+", metavar="NAME", help="instead of the study's")
    measuring.add_argument("--weights", type=pair, nargs="+", metavar="NAME=FILE", help="weights of metrics")
    measuring.add_argument("--points", choices=("target", "template", "detect"), default="target", help="see evaluate")
    measuring.add_argument("--limit", type=positive, metavar="N", help="only so many photos")
    measuring.add_argument("--output", default="runs/ablations", metavar="DIR", help="for tables (runs/ablations)")
    measuring.add_argument("--batch-size", type=positive, default=1, metavar="N", help="photos at once (1)")
    measuring.add_argument("--workers", type=count, default=0, metavar="N", help="processes that prepare photos (0)")
    measuring.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    measuring.add_argument("--devices", type=positive, default=1, metavar="N", help="processes that share the work (1)")
    return parser
