"""The tables that come with lit_restore can be made, and mistakes in a definition are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lit_restore.data.degradation import PROFILES
from lit_restore.data.layouts import LAYOUTS
from lit_restore.errors import UserError
from lit_restore.evaluation.definitions import Definitions
from lit_restore.evaluation.table import columns_of
from lit_restore.metrics.catalogue import COLUMNS

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SHIPPED = Definitions(EXPERIMENTS)


def test_every_table_of_the_papers_is_there() -> None:
    wanted = {"1", "2", "3", "4", "5a", "5b", "6", "adain-las", "osdface-1", "osdface-2", "lafr-1", "lafr-2"}
    wanted |= {"ffhqref-moderate", "ffhqref-severe", "celeba-test-ref", "celebhqref100", "ages", "real-world"}
    assert set(SHIPPED.names()) == wanted


@pytest.mark.parametrize("name", SHIPPED.names())
def test_what_a_table_points_at_exists(name: str) -> None:
    for part in SHIPPED.table(name).parts:
        published, _ = SHIPPED.published(part.published)
        assert set(part.rows) <= set(published.rows)
        assert not set(part.more_rows) & set(published.rows)
        for profile in (part.profile, part.quick and part.quick.profile):
            assert profile is None or profile in PROFILES
        for note in part.notes:
            assert note[-1] != ","
        if part.data is None:
            continue
        assert SHIPPED.datasets[part.data].layout in ("auto", *LAYOUTS)
        for column in columns_of(published, SHIPPED.metrics):
            assert column.ours in (None, "seconds", *COLUMNS)


def test_stand_ins_exist() -> None:
    quick = SHIPPED.quick()
    assert (EXPERIMENTS.parent / quick.config).is_file()
    assert quick.method in SHIPPED.methods
    assert {metric.ours for metric in quick.metrics.values()} <= set(COLUMNS)
    assert set(quick.metrics) <= set(SHIPPED.metrics)
    assert [name for name in SHIPPED.names() if any(part.quick for part in SHIPPED.table(name).parts)] == ["3", "6"]


def test_super_resolution_has_three_factors_on_two_sets() -> None:
    profiles = [(part.data, part.profile) for part in SHIPPED.table("6").parts]
    assert profiles == [(d, f"sr_x{f}_random_combination") for d in ("celebref_hq", "internet30") for f in (4, 8, 16)]


def test_every_method_is_made_in_one_way() -> None:
    for name, method in SHIPPED.methods.items():
        ways = [method.checkpoint, method.network, method.outputs, method.command, method.baseline]
        assert sum(way is not None for way in ways) == 1, name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXPERIMENTS, tmp_path / "experiments"))


@pytest.mark.parametrize(
    ("file", "wrong", "right", "message"),
    [
        ("tables/3.yaml", "profile:", "profil:", r"unknown key 'profil'.*3\.yaml.*Did you mean 'profile'"),
        ("tables/3.yaml", "celebref_hq", "celebref", r"unknown data set 'celebref'.*Did you mean 'celebref_hq'"),
        ("tables/3.yaml", "references: 1", "reference: 1", r"unknown key 'reference'.*InstantRestore n=1"),
        ("tables/3.yaml", "- published: instantrestore.yaml/3-num-references\n  data", "- data", "no key 'published'"),
        ("tables/3.yaml", "title:", "name:", r"bad table definition.*title and parts"),
        ("tables/3.yaml", "parts:", "parts: [", "not a YAML file"),
        ("tables/3.yaml", "3-num-references", "3-num-refs", r"no such published table.*3-num-refs"),
        ("tables/3.yaml", "instantrestore.yaml/", "instant.yaml/", r"no such file of published numbers.*instant\.yaml"),
    ],
)
def test_mistakes_in_a_table(folder: Path, file: str, wrong: str, right: str, message: str) -> None:
    path = folder / file
    assert wrong in path.read_text()
    path.write_text(path.read_text().replace(wrong, right))
    with pytest.raises(UserError, match=message):
        read_all(Definitions(folder))


def read_all(definitions: Definitions) -> None:
    for part in definitions.table("3").parts:
        definitions.published(part.published)


def test_unknown_table_and_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no table '5'.*Did you mean '5"):
        Definitions(folder).table("5")
    with pytest.raises(UserError, match=r"no table definitions.*--experiments"):
        Definitions(tmp_path / "nowhere")
    (folder / "methods.yaml").unlink()
    with pytest.raises(UserError, match=r"no such definition file.*methods\.yaml"):
        Definitions(folder)
