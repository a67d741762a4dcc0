"""How long one photo takes: the first, the others, and the others when the references were looked at before.

The first photo pays for what is set up once (kernels, memory, compilation). The steady state is the median over single
photos after it; batches would hide the latency that a person waits for. Reading files is not counted.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lit_restore.evaluation.checkpoint_method import Checkpoint
from lit_restore.evaluation.methods import Method
from lit_restore.types import RestorationBatch


@dataclass(frozen=True)
class Timing:
    """Seconds per photo.

    Attributes:
        first_s: the first photo in this process.
        steady_s: median of the others; None = there was only one.
        steady_spread_s: from the first to the third quartile.
        cached_references_s: median when keys and values of the references are ready; None = the method keeps none.
        num_photos: behind ``steady_s``.
        about: what was timed.
        device, threads: where.
    """

    first_s: float | None
    steady_s: float | None
    steady_spread_s: tuple[float, float] | None
    cached_references_s: float | None
    num_photos: int
    about: str
    device: str
    threads: int


def measure(method: Method, photos: Sequence[RestorationBatch], device: torch.device) -> Timing:
    """Time ``method`` on single photos (batches of one) that are on ``device`` already."""
    times = [_seconds(lambda photo=photo: method(photo), device) for photo in photos]
    steady = times[1:]
    cached = None
    if isinstance(method, Checkpoint) and steady and _has_references(photos[0]):
        features = [method.look_at_references(photo) for photo in photos[1:]]
        cached = _median(
            [
                _seconds(lambda photo=photo, f=f: method(photo, f, cached=True), device)
                for photo, f in zip(photos[1:], features, strict=True)
            ]
        )
    quartiles = torch.tensor(steady, dtype=torch.float64).quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    return Timing(
        first_s=times[0],
        steady_s=_median(steady) if steady else None,
        steady_spread_s=tuple(quartiles.tolist()) if steady else None,
        cached_references_s=cached,
        num_photos=len(steady),
        about="single photos, networks only",
        device=device_name(device),
        threads=torch.get_num_threads(),
    )


def of_program(seconds: float, num_photos: int) -> Timing:
    """A program's time per photo."""
    return Timing(
        first_s=None,
        steady_s=seconds / num_photos,
        steady_spread_s=None,
        cached_references_s=None,
        num_photos=num_photos,
        about="whole program, its start and files included",
        device=device_name(torch.device("cpu")),
        threads=torch.get_num_threads(),
    )


def device_name(device: torch.device) -> str:
    """Of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.processor() or platform.machine()}"


def _has_references(batch: RestorationBatch) -> bool:
    return bool(batch["reference_mask"].any())


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(0.5))
