"""Rows survive a kill, and tables of rows hold what was measured."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from lit_restore.evaluation.records import Journal, Row, number, write_rows

ROWS = [
    Row("anna/0.png", "anna", None, {"psnr": 23.123456789, "niqe": None}, {"niqe": "too small"}),
    Row('odd, "name".png', "bert", "no picture", {}, {}),
]


def test_rows_of_all_processes_come_back(tmp_path: Path) -> None:
    for rank, row in enumerate(ROWS):
        Journal(tmp_path, rank).append(row)
    assert Journal(tmp_path).read() == {row.key: row for row in ROWS}


def test_the_latest_row_of_a_photo_counts_whoever_wrote_it(tmp_path: Path) -> None:
    for rank, value in ((1, 1.0), (0, 2.0), (1, 3.0), (0, 4.0)):
        Journal(tmp_path, rank).append(Row("a", "a", None, {"psnr": value}))
    assert Journal(tmp_path).read()["a"].values == {"psnr": 4.0}


def test_a_line_cut_off_by_a_kill_is_as_if_never_begun(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(ROWS[0])
    whole = journal.path.read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        journal.path.write_bytes(whole + whole[:length])
        assert journal.read() == {ROWS[0].key: ROWS[0]}
        journal.append(ROWS[1])
        assert journal.read() == {row.key: row for row in ROWS}


def test_csv_holds_numbers_to_the_last_digit_and_why_others_are_missing(tmp_path: Path) -> None:
    write_rows(ROWS, ["psnr", "niqe"], tmp_path)
    with (tmp_path / "images.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["psnr"]) == 23.123456789
    assert (first["niqe"], first["not_measured"]) == ("", "niqe: too small")
    assert (second["key"], second["person"], second["failure"]) == ('odd, "name".png', "bert", "no picture")


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_rows(ROWS, ["psnr", "niqe"], tmp_path)
    table = parquet.read_table(tmp_path / "images.parquet").to_pydict()
    assert table["psnr"] == [23.123456789, None]
    assert table["failure"] == [None, "no picture"]
    assert table["not_measured"] == ["niqe: too small", None]


def test_nan_becomes_nothing() -> None:
    assert number(math.nan) is None
    assert number(math.inf) == math.inf
