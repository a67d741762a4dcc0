"""Ours beside published: differences, marks, warnings."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from small_summaries import PUBLISHED, measured, protocol, summary

from lit_restore.evaluation.bootstrap import Estimate
from lit_restore.evaluation.comparability import Setting, column_warnings, row_warnings
from lit_restore.evaluation.definitions import MetricDefinition
from lit_restore.evaluation.summary import MetricSummary
from lit_restore.evaluation.table import Part, Unmeasured, fill_part, rank

METRICS = {
    "psnr": MetricDefinition("psnr", digits=2),
    "lpips": MetricDefinition("lpips_alex", digits=3),
    "seconds_per_image": MetricDefinition("seconds", digits=3),
}
SETTING = Setting("Faces", "Faces, data/faces", same_data=True, photos=10, people=3, profile="diffbir_face")
NOT_THERE = Unmeasured((("weights/theirs.pth is not there", "fetch it"),))


def fill(**changes) -> Part:
    results = {"Theirs": NOT_THERE, "Ours & more": measured(), "Degraded": measured(21.0, 0.5, seconds=None)}
    options = {"results": results, "metrics": METRICS, "setting": SETTING, "published": PUBLISHED} | changes
    return fill_part(**options)


def test_difference_is_ours_minus_published_with_the_interval_moved_along() -> None:
    _, ours, degraded = fill().rows
    assert ours.cells["PSNR"].difference == pytest.approx(23.0 - 23.3)
    assert ours.cells["PSNR"].difference_interval == pytest.approx((22.5 - 23.3, 23.6 - 23.3))
    assert ours.cells["LPIPS"].difference == pytest.approx(0.25 - 0.225)
    assert ours.cells["Time"].difference == pytest.approx(0.5 - 0.471)
    assert ours.cells["Time"].difference_interval is None
    assert degraded.cells["PSNR"].difference is None  # the paper has no such row


def test_a_published_number_changed_by_hand_changes_the_difference() -> None:
    rows = {**PUBLISHED.rows, "Ours & more": {**PUBLISHED.rows["Ours & more"], "PSNR": 20.0}}
    changed = fill(published=replace(PUBLISHED, rows=rows)).rows[1].cells["PSNR"]
    assert (changed.published, changed.difference) == (20.0, 3.0)


def test_missing_cells_say_why() -> None:
    theirs, ours, degraded = fill(unavailable={"lpips_alex": "no weights"}).rows
    assert theirs.cells["PSNR"].ours is None
    assert theirs.cells["PSNR"].missing == "weights/theirs.pth is not there"
    assert theirs.cells["PSNR"].published == 22.35
    assert ours.cells["Votes"].missing == "votes is not measured by lit_restore"
    assert degraded.cells["Time"].missing == "the method was not timed"
    without = measured(metrics={"psnr": MetricSummary(True, Estimate(1.0, None, None, 1, 1), {})})
    cell = fill(results={"Theirs": without}, unavailable={"lpips_alex": "no weights"}).rows[0].cells["LPIPS"]
    assert (cell.ours, cell.missing) == (None, "no weights")


def test_digits_are_those_of_most_numbers_of_the_column() -> None:
    digits = {column.name: column.digits for column in fill().columns}
    assert digits == {"PSNR": 2, "LPIPS": 3, "Time": 4, "Votes": 0}  # 23.3 and 22.35 are 23.30 and 22.35; 10.0 is 10
    more = {f"other {number}": {"Time": 0.123} for number in range(2)}
    part = fill(published=replace(PUBLISHED, rows={**PUBLISHED.rows, **more}))
    assert part.columns[2].digits == 3


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ({"a": 3.0, "b": 1.0, "c": 2.0}, True, {"a": "best", "c": "second"}),
        ({"a": 3.0, "b": 1.0, "c": 2.0}, False, {"b": "best", "c": "second"}),
        ({"a": 1.004, "b": 1.001, "c": 0.5}, True, {"a": "best", "b": "best"}),  # equal as printed: no second
        ({"a": 2.0, "b": 1.004, "c": 1.001}, True, {"a": "best", "b": "second", "c": "second"}),
        ({"a": 1.0}, True, {}),
        ({"a": 1.0, "b": 1.0}, True, {"a": "best", "b": "best"}),
    ],
)
def test_best_and_second_are_decided_as_printed(values: dict, higher: bool, expected: dict) -> None:
    assert rank(values, higher, 2) == expected


def test_ours_and_published_are_never_ranked_together() -> None:
    part = fill()
    assert part.marks("published")["Ours & more", "PSNR"] == "best"
    assert part.marks("published")["Theirs", "PSNR"] == "second"
    assert part.marks("ours")["Ours & more", "PSNR"] == "best"
    assert part.marks("ours")["Degraded", "PSNR"] == "second"
    assert ("Theirs", "PSNR") not in part.marks("ours")
    assert ("Ours & more", "Time") not in part.marks("ours")  # alone in its column


def test_warnings_of_all_rows_are_said_once() -> None:
    part = fill(setting=replace(SETTING, photos=252, people=17))
    assert part.warnings == (
        "Other number of photos: ours on 10, published on 252.",
        "Other number of people: ours 3, published 17.",
    )
    assert all(row.warnings == () for row in part.rows)
    failed = measured(num_failed=2, failures={"no face": ["a", "b"]})
    part = fill(results={"Theirs": measured(), "Ours & more": failed})
    assert part.warnings == ()
    assert part.rows[1].warnings == ("2 of 10 photos failed and do not count: 2 x no face.",)


@pytest.mark.parametrize(
    ("setting", "changes", "message"),
    [
        ({"same_data": False, "photos": 252, "people": 17}, {}, r"Other data: ours on .* \(10 photos of 3 people\)"),
        ({"subset": "those with landmarks"}, {}, "Published on a subset: those with landmarks"),
        ({}, {"image": {"size_px": 128}}, "Other size: ours at 128 px, published at 512 px"),
        ({}, {"data": {"only_the_first": True}}, "Only the first 10 photos"),
        ({}, {"degradation": {"profile": "gfpgan"}}, "Other degradation: ours gfpgan, .* we read diffbir_face"),
        ({}, {"degradation": {"scaled_to_resolution": True}}, "ours diffbir_face, scaled to the size"),
        ({}, {"degradation": {"changed": {"scale": 4}}}, "ours diffbir_face, changed: scale"),
        ({"own_files": True}, {}, "Other inputs: ours degraded by diffbir_face, published ones are files"),
    ],
)
def test_protocol_mismatches_are_warned_of(setting: dict, changes: dict, message: str) -> None:
    [warning] = row_warnings(replace(SETTING, **setting), summary(protocol=protocol(**changes)))
    assert re.search(message, warning)


def test_equal_protocols_are_not_warned_of() -> None:
    assert row_warnings(SETTING, summary()) == []
    fixed = protocol()
    fixed["degradation"] = {"fixed_files": {"photos": 10, "sha256": "0"}}
    assert row_warnings(replace(SETTING, own_files=True), summary(protocol=fixed)) == []


def test_another_network_and_photos_that_could_not_be_measured_are_warned_of() -> None:
    found = protocol(metrics={"id": {"network": "ArcFace IR-SE50"}})
    values = {"id": MetricSummary(True, Estimate(0.5, 0.4, 0.6, 7, 3), {"no face": ["a", "b"], "not restored": ["c"]})}
    failed = summary(protocol=found, metrics=values, num_failed=1, failures={"x": ["c"]})
    definition = MetricDefinition("id", network="CurricularFace", remark="to be read with care.")
    assert column_warnings("ID", "id", definition, failed) == [
        "ID: ours by ArcFace IR-SE50, published by CurricularFace.",
        "ID: to be read with care.",
        "ID: 2 of 10 photos could not be measured (no face).",
    ]
    assert column_warnings("ID", "id", MetricDefinition("id", network="ArcFace"), summary(protocol=found)) == []


def test_a_network_that_was_trained_to_be_pleased_is_no_judge() -> None:
    arcface = {"id": {"network": "ArcFace IR-SE50"}, "other": {"network": "CurricularFace IR-101"}}
    found = protocol(metrics=arcface, method={"trained_to_please": "ArcFace IR-SE50"})
    values = {name: MetricSummary(True, Estimate(0.5, 0.4, 0.6, 10, 3), {}) for name in arcface}
    judged = summary(protocol=found, metrics=values)
    assert column_warnings("ID", "id", MetricDefinition("id"), judged) == [
        "ID: ours is judged by the network that the restorer was trained to please."
    ]
    assert column_warnings("ID", "other", MetricDefinition("other"), judged) == []


def test_notes_come_with_contradictions_first() -> None:
    part = fill(contradictions=["It contradicts itself."], notes=["Read so."])
    assert part.notes == ("It contradicts itself.", "Read so.", "A note of the paper.")
    second_hand = fill(published=replace(PUBLISHED, second_hand=True, notes=None))
    assert second_hand.notes == ("The published numbers are second-hand.",)
