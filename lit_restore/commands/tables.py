"""``lit_restore tables``: ours beside the published numbers, as text, Markdown, LaTeX, CSV and one HTML page."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser
from lit_restore.commands.evaluate import check_accelerator, count, pair, positive, trainer_options
from lit_restore.errors import UserError, nearest
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.evaluation.definitions import Definitions, QuickDefinition
    from lit_restore.evaluation.table import Table

EXAMPLES = """examples:
  lit_restore tables 3 --quick
      offline: the quickstart's restorer with 1 to 4 references on synthetic people it has never seen
  lit_restore tables 1 --data celebref_hq=/data/celebref_hq --method InstantRestore=runs/mine
  lit_restore tables 1 --method DiffBIR=outputs_of_diffbir/
      pictures that another program made of the same inputs (lit_restore prepare --degrade)
  lit_restore tables all
      every table; what cannot be measured is listed with what would fill it

Definitions are plain YAML in experiments/: tables/ datasets.yaml methods.yaml metrics.yaml published/. Results of
single photos, protocols and pictures are kept below runs/evaluations and used again."""


def main(argv: list[str]) -> int:
    """Make tables; 0, or 1 when one of several could not be made."""
    options = _parser().parse_args(argv[1:])
    # Before the libraries are told to be quiet: Lightning sets its own loudness when it is imported.
    from lit_restore.evaluation import runner  # noqa: F401
    from lit_restore.evaluation.definitions import Definitions

    with quiet_libraries():
        hide_loading_bars()
        definitions = Definitions(options.experiments)
        names = _names(options, definitions)
        check_accelerator(options.accelerator)
        quick = definitions.quick() if options.quick else None
        if quick is not None:
            _train_if_needed(quick)
        return _make(names, definitions, quick, options)


def _make(names: list[str], definitions: Definitions, quick: QuickDefinition | None, options: Namespace) -> int:
    from rich.console import Console

    from lit_restore.evaluation.rendering.page import page
    from lit_restore.evaluation.rendering.photos import compared_photos
    from lit_restore.evaluation.rendering.terminal import show
    from lit_restore.evaluation.runner import is_main_process
    from lit_restore.evaluation.table_maker import TableMaker, TableOptions
    from lit_restore.image import check_writable
    from lit_restore.metrics.catalogue import MetricOptions

    output = Path(options.output)
    check_writable(output)
    run = {"batch_size": options.batch_size, "num_workers": options.workers, "num_timed": options.time}
    maker = TableMaker(
        definitions,
        TableOptions(
            results=Path(options.results),
            data=dict(options.data or ()),
            methods=dict(options.method or ()),
            metric_options=MetricOptions(weights=dict(options.weights or ()), points=options.points),
            run=run | trainer_options(options),
            quick=quick,
            study=None if options.study is None else Path(options.study),
            cache_dir=options.cache,
        ),
    )
    console = Console(soft_wrap=True, highlight=False)
    suffix = "-quick" if options.quick else ""
    tables: list[Table] = []
    problems = 0
    for name in names:
        try:
            table = maker.make(name)
        except UserError as error:
            if len(names) == 1:
                raise
            print(f"lit_restore: table {name}: {error}", file=sys.stderr)
            problems = 1
            continue
        tables.append(table)
        if is_main_process():
            _write_texts(table, output, suffix)
            show(table, console)
    if is_main_process() and tables:
        html = output / f"tables_{'all' if len(names) > 1 else names[0]}{suffix}.html"
        _write(page(tables, compared_photos), html)
        print(f"Markdown, LaTeX and CSV: {output}/table_*{suffix}.*; with pictures and protocols: {html}")
    return problems


def _write_texts(table: Table, output: Path, suffix: str) -> None:
    from lit_restore.evaluation.rendering.latex import latex
    from lit_restore.evaluation.rendering.markdown import markdown
    from lit_restore.evaluation.rendering.spreadsheet import spreadsheet

    for kind, render in ((".md", markdown), (".tex", latex), (".csv", spreadsheet)):
        _write(render(table), output / f"table_{table.name}{suffix}{kind}")


def _write(text: str, path: Path) -> None:
    from lit_restore.image import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _names(options: Namespace, definitions: Definitions) -> list[str]:
    known = definitions.names()
    if options.names == ["all"]:
        if not options.quick:
            return known
        return [name for name in known if any(part.quick for part in definitions.table(name).parts)]
    for name in options.names:
        if name not in known:
            raise UserError(f"no table '{name}'", fix=nearest(name, [*known, "all"]))
    return list(dict.fromkeys(options.names))


def _train_if_needed(quick: QuickDefinition) -> None:
    """Take the quickstart's restorer, or train it; an interrupted training goes on."""
    import yaml

    from lit_restore.callbacks.checkpoints import last_checkpoint
    from lit_restore.training.command_line import run
    from lit_restore.training.run_folder import iteration_of, read_checkpoint

    folder, last = Path(quick.run), last_checkpoint(quick.run)
    if not last.is_file() and (folder / "model").is_dir() and (folder / "config.yaml").is_file():
        return  # only what restores was copied here
    if not last.is_file():
        print(f"No restorer in {folder}: it is trained first, lit_restore fit --config {quick.config}")
        run(["fit", "--config", quick.config, "--trainer.default_root_dir", quick.run])
        return
    iteration = iteration_of(read_checkpoint(last))
    wanted = yaml.safe_load((folder / "config.yaml").read_text())["model"]["init_args"]["max_iterations"]
    print(f"Restorer: {folder}, {iteration:,} iterations")
    if iteration < wanted:
        print(f"Its training goes on to {wanted:,} first")
        run(["fit", "--config", str(folder / "config.yaml")])


def _parser() -> Parser:
    parser = Parser("tables", "Put numbers of ours beside the published ones.", EXAMPLES)
    parser.add_argument("names", nargs="+", metavar="NAME", help="tables, or all")
    parser.add_argument("--quick", action="store_true", help="offline, on synthetic people, with the quickstart")
    parser.add_argument("--output", default="runs/tables", metavar="DIR", help="for the files (runs/tables)")
    parser.add_argument("--results", default="runs/evaluations", metavar="DIR", help="of photos (runs/evaluations)")
    parser.add_argument("--experiments", default="experiments", metavar="DIR", help="the definitions (experiments)")
    inputs = parser.add_argument_group("data, methods and metrics")
    inputs.add_argument("--data", type=pair, nargs="+", metavar="NAME=DIR", help="where a data set is")
    inputs.add_argument(
        "--method", type=pair, nargs="+", metavar="NAME=PATH", help="a checkpoint or folder of pictures"
    )
    inputs.add_argument("--study", metavar="FILE", help="score.json of a user study (lit_restore study), for table 2")
    inputs.add_argument("--weights", type=pair, nargs="+", metavar="NAME=FILE", help="weights of metrics")
    inputs.add_argument("--points", choices=("target", "template", "detect"), default="target", help="see evaluate")
    inputs.add_argument("--cache", default="data/cache", metavar="DIR", help="for manifests (data/cache)")
    running = parser.add_argument_group("running")
    running.add_argument("--batch-size", type=positive, default=1, metavar="N", help="photos at once (1)")
    running.add_argument("--workers", type=count, default=0, metavar="N", help="processes that prepare photos (0)")
    running.add_argument("--time", type=count, default=5, metavar="N", help="photos to time one by one (5); 0: none")
    running.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    running.add_argument("--devices", type=positive, default=1, metavar="N", help="processes that share the work (1)")
    return parser
