"""Every metric by name, what it gives and what it needs; where evaluations look them up.

    psnr ssim ms_ssim                     restoration and truth
    lpips_alex lpips_vgg lpips_squeeze    and an ImageNet backbone
    dists                                 and VGG16
    id_NETWORK                            and a recognition network; four columns
    landmarks                             and a face detector with 68 points; three columns
    regions                               and landmarks of the truth, or a face detector; three columns
    attention_mass                        a checkpoint, landmarks and references; two columns
    niqe                                  restoration, and a small file of statistics
    musiq clipiqa maniqa                  restoration, the package pyiqa, and a network
    fid                                   all restorations and truths, the package torch-fidelity; also gives kid
    fid_ffhq                              and statistics of FFHQ
    fid_NETWORK                           as fid, with the features of a recognition network

Networks: `RECOGNITION`. Nothing is loaded before `build_metrics`, which loads everything or says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lit_restore.errors import UserError, nearest
from lit_restore.faces.points import Points
from lit_restore.metrics.distribution import (
    DistanceToStatistics,
    DistributionDistance,
    distribution_columns,
    recognition_features,
)
from lit_restore.metrics.dists import INFO as DISTS
from lit_restore.metrics.dists import dists_metric
from lit_restore.metrics.identity import FaceVectors, Identity, Reference, identity_columns
from lit_restore.metrics.image import MS_SSIM, PSNR, SSIM, ms_ssim_metric, psnr_metric, ssim_metric
from lit_restore.metrics.inception import inception_features
from lit_restore.metrics.iqa import NETWORKS as IQA
from lit_restore.metrics.iqa import iqa_metric
from lit_restore.metrics.landmarks import COLUMNS as LANDMARKS
from lit_restore.metrics.landmarks import LandmarkDistance
from lit_restore.metrics.lpips import INFO as LPIPS
from lit_restore.metrics.lpips import lpips_metric
from lit_restore.metrics.measurement import Metric, MetricInfo
from lit_restore.metrics.network_attention import COLUMNS as ATTENTION
from lit_restore.metrics.network_attention import NetworkAttention
from lit_restore.metrics.niqe import INFO as NIQE
from lit_restore.metrics.niqe import Luma, niqe_metric
from lit_restore.metrics.regions import COLUMNS as REGIONS
from lit_restore.metrics.regions import RegionError
from lit_restore.models.recognition import load_recognizer

SetMetric = DistributionDistance | DistanceToStatistics

RECOGNITION = {
    "curricular": ("curricularface", "CurricularFace"),
    "arcface": ("arcface", "ArcFace"),
    "adaface": ("adaface", "AdaFace"),
    "reid0095": ("face_reid_0095", "face-reid-0095"),
    "synthetic": ("bundled:synthetic128/recognition", "synthetic people"),
}
"""What a recognition network is called in names of metrics, by `load_recognizer`, and in titles."""

WEIGHTS = {
    "alexnet": "backbone of lpips_alex",
    "vgg16": "backbone of lpips_vgg and dists",
    "squeezenet": "backbone of lpips_squeeze",
    "niqe": "statistics of niqe",
    "musiq": "network of musiq",
    "clip": "network of clipiqa",
    "maniqa": "network of maniqa",
    "inception": "network of fid and fid_ffhq",
    "ffhq": "statistics of fid_ffhq: .npz with mu and sigma of Inception's features",
} | {label: f"network of id_{label} and fid_{label}" for label in RECOGNITION}
"""Weights that can be named -> what needs them."""


@dataclass(frozen=True)
class MetricOptions:
    """Choices that change numbers, and where the weights are."""

    weights: Mapping[str, str | Path] = field(default_factory=dict)
    """One of `WEIGHTS` -> its file (recognition: also a folder or bundled:NAME); those left out are looked for."""
    points: Points = "target"
    """Where identity and regions have the face points from."""
    reference: Reference = "first"
    """Which references the reference identity looks at."""
    luma: Luma = "grey"
    """What NIQE looks at."""

    def __post_init__(self) -> None:
        for name in self.weights:
            if name not in WEIGHTS:
                raise UserError(f"no metric has weights called '{name}'", fix=nearest(name, WEIGHTS))


@dataclass(frozen=True)
class Entry:
    """A metric that can be asked for.

    Attributes:
        build: loads its weights; raises `UserError` where they are missing.
        columns: what it gives.
        of_set: one value for all pictures, with ``update`` and ``compute``; else values per picture.
        needs: ``truth``, ``references``: what the data must have.
    """

    build: Callable[[MetricOptions], Metric | SetMetric]
    columns: dict[str, MetricInfo]
    of_set: bool = False
    needs: tuple[str, ...] = ("truth",)


def _lpips(backbone: str, weights: str, options: MetricOptions) -> Metric:
    return lpips_metric(backbone, options.weights.get(weights))


def _vectors(label: str, options: MetricOptions) -> FaceVectors:
    source = options.weights.get(label, RECOGNITION[label][0])
    return FaceVectors(load_recognizer(str(source)), options.points)


def _identity(label: str, options: MetricOptions) -> Metric:
    return Identity(_vectors(label, options), label, _identity_columns(label), options.reference)


def _recognition_distance(label: str, options: MetricOptions) -> SetMetric:
    vectors = _vectors(label, options)
    return DistributionDistance(recognition_features(vectors), _distance_columns(label), vectors.protocol)


def _identity_columns(label: str) -> dict[str, MetricInfo]:
    return identity_columns(label, RECOGNITION[label][1])


def _distance_columns(label: str) -> dict[str, MetricInfo]:
    return distribution_columns(f"_{label}", RECOGNITION[label][1])


def _fid(options: MetricOptions) -> SetMetric:
    features, protocol = inception_features(options.weights.get("inception"))
    return DistributionDistance(features, distribution_columns(), protocol)


def _fid_ffhq(options: MetricOptions) -> SetMetric:
    statistics = options.weights.get("ffhq")
    if statistics is None:
        raise UserError(
            "fid_ffhq needs the statistics of FFHQ",
            expected="an .npz file with mu (2048) and sigma (2048, 2048) of Inception's features, about 32 MiB",
            fix="Make it from the 70,000 pictures with 'python -m pytorch_fid --save-stats FFHQ ffhq.npz' and name it "
            "as weights 'ffhq'.",
        )
    features, protocol = inception_features(options.weights.get("inception"))
    return DistanceToStatistics(features, FFHQ_COLUMNS, protocol, statistics)


FFHQ_COLUMNS = {"fid_ffhq": MetricInfo("FID (FFHQ)", False, "{:.2f}")}
_BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet"}

CATALOGUE: dict[str, Entry] = {
    "psnr": Entry(lambda _: psnr_metric(), {"psnr": PSNR}),
    "ssim": Entry(lambda _: ssim_metric(), {"ssim": SSIM}),
    "ms_ssim": Entry(lambda _: ms_ssim_metric(), {"ms_ssim": MS_SSIM}),
    **{
        f"lpips_{backbone}": Entry(partial(_lpips, backbone, weights), {f"lpips_{backbone}": LPIPS[backbone]})
        for backbone, weights in _BACKBONES.items()
    },
    "dists": Entry(lambda options: dists_metric(options.weights.get("vgg16")), {"dists": DISTS}),
    **{
        f"id_{label}": Entry(partial(_identity, label), _identity_columns(label), needs=("truth", "references"))
        for label in RECOGNITION
    },
    "landmarks": Entry(lambda _: LandmarkDistance(), LANDMARKS),
    "regions": Entry(lambda options: RegionError(options.points), REGIONS),
    "attention_mass": Entry(lambda _: NetworkAttention(), ATTENTION, needs=("references",)),
    "niqe": Entry(lambda options: niqe_metric(options.weights.get("niqe"), options.luma), {"niqe": NIQE}, needs=()),
    **{
        name: Entry(
            partial(lambda name, weights, options: iqa_metric(name, options.weights.get(weights)), name, weights),
            {name: IQA[name].info},
            needs=(),
        )
        for name, weights in (("musiq", "musiq"), ("clipiqa", "clip"), ("maniqa", "maniqa"))
    },
    "fid": Entry(_fid, distribution_columns(), of_set=True),
    "fid_ffhq": Entry(_fid_ffhq, FFHQ_COLUMNS, of_set=True, needs=()),
    **{
        f"fid_{label}": Entry(partial(_recognition_distance, label), _distance_columns(label), of_set=True)
        for label in RECOGNITION
    },
}
"""Name -> metric."""

COLUMNS: dict[str, MetricInfo] = {
    column: info for entry in CATALOGUE.values() for column, info in entry.columns.items()
}
"""Every column that a metric can give."""

_METRIC_OF = {column: name for name, entry in CATALOGUE.items() for column in entry.columns}


def resolve(names: Iterable[str]) -> list[str]:
    """Names of metrics or of their columns -> names of metrics, each once, in the order of asking.

    Raises:
        UserError: an unknown name.
    """
    found = []
    for name in names:
        metric = name if name in CATALOGUE else _METRIC_OF.get(name)
        if metric is None:
            raise UserError(f"unknown metric '{name}'", fix=nearest(name.lower(), {*CATALOGUE, *COLUMNS}))
        found.append(metric)
    return list(dict.fromkeys(found))


def build_metrics(
    names: Iterable[str], options: MetricOptions | None = None
) -> tuple[dict[str, Metric], dict[str, SetMetric]]:
    """Metrics per picture and metrics of the whole set, by name, in the order of asking.

    Args:
        names: see `resolve`.

    Raises:
        UserError: an unknown name, or what a metric needs is missing or damaged; before anything is measured.
    """
    options = options or MetricOptions()
    built = {name: CATALOGUE[name].build(options) for name in resolve(names)}
    per_picture = {name: metric for name, metric in built.items() if not CATALOGUE[name].of_set}
    return per_picture, {name: metric for name, metric in built.items() if CATALOGUE[name].of_set}
