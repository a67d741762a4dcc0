"""Names and paths -> methods and metrics; what is missing is said, not raised, where the rest can go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lit_restore.errors import UserError
from lit_restore.evaluation.checkpoint_method import Checkpoint, Precision
from lit_restore.evaluation.face_networks import FaceNetwork
from lit_restore.evaluation.inputs import EvaluationSet
from lit_restore.evaluation.methods import Bicubic, InputCopy, Method, NearestReference
from lit_restore.evaluation.output_folder import OutputFolder
from lit_restore.evaluation.programs import run_program
from lit_restore.evaluation.runner import main_process_first
from lit_restore.evaluation.timing import Timing, of_program
from lit_restore.metrics.catalogue import CATALOGUE, MetricOptions, SetMetric, build_metrics, resolve
from lit_restore.metrics.measurement import Metric

MethodKind = Literal["checkpoint", "network", "outputs", "command", "baseline"]
BASELINES = ("copy", "bicubic", "nearest_reference")


@dataclass(frozen=True)
class MethodChoice:
    """Which method.

    Attributes:
        value: path, command or the name of a baseline (`BASELINES`).
        name: for folders and tables; None = as the method calls itself.
        base: of a checkpoint, if it is not where the checkpoint says.
        factor: of the bicubic baseline.
    """

    kind: MethodKind
    value: str
    name: str | None = None
    base: str | None = None
    noise_seed: int = 0
    precision: Precision = "float32"
    factor: int = 4


@dataclass(frozen=True)
class Built:
    """A method ready to be used, and what is known about it beforehand."""

    method: Method
    remarks: list[str] = field(default_factory=list)
    timing: Timing | None = None


def build_method(choice: MethodChoice, photos: EvaluationSet, folder: Path) -> Built:
    """Load it; a program is run here.

    Args:
        folder: where a program gets its inputs and leaves its pictures.

    Raises:
        UserError: something is missing, damaged, or does not fit the photos.
    """
    size_px = photos.choice.size_px
    if choice.kind == "checkpoint":
        return Built(
            Checkpoint(
                choice.value,
                size_px=size_px,
                base=choice.base,
                noise_seed=choice.noise_seed,
                precision=choice.precision,
                name=choice.name,
            )
        )
    if choice.kind == "network":
        return Built(FaceNetwork(choice.value, size_px=size_px, seed=choice.noise_seed))
    if choice.kind == "outputs":
        given = OutputFolder(choice.value, photos.targets, size_px=size_px, name=choice.name)
        return Built(given, given.remarks())
    if choice.kind == "command":
        with main_process_first():  # the others find it finished
            run = run_program(choice.value, photos, folder)
        made = OutputFolder(run.output, photos.targets, size_px=size_px, name=choice.name or "program")
        made.protocol = made.protocol | {"command": choice.value}
        return Built(made, made.remarks(), of_program(run.seconds, run.num_photos))
    if choice.value == "copy":
        return Built(InputCopy())
    if choice.value == "bicubic":
        return Built(Bicubic(choice.factor))
    if choice.value == "nearest_reference":
        return Built(NearestReference())
    raise UserError("no such baseline", expected=", ".join(BASELINES), found=choice.value)


@dataclass(frozen=True)
class AvailableMetrics:
    """Metrics that can be used, and why others cannot.

    Attributes:
        unavailable: column -> why.
    """

    photo: list[Metric]
    photo_set: list[SetMetric]
    unavailable: dict[str, str]


def available_metrics(names: Iterable[str], options: MetricOptions) -> AvailableMetrics:
    """Load one metric after the other; those that lack something are left out.

    Raises:
        UserError: a name is unknown.
    """
    available = AvailableMetrics([], [], {})
    for name in resolve(names):
        try:
            photo, photo_set = build_metrics([name], options)
        except UserError as error:
            available.unavailable.update(dict.fromkeys(CATALOGUE[name].columns, str(error)))
            continue
        available.photo.extend(photo.values())
        available.photo_set.extend(photo_set.values())
    return available
