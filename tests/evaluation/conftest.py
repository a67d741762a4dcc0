"""Three small people, a tiny trained generator, and an evaluation in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_people import SIZE_PX, write_people

from lit_restore.evaluation.inputs import EvaluationSet, InputChoice
from lit_restore.evaluation.methods import Method
from lit_restore.evaluation.runner import Evaluation
from lit_restore.metrics.catalogue import build_metrics


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return write_people(tmp_path / "people")


@pytest.fixture
def choice(people: Path, tmp_path: Path) -> InputChoice:
    return InputChoice(
        root=(str(people),),
        size_px=SIZE_PX,
        split="all",
        profile="diffbir_face",
        scale_profile=True,
        num_references=2,
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.fixture
def photos(choice: InputChoice) -> EvaluationSet:
    return EvaluationSet(choice)


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., Any]:
    """``evaluate(photos, method)`` -> summary."""

    def run(
        photos: EvaluationSet,
        method: Method,
        folder: str = "out",
        metrics: tuple[str, ...] = ("psnr", "ssim"),
        **more: Any,
    ) -> Any:
        photo, photo_set = build_metrics(metrics)
        evaluation = Evaluation(
            photos, method, list(photo.values()), tmp_path / folder, set_metrics=list(photo_set.values())
        )
        options = {"accelerator": "cpu", "enable_progress_bar": False, "num_timed": 0} | more
        return evaluation.run(**options)

    return run
