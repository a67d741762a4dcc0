"""What is written can be read back, in every format."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from small_people import picture
from small_summaries import PUBLISHED
from test_table import NOT_THERE, fill

from lit_restore.evaluation.methods import InputCopy, NearestReference
from lit_restore.evaluation.rendering.latex import escape, latex
from lit_restore.evaluation.rendering.lines import lines, missing, signed
from lit_restore.evaluation.rendering.markdown import markdown
from lit_restore.evaluation.rendering.page import page
from lit_restore.evaluation.rendering.photos import compared_photos
from lit_restore.evaluation.rendering.spreadsheet import spreadsheet
from lit_restore.evaluation.rendering.terminal import show
from lit_restore.evaluation.runner import Evaluation
from lit_restore.evaluation.table import Measured, Table
from lit_restore.image import read_rgb
from lit_restore.metrics.catalogue import build_metrics
from lit_restore.pages.document import ComparedPhoto
from lit_restore.pages.embedded import address


@pytest.fixture
def table() -> Table:
    return Table("1", "A paper, table 1: <all> & more", (fill(contradictions=["It says 1 | 2."]),))


def test_lines_hold_ours_published_and_difference(table: Table) -> None:
    found = [(line.method, line.kind, [cell.text for cell in line.cells]) for line in lines(table.parts[0])]
    assert found == [
        ("Theirs", "published", ["22.35", "0.300", "0.1234", "10"]),
        ("Ours & more", "ours", ["23.00 [22.50, 23.60]", "0.250 [0.240, 0.270]", "0.5000", "–"]),
        ("Ours & more", "published", ["23.30", "0.225", "0.4710", "–"]),
        ("Ours & more", "difference", ["−0.30 [−0.80, +0.30]", "+0.025 [+0.015, +0.045]", "+0.0290", "–"]),
        ("Degraded", "ours", ["21.00 [20.50, 21.60]", "0.500 [0.490, 0.520]", "–", "–"]),
    ]


def test_missing_rows_and_columns_are_listed_with_what_fills_them(table: Table) -> None:
    assert missing(table.parts[0]) == [
        ("Theirs", "weights/theirs.pth is not there", "fetch it"),
        ("column Time", "the method was not timed", None),
        ("column Votes", "votes is not measured by lit_restore", None),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.354, "+0.35"), (-0.354, "−0.35"), (0.001, "0.00"), (-0.001, "0.00"), (-12.0, "−12.00")]
)
def test_signs(value: float, text: str) -> None:
    assert signed(value, 2) == text


def test_csv_read_back_is_unrounded(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(spreadsheet(table))))
    assert len(rows) == 3 * 4
    cell = next(row for row in rows if (row["method"], row["metric"]) == ("Ours & more", "PSNR"))
    assert (float(cell["ours"]), float(cell["low"]), float(cell["high"])) == (23.0, 22.5, 23.6)
    assert float(cell["difference"]) == 23.0 - 23.3
    theirs = next(row for row in rows if (row["method"], row["metric"]) == ("Theirs", "LPIPS"))
    assert (theirs["ours"], theirs["published"], theirs["why_missing"]) == (
        "",
        "0.3",
        "weights/theirs.pth is not there",
    )


def test_latex_has_booktabs_bold_and_underline(table: Table) -> None:
    text = latex(table)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    rows = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]
    rows = [[cell.replace(r"\&", "&") for cell in row] for row in rows]
    assert rows[0] == ["Method", "", *(rf"{name} $\{arrow}arrow$" for name, arrow in HEADS)]
    assert rows[1] == ["Theirs", "published", r"\underline{22.35}", r"\underline{0.300}", r"\textbf{0.1234}", "10"]
    assert rows[2][:3] == ["Ours & more", "ours", r"\textbf{23.00} [22.50, 23.60]"]
    assert rows[4][2] == "$-$0.30 [$-$0.80, +0.30]"
    assert all(len(row) == 6 for row in rows)
    braces = re.sub(r"\\[{}]", "", text)
    assert braces.count("{") == braces.count("}")


HEADS = [("PSNR", "up"), ("LPIPS", "down"), ("Time", "down"), ("Votes", "up")]


def test_latex_escapes_what_it_would_take_for_commands() -> None:
    assert escape(r"50 % of A&B_1 #2 {x} ~ ^ \y $") == (
        r"50 \% of A\&B\_1 \#2 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}y \$"
    )


def test_markdown_table_has_equal_rows_and_marks(table: Table) -> None:
    text = markdown(table)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}
    assert "| Ours & more | ours | **23.00** [22.50, 23.60] |" in text
    assert "<u>22.35</u>" in text
    assert "- Note: It says 1 \\| 2." in text


def test_terminal_shows_numbers_warnings_and_what_is_missing(table: Table) -> None:
    console = Console(file=io.StringIO(), width=160, soft_wrap=True, highlight=False)
    show(table, console)
    text = console.file.getvalue()
    for wanted in ("23.00 [22.50, 23.60]", "−0.30 [−0.80, +0.30]", "missing: Theirs", "-> fetch it", "1 | 2"):
        assert wanted in text


def test_terminal_shows_brackets_as_they_stand(table: Table) -> None:
    note = "pip install 'lit_restore[baselines]'"
    parts = tuple(replace(part, notes=(note,), caption="[bold] caption") for part in table.parts)
    console = Console(file=io.StringIO(), width=160, soft_wrap=True, highlight=False)
    show(replace(table, title="title [red]", parts=parts), console)
    text = console.file.getvalue()
    assert f"note: {note}" in text
    assert "[bold] caption" in text
    assert "title [red]" in text


class Reader(HTMLParser):
    """Collects table cells, addresses and embedded data."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self._into: list[str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._into = self.rows[-1]
        if tag == "script":
            self.scripts.append("")
            self._into = self.scripts

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "script"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_html_page_read_back(table: Table) -> None:
    reader = read(page([table], lambda _: {}))
    assert reader.rows[0] == ["", "", "PSNR ↑", "LPIPS ↓", "Time ↓", "Votes ↑"]
    assert reader.rows[2] == ["Ours & more", "ours", "23.00 [22.50, 23.60]", "0.250 [0.240, 0.270]", "0.5000", "–"]
    assert reader.rows[4][:3] == ["", "difference", "−0.30 [−0.80, +0.30]"]
    assert reader.addresses == ["https://arxiv.org/abs/0000.00000"]  # a link, followed by nobody but the reader


def test_html_page_asks_for_nothing_and_cannot_be_broken_out_of(table: Table) -> None:
    pictures = {"degraded": "data:image/png;base64,AAAA", "a": "data:image/png;base64,BBBB"}
    photo = ComparedPhoto("</script><b>", pictures, "a")
    text = page([table, table], lambda _: {"best": photo})
    assert not re.search(r"(src|url\()\s*=?\s*[\"']?(https?:)?//", text)
    assert "<title>lit_restore: ours beside published</title>" in text
    reader = read(text)
    values = json.loads(reader.scripts[0])
    assert values["best"]["caption"] == "</script><b>"
    assert values["best"]["main"] == "a"
    assert "&lt;all&gt; &amp; more" in text


def test_pictures_of_a_part_are_the_stored_ones(photos, tmp_path: Path) -> None:
    metrics, _ = build_metrics(["psnr"])
    results = {}
    for method in (InputCopy(), NearestReference()):
        evaluation = Evaluation(photos, method, list(metrics.values()), tmp_path / method.name)
        summary = evaluation.run(accelerator="cpu", enable_progress_bar=False, num_timed=0)
        results[method.name] = Measured(summary, tmp_path / method.name)
    rows = {"degraded-input": PUBLISHED.rows["Theirs"]}
    part = fill(results=results, published=replace(PUBLISHED, rows=rows))
    compared = compared_photos(part)
    assert list(compared) == ["best", "median", "worst"]
    worst = compared["worst"]
    assert worst.main == "degraded-input"  # the last row that the paper has
    assert list(worst.pictures)[:2] == ["degraded", "truth"]
    assert {"reference 1", "degraded-input", "nearest-reference"} <= set(worst.pictures)
    assert worst.pictures["degraded"].startswith("data:image/png;base64,")
    assert (
        worst.caption == f"{results['degraded-input'].summary.examples['worst']}, the worst of degraded-input by psnr"
    )


def test_large_pictures_become_webp(tmp_path: Path) -> None:
    kind, data = address(picture(1, 512)).split(",", 1)
    assert kind == "data:image/webp;base64"
    (tmp_path / "back.webp").write_bytes(base64.b64decode(data))
    difference = read_rgb(tmp_path / "back.webp").astype(int) - picture(1, 512)
    assert abs(difference).mean() < 3


def test_nothing_measured_means_no_pictures() -> None:
    assert compared_photos(fill(results={"Theirs": NOT_THERE})) == {}
