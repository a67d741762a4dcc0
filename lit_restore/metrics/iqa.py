"""MUSIQ, CLIP-IQA and MANIQA: networks that guess what people would say about a picture; higher is better.

They come from the package pyiqa, in the versions that the papers' tables use: MUSIQ (Ke et al. 2021) and MANIQA (Yang
et al. 2022) trained on KonIQ-10k, CLIP-IQA (Wang et al. 2023) with CLIP's ResNet-50 and no position embedding. The
package is optional (extra ``iqa``) and free for non-commercial use only; each network is one file.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.weights import WeightFile, decode, load, obtain
from lit_restore.metrics.measurement import Judgement, MetricInfo, library
from lit_restore.metrics.weights import CLIP_RN50, MANIQA, MUSIQ
from lit_restore.models.base import fingerprint


@dataclass(frozen=True)
class IqaNetwork:
    """A network of pyiqa.

    Attributes:
        trained_on: for the protocol.
    """

    info: MetricInfo
    file: WeightFile
    trained_on: str


NETWORKS = {
    "musiq": IqaNetwork(MetricInfo("MUSIQ", True, "{:.2f}"), MUSIQ, "KonIQ-10k"),
    "clipiqa": IqaNetwork(MetricInfo("CLIP-IQA", True, "{:.4f}"), CLIP_RN50, "CLIP ResNet-50"),
    "maniqa": IqaNetwork(MetricInfo("MANIQA", True, "{:.4f}"), MANIQA, "KonIQ-10k"),
}


def iqa_metric(name: str, weights: str | Path | None = None) -> Judgement:
    """One of `NETWORKS` per image.

    Args:
        weights: its file; None = see `lit_restore.faces.weights.obtain`.

    Raises:
        UserError: package or file is missing, or the file is another network's.
    """
    known = NETWORKS[name]
    try:
        import pyiqa
    except ImportError:
        raise UserError(
            f"{known.info.title} needs the package pyiqa",
            fix="Install it with pip install 'lit_restore[iqa]' (for non-commercial use only), or leave it out.",
        ) from None
    path = obtain(known.file, weights)
    with contextlib.redirect_stdout(io.StringIO()), _without_timm_downloads():
        if name == "clipiqa":
            metric = _clip(pyiqa, path)
            network = metric.net.clip_model[0]
        else:
            metric = pyiqa.create_metric(name, device="cpu", pretrained=False)
            state = decode(path)
            load(metric.net, {key.removeprefix("module."): value for key, value in state.items()}, path)
            network = metric.net
    metric.requires_grad_(False)

    def judge(restored: torch.Tensor) -> torch.Tensor:
        # One by one: MANIQA draws crops for the whole batch, and no number may depend on its neighbours.
        return torch.stack([metric.to(image.device)(image[None]).reshape(()) for image in restored])

    protocol = {
        "trained_on": known.trained_on,
        "weights": fingerprint(network),
        "colour": "RGB",
        "size": "as given",
        "library": library("pyiqa"),
    }
    return Judgement(name, known.info, judge, protocol)


def _clip(pyiqa: Any, path: Path) -> nn.Module:
    try:
        return pyiqa.create_metric("clipiqa", device="cpu", backbone=str(path))
    except (RuntimeError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError("not a CLIP network", where=path, expected=CLIP_RN50.what, found=found) from None


@contextlib.contextmanager
def _without_timm_downloads() -> Iterator[None]:
    """MANIQA's file holds all of its weights; pyiqa would still download its ImageNet start from a hub first."""
    import timm

    create = timm.create_model
    timm.create_model = lambda name, pretrained=False, **arguments: create(name, pretrained=False, **arguments)
    try:
        yield
    finally:
        timm.create_model = create
