"""``lit_restore evaluate``: a method on a set of photos, measured with its protocol."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_restore.commands.arguments import Parser
from lit_restore.errors import UserError
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    from lit_restore.evaluation.assemble import AvailableMetrics, MethodChoice
    from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
    from lit_restore.evaluation.summary import Summary

EXAMPLES = """examples:
  lit_restore evaluate --checkpoint runs/quickstart --references 0 1 2 4
      the run's own test people, degraded as in its training
  lit_restore evaluate --checkpoint runs/mine --data data/celebref_hq --metrics psnr ssim lpips_alex id_curricular
  lit_restore evaluate --baseline copy --config runs/quickstart
      the degraded input itself; --config takes the data of a run
  lit_restore evaluate --outputs others/ --data data/test_set --size 512
      pictures that another program made of data/test_set (see lit_restore prepare --degrade)
  lit_restore evaluate --command "python infer.py -i {input} -r {references} -o {output}" --data data/test_set
  lit_restore evaluate --network weights/GFPGANv1.4.pth --data data/test_set

Each number of references gets a folder with images.csv, summary.json, sheet.png and protocol.json. The same command
continues an interrupted evaluation, and adds metrics to a finished one. Metrics: docs/evaluation.md."""

DEFAULT_METRICS = ("psnr", "ssim")


def main(argv: list[str]) -> int:
    """Evaluate; 0 when everything was measured, 1 when photos failed or a metric was not available."""
    options = parser().parse_args(argv[1:])
    method, weights = method_choice(options), dict(options.weights or ())
    with quiet_libraries():
        from lit_restore.evaluation.assemble import available_metrics
        from lit_restore.evaluation.runner import is_main_process
        from lit_restore.image import check_writable
        from lit_restore.metrics.catalogue import MetricOptions

        hide_loading_bars()
        choice = input_choice(options, method)
        counts = options.references if options.references is not None else [choice.num_references]
        folders = _folders(options, method, choice, counts)
        names = options.metrics or [*DEFAULT_METRICS, *([] if choice.root else ["id_synthetic"])]
        if options.dry_run:
            return _show_plan(method, choice, folders, names)
        check_accelerator(options.accelerator)
        for folder in folders.values():
            check_writable(folder)
        metrics = available_metrics(
            names, MetricOptions(weights=weights, points=options.points, reference=options.reference_identity)
        )
        for reason in dict.fromkeys(metrics.unavailable.values()):
            print(f"lit_restore: left out: {reason}", file=sys.stderr)
        if not metrics.photo and not metrics.photo_set:
            raise UserError("no metric can be used", fix="See the messages above.")
        summaries = {
            count: _evaluate(method, replace(choice, num_references=count), metrics, folder, options)
            for count, folder in folders.items()
        }
        if is_main_process():
            show(summaries, folders)
    return int(bool(metrics.unavailable) or any(summary.num_failed for summary in summaries.values()))


def check_accelerator(name: str) -> None:
    """Before anything large is read.

    Raises:
        UserError: this machine has no such device.
    """
    from lit_restore.inference import find_device

    try:
        find_device(None if name == "auto" else name)
    except UserError:
        raise UserError("this machine has no such device", where=name, fix="Leave --accelerator out.") from None


def _evaluate(
    method: MethodChoice, choice: InputChoice, metrics: AvailableMetrics, folder: Path, options: Namespace
) -> Summary:
    from lit_restore.evaluation.assemble import build_method
    from lit_restore.evaluation.inputs import EvaluationSet
    from lit_restore.evaluation.runner import Evaluation

    photos: EvaluationSet = EvaluationSet(choice)
    built = build_method(method, photos, folder / "program")
    evaluation = Evaluation(
        photos,
        built.method,
        metrics.photo,
        folder,
        set_metrics=metrics.photo_set,
        remarks=built.remarks,
        timing=built.timing,
    )
    return evaluation.run(
        batch_size=options.batch_size, num_workers=options.workers, num_timed=options.time, **trainer_options(options)
    )


def trainer_options(options: Namespace) -> dict[str, Any]:
    """Lightning's part of the options."""
    from lit_restore.callbacks.progress import IterationProgress

    return {"accelerator": options.accelerator, "devices": options.devices, "callbacks": [IterationProgress()]}


def method_choice(options: Namespace) -> MethodChoice:
    """The one method that was named.

    Raises:
        UserError: none or several.
    """
    from lit_restore.evaluation.assemble import MethodChoice

    given = {kind: getattr(options, kind) for kind in ("checkpoint", "outputs", "command", "network", "baseline")}
    given = {kind: value for kind, value in given.items() if value is not None}
    if len(given) != 1:
        raise UserError(
            "name one method",
            expected="one of --checkpoint --outputs --command --network --baseline",
            found=" ".join(f"--{kind}" for kind in given) or "none",
        )
    [(kind, value)] = given.items()
    return MethodChoice(
        kind,
        value,
        name=options.name,
        base=options.base,
        noise_seed=options.noise_seed,
        precision=options.precision,
        factor=options.factor,
    )


def input_choice(options: Namespace, method: MethodChoice) -> InputChoice:
    """The photos: those of a run, or of ``--data``; further options replace single values.

    Raises:
        UserError: nothing says which photos.
    """
    from lit_restore.evaluation.inputs import InputChoice, choice_of_run, with_options

    config = options.config
    if config is None and method.kind == "checkpoint":
        beside = Path(method.value) / "config.yaml"
        config = beside if beside.is_file() else None
    if config is None and options.data is None:
        raise UserError("which photos?", expected="--data FOLDER, or --config RUN for the data a run was trained with")
    choice = InputChoice() if config is None else choice_of_run(config)
    if options.data is not None:
        fresh = InputChoice()
        choice = replace(choice, root=tuple(options.data), layout=fresh.layout, people=fresh.people)
    return with_options(
        choice,
        {
            "layout": options.layout,
            "size_px": options.size,
            "split": options.split,
            "profile": options.profile,
            "scale_profile": options.scale_degradation or None,
            "seed": options.seed,
            "limit": options.limit,
            "cache_dir": options.cache,
        },
    )


def show(summaries: dict[int, Summary], folders: dict[int, Path]) -> None:
    """Print means with intervals, counts, times and folders."""
    from rich.console import Console
    from rich.table import Table

    from lit_restore.metrics.catalogue import COLUMNS

    console = Console(soft_wrap=True, highlight=False, markup=False)
    first = next(iter(summaries.values()))
    table = Table(title=f"{first.method}: {first.num_photos} photos of {first.num_people} people [95 % intervals]")
    table.add_column("")
    for count in summaries:
        table.add_column(f"{count} reference{'' if count == 1 else 's'}", justify="right")
    for name, metric in first.metrics.items():
        better = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
        info = COLUMNS[name]
        table.add_row(info.title + better, *(_number(summary, name, info.format) for summary in summaries.values()))
    console.print(table)
    for count, summary in summaries.items():
        for line in _remarks(summary):
            console.print(f"{count} references: {line}")
    for folder in folders.values():
        console.print(f"Numbers, protocol and pictures: {folder}")


def _number(summary: Summary, name: str, form: str) -> str:
    estimate = summary.metrics[name].estimate
    if estimate is None:
        return "–"
    interval = "" if estimate.low is None else f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    counted = "" if estimate.num == summary.num_photos else f" ({estimate.num} of {summary.num_photos})"
    return form.format(estimate.mean) + interval + counted


def _remarks(summary: Summary) -> list[str]:
    from lit_restore.evaluation.protocol import flattered
    from lit_restore.metrics.measurement import NO_LANDMARKS

    lines = [
        f"{len(keys)} photos failed: {reason} ({', '.join(keys[:3])})" for reason, keys in summary.failures.items()
    ]
    not_measured: dict[tuple[str, int], list[str]] = {}
    for name, metric in summary.metrics.items():
        for reason, keys in metric.not_measured.items():
            if reason != "not restored":
                not_measured.setdefault((reason, len(keys)), []).append(name)
    lines += [f"{', '.join(names)}: {num} photos: {reason}" for (reason, num), names in not_measured.items()]
    if any(reason.startswith(NO_LANDMARKS) for reason, _ in not_measured):
        lines.append("No landmarks: --points template (aligned faces) or detect, or 'lit_restore prepare' finds them.")
    lines += summary.remarks
    flattering = flattered(summary.protocol)
    if flattering:
        lines.append(f"{', '.join(flattering)}: by the network that the restorer was trained to please")
    time = summary.timing
    if time is not None and time.steady_s is not None:
        first = "" if time.first_s is None else f", the first {time.first_s:.3g} s"
        cached = "" if time.cached_references_s is None else f", {time.cached_references_s:.3g} s with known references"
        lines.append(f"{time.steady_s:.3g} s per photo{first}{cached} ({time.about}; {time.device})")
    return lines


def _folders(options: Namespace, method: MethodChoice, choice: InputChoice, counts: Sequence[int]) -> dict[int, Path]:
    """One folder per number of references."""
    if options.output is not None:
        output = Path(options.output)
        return {count: output if len(counts) == 1 else output / f"{count}_references" for count in counts}
    name = method.name or (method.value if method.kind == "baseline" else Path(method.value).name)
    if method.kind == "command":
        name = method.name or "program"
    root = Path("runs/evaluations") / f"{choice.name}-{choice.split}" / name
    return {count: root / f"{choice.profile}-{count}_references" for count in counts}


def _show_plan(method: MethodChoice, choice: InputChoice, folders: dict[int, Path], names: Sequence[str]) -> int:
    from lit_restore.metrics.catalogue import resolve

    print(f"{'method:':12} {method.kind} {method.value}")
    print(f"{'photos:':12} {', '.join(choice.root) or 'synthetic people'}, split {choice.split}, {choice.size_px} px")
    print(f"{'degraded by:':12} {choice.profile}, seed {choice.seed}")
    print(f"{'metrics:':12} {' '.join(resolve(names))}")
    for count, folder in folders.items():
        print(f"{f'{count} ref.:':12} {folder}")
    return 0


def count(text: str) -> int:
    """0 or more."""
    if text.isdigit():
        return int(text)
    raise ArgumentTypeError(f"expected a whole number, found '{text}'")


def positive(text: str) -> int:
    """At least 1."""
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"expected a whole number above 0, found '{text}'")


def pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ArgumentTypeError(f"expected NAME=VALUE, found '{text}'")
    return name, value


def add_photo_options(parser: Parser) -> _ArgumentGroup:
    """Those that `input_choice` reads."""
    data = parser.add_argument_group("photos")
    data.add_argument("--config", metavar="RUN", help="take the data of this run folder or config.yaml")
    data.add_argument("--data", nargs="+", metavar="DIR", help="folder(s) of people, or a prepared folder")
    data.add_argument("--layout", help="how --data is organised (default: found out)")
    data.add_argument("--split", choices=("train", "val", "test", "all"), help="whose photos (test)")
    data.add_argument("--size", type=positive, metavar="PX", help="side of the photos (512, or the run's)")
    data.add_argument("--profile", help="degradation where the data has no degraded files (diffbir_face, or the run's)")
    data.add_argument(
        "--scale-degradation", action="store_true", help="adapt the profile, stated for 512 px, to --size"
    )
    data.add_argument("--seed", type=count, metavar="N", help="of the degradation (0, or the run's)")
    data.add_argument("--limit", type=positive, metavar="N", help="only so many photos, of as many people as possible")
    data.add_argument("--cache", metavar="DIR", help="for manifests and synthetic people (data/cache)")
    return data


def parser() -> Parser:
    """The command's options."""
    parser = Parser("evaluate", "Measure a method on a set of photos.", EXAMPLES)
    method = parser.add_argument_group("method (one of them)")
    method.add_argument("--checkpoint", metavar="PATH", help="run folder, model folder or .ckpt file")
    method.add_argument("--outputs", metavar="DIR", help="pictures made by any other program")
    method.add_argument("--command", metavar="LINE", help="another program, with {input} {references} {output}")
    method.add_argument("--network", metavar="FILE", help="checkpoint of GFPGAN, CodeFormer or RestoreFormer")
    method.add_argument("--baseline", choices=("copy", "bicubic", "nearest_reference"), help="a built-in one")
    method.add_argument("--name", help="of the method in tables and folders")
    method.add_argument("--base", help="where a checkpoint's base is, if not where it says")
    method.add_argument("--noise-seed", type=count, default=0, metavar="N", help="of the method's noise (0)")
    method.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32")
    method.add_argument("--factor", type=positive, default=4, metavar="N", help="of the bicubic baseline (4)")
    data = add_photo_options(parser)
    data.add_argument("--references", type=count, nargs="+", metavar="N", help="one or several numbers of references")
    metrics = parser.add_argument_group("metrics")
    metrics.add_argument("--metrics", nargs="+", metavar="NAME", help="see docs/evaluation.md (psnr ssim)")
    metrics.add_argument("--weights", type=pair, nargs="+", metavar="NAME=FILE", help="weights of metrics")
    metrics.add_argument(
        "--points",
        choices=("target", "template", "detect"),
        default="target",
        help="where recognition has the face points from: landmarks of the truth, the aligned frame, or a detector",
    )
    metrics.add_argument(
        "--reference-identity", choices=("first", "mean"), default="first", help="reference(s) of Ref-ID (first)"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--output", metavar="DIR", help="(runs/evaluations/...)")
    running.add_argument("--batch-size", type=positive, default=1, metavar="N", help="photos at once (1)")
    running.add_argument("--workers", type=count, default=0, metavar="N", help="processes that prepare photos (0)")
    running.add_argument("--time", type=count, default=5, metavar="N", help="photos to time one by one (5); 0: none")
    running.add_argument("--accelerator", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    running.add_argument("--devices", type=positive, default=1, metavar="N", help="processes that share the work (1)")
    running.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return parser
