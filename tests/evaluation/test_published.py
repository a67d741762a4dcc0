"""The papers' numbers: read whole, held against each other, and nothing else is taken for a number."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_restore.errors import UserError
from lit_restore.evaluation.published import contradictions, read_published

PUBLISHED = Path(__file__).resolve().parents[2] / "experiments" / "published"

PAPER = """
paper: A paper
arxiv_id: '0000.00000'
tables:
- id: one
  caption: first
  dataset: some photos
  columns:
  - {name: PSNR, metric: psnr, direction: up, unit: dB}
  - {name: LPIPS, metric: lpips, direction: down, unit: '1'}
  rows: [{method: ours, values: {PSNR: 23.5, LPIPS: null}}, {method: theirs, values: {PSNR: 22}}]
  notes: a note
- id: two
  caption: second
  dataset: the same photos
  columns: [{name: dB, metric: psnr, direction: up, unit: dB}]
  rows: [{method: ours again, values: {dB: 23.4}}]
  notes: null
same_setting:
- {about: our method, cells: [one/ours, two/ours again]}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "paper.yaml"
    path.write_text(text)
    return path


def test_a_table_is_read(tmp_path: Path) -> None:
    table = read_published(write(tmp_path, PAPER)).table("one", "here")
    assert (table.paper, table.arxiv, table.notes, table.second_hand) == ("A paper", "0000.00000", "a note", False)
    assert [(c.name, c.higher_is_better) for c in table.columns] == [("PSNR", True), ("LPIPS", False)]
    assert table.rows["ours"] == {"PSNR": 23.5, "LPIPS": None}
    assert table.by_metric("theirs") == {"psnr": 22, "lpips": None}


def test_contradictions_follow_the_numbers(tmp_path: Path) -> None:
    published = read_published(write(tmp_path, PAPER))
    [sentence] = contradictions(published, "one")
    assert sentence == ("The paper contradicts itself on our method: PSNR is 23.5 in one/ours, 23.4 in two/ours again.")
    assert contradictions(published, "two") == [sentence.replace("PSNR", "dB")]
    agreeing = read_published(write(tmp_path, PAPER.replace("23.4", "23.5")))
    assert contradictions(agreeing, "one") == []


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("PSNR: 23.5", "PSNR: '23.5'", "not a number.*one, ours, PSNR.*'23.5'"),
        ("PSNR: 23.5", "PSNRR: 23.5", "value of no column.*one, ours.*PSNRR"),
        ("direction: down", "direction: sideways", "bad direction.*sideways"),
        ("id: two", "id: one", "two published tables of one id.*one"),
        ("two/ours again", "two/nobody", "no such published row.*two/nobody"),
        ("  caption: second\n", "", "incomplete table.*caption"),
        ("rows: [", "rows: {", "not a YAML file"),
    ],
)
def test_damaged_files(tmp_path: Path, wrong: str, right: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_published(write(tmp_path, PAPER.replace(wrong, right)))


def test_missing_file_and_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of published numbers"):
        read_published(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"no such published table.*Did you mean 'one'"):
        read_published(write(tmp_path, PAPER)).table("onee", "here")


def test_known_contradictions_of_instantrestore_are_found() -> None:
    published = read_published(PUBLISHED / "instantrestore.yaml")
    found = " ".join(contradictions(published, "3-num-references"))
    assert "ID is 0.767 in 1-blind/InstantRestore" in found
    assert "0.756 in 3-num-references/InstantRestore n=4" in found
    assert "PSNR is 23.31" in found
    assert "23.82 in text-adain-ablation/InstantRestore with AdaIN" in found
    assert contradictions(published, "5a-blind") == []


@pytest.mark.parametrize(
    ("own", "other", "rows"),
    [
        ("1-blind", "instantrestore_t1_blind", {}),
        ("1-reference", "instantrestore_t1_reference", {}),
        ("4-additional-baselines", "instantrestore_t4_extra_baselines", {}),
        ("5a-blind", "instantrestore_t5a_blind", {}),
        ("5a-reference", "instantrestore_t5a_reference", {}),
        (
            "3-num-references",
            "instantrestore_t3_num_references",
            {f"InstantRestore n={n + 1}": n for n in range(4)},
        ),
    ],
)
def test_two_transcriptions_of_a_table_agree(own: str, other: str, rows: dict[str, int]) -> None:
    """Table by table, whatever columns and rows are called."""
    first = read_published(PUBLISHED / "instantrestore.yaml").tables[own]
    second = read_published(PUBLISHED / "benchmarks.yaml").tables[other]
    theirs = list(second.rows.values())
    for number, (name, values) in enumerate(first.rows.items()):
        row = theirs[rows[name]] if rows else second.rows[name]
        assert list(values.values()) == list(row.values()), (own, name, number)
