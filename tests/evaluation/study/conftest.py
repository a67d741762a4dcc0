"""A small study of three methods, and answer files as the page would save them."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_people import SIZE_PX, picture, write_people
from small_study import METHODS

from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
from lit_restore.evaluation.study.make import Study, make_study
from lit_restore.image import write_image


@pytest.fixture(scope="session")
def study_photos(tmp_path_factory: pytest.TempPathFactory) -> EvaluationSet:
    folder = tmp_path_factory.mktemp("study_people")
    root = str(write_people(folder / "people"))
    choice = InputChoice(
        root=(root,),
        size_px=SIZE_PX,
        split="all",
        scale_profile=True,
        num_references=2,
        cache_dir=str(folder / "cache"),
    )
    return EvaluationSet(choice)


@pytest.fixture(scope="session")
def folders(study_photos: EvaluationSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method -> its pictures."""
    root = tmp_path_factory.mktemp("methods")
    for number, name in enumerate(METHODS):
        for index, target in enumerate(study_photos.targets):
            write_image(picture(1000 * (number + 1) + index), root / name / target.key)
    return {name: root / name for name in METHODS}


@pytest.fixture(scope="session")
def study(study_photos: EvaluationSet, folders: dict[str, Path]) -> Study:
    return make_study(study_photos, folders, secret="0" * 32)
