"""Why a number of ours may not be compared with a published one as it stands.

Papers rarely say everything; what they do say is held against the protocol of the evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from lit_restore.evaluation.definitions import MetricDefinition
from lit_restore.evaluation.protocol import flattered
from lit_restore.evaluation.summary import Summary


@dataclass(frozen=True)
class Setting:
    """What published numbers were measured on, and what stands in for it.

    Attributes:
        data: name of the published data.
        measured_on: name of ours.
        same_data: whether they are meant to be the same photos.
        photos, people: published; None = not stated.
        size_px: side of the published photos.
        own_files: whether the published inputs are files of the data set rather than made by a profile.
        subset: why the published photos are fewer than the data set's.
        profile: the degradation as we read the paper.
    """

    data: str
    measured_on: str
    same_data: bool
    photos: int | None = None
    people: int | None = None
    size_px: int = 512
    own_files: bool = False
    subset: str | None = None
    profile: str | None = None


def row_warnings(setting: Setting, summary: Summary) -> list[str]:
    """Sentences about data, degradation, size and failures."""
    warnings = []
    data, image = summary.protocol["data"], summary.protocol["image"]
    measured = f"{data['photos']} photos of {data['people']} people"
    if not setting.same_data:
        published = _count(setting)
        warnings.append(
            f"Other data: ours on {setting.measured_on} ({measured}), published on {setting.data}{published}."
        )
    else:
        if setting.photos not in (None, data["photos"]):
            warnings.append(f"Other number of photos: ours on {data['photos']}, published on {setting.photos}.")
        if setting.people not in (None, data["people"]):
            warnings.append(f"Other number of people: ours {data['people']}, published {setting.people}.")
    if data["only_the_first"]:
        warnings.append(f"Only the first {data['photos']} photos of the split were measured.")
    if setting.subset:
        warnings.append(f"Published on a subset: {setting.subset}.")
    if image["size_px"] != setting.size_px:
        warnings.append(f"Other size: ours at {image['size_px']} px, published at {setting.size_px} px.")
    warnings += _degradation_warnings(setting, summary)
    if summary.num_failed:
        reasons = "; ".join(f"{len(keys)} x {reason}" for reason, keys in summary.failures.items())
        warnings.append(f"{summary.num_failed} of {summary.num_photos} photos failed and do not count: {reasons}.")
    return warnings


def column_warnings(column: str, ours: str | None, definition: MetricDefinition | None, summary: Summary) -> list[str]:
    """Sentences about how a metric was computed."""
    warnings = []
    if definition is None or ours is None:
        return warnings
    protocol = summary.protocol["metrics"].get(ours, {})
    used = str(protocol.get("network", protocol.get("backbone", "")))
    if definition.network is not None and definition.network.lower() not in used.lower():
        warnings.append(f"{column}: ours by {used or ours}, published by {definition.network}.")
    if definition.remark:
        warnings.append(f"{column}: {definition.remark}")
    if ours in flattered(summary.protocol):
        warnings.append(f"{column}: ours is judged by the network that the restorer was trained to please.")
    metric = summary.metrics.get(ours)
    not_restored = summary.num_failed
    if metric is not None and metric.estimate is not None:
        missing = sum(map(len, metric.not_measured.values())) - not_restored
        if missing > 0:
            reasons = "; ".join(reason for reason in metric.not_measured if reason != "not restored")
            warnings.append(f"{column}: {missing} of {summary.num_photos} photos could not be measured ({reasons}).")
    return warnings


def _count(setting: Setting) -> str:
    if setting.photos is None:
        return ""
    people = "" if setting.people is None else f" of {setting.people} people"
    return f" ({setting.photos} photos{people})"


def _degradation_warnings(setting: Setting, summary: Summary) -> list[str]:
    used = summary.protocol["degradation"]
    profile = used.get("profile")
    if profile is None:
        return []
    changed = ", changed: " + ", ".join(used["changed"]) if used["changed"] else ""
    scaled = ", scaled to the size" if used["scaled_to_resolution"] else ""
    described = f"{profile}{changed}{scaled}"
    if setting.own_files:
        return [f"Other inputs: ours degraded by {described}, published ones are files of the data set."]
    if profile != setting.profile or changed or scaled:
        return [f"Other degradation: ours {described}, for the paper's we read {setting.profile}."]
    return []
