from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from lit_restore.data import synthetic_folder
from lit_restore.data.canonical_face import POINTS_68
from lit_restore.data.datamodule import RestorationDataModule
from lit_restore.data.landmarks import Landmarks, landmark_path, load_landmarks, write_landmarks
from lit_restore.data.manifest import MANIFEST_NAME, Split, read_manifest, write_manifest
from lit_restore.data.scan import build_manifest
from lit_restore.data.synthetic import render_face
from lit_restore.data.synthetic_folder import SyntheticPeople, write_synthetic_people
from lit_restore.errors import UserError
from lit_restore.image import read_rgb

PEOPLE = SyntheticPeople(identities=6, images_per_identity=3, seed=1)


def module(
    cache: Path, root: Any = None, *, max_iterations: int = 4, accumulate: int = 1, **options: Any
) -> RestorationDataModule:
    """A datamodule that is set up, with just enough of a trainer to know how long the training is."""
    values = {"synthetic": PEOPLE, "size_px": 64, "num_workers": 0, "batch_size": 3}
    values |= {"cache_dir": str(cache), "scale_degradation": True}
    data = RestorationDataModule(root=None if root is None else str(root), **(values | options))
    data.prepare_data()
    data.setup()
    learner = SimpleNamespace(max_iterations=max_iterations, accumulate=accumulate, iteration=0)
    data.trainer = SimpleNamespace(lightning_module=learner, global_rank=0, world_size=1)
    return data


def same_batches(one: Any, other: Any) -> bool:
    one, other = list(one), list(other)
    return len(one) == len(other) > 0 and all(
        torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k]
        for a, b in zip(one, other, strict=True)
        for k in a
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_references_are_official_in_training_and_validation_only(cache: Path) -> None:
    """As the official code has it: its test script does not follow its data sets (instantrestore.md, D2)."""
    usual, official = module(cache), module(cache, reference_range=[0, 1])
    for split, shifted in (("train", True), ("val", True), ("test", False)):
        one, other = usual.datasets[split][0]["references"], official.datasets[split][0]["references"]
        torch.testing.assert_close(other, (one + 1) / 2 if shifted else one, atol=1e-7, rtol=0)


def test_synthetic_people_are_an_ordinary_folder_with_exact_landmarks(cache: Path) -> None:
    data = module(cache)
    assert {split: len(data.datasets[split].targets) for split in data.datasets} == {"train": 12, "val": 3, "test": 3}
    face = render_face(1, 2, 1, 64)
    np.testing.assert_array_equal(read_rgb(data.folder / "person_0002/01.png"), face.image)
    photo = next(photo for photo in data.manifest.photos if photo.key == "person_0002/01.png")
    points, mask = load_landmarks(data.folder / "landmarks", photo)
    np.testing.assert_array_equal(points, face.landmarks)
    np.testing.assert_array_equal(mask, face.visible)


def test_synthetic_people_are_rendered_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = module(cache).folder
    monkeypatch.setattr(synthetic_folder, "_render_one", lambda _: pytest.fail("rendered again"))
    assert module(cache).folder == folder
    (folder / MANIFEST_NAME).unlink()
    monkeypatch.undo()
    assert write_synthetic_people(PEOPLE, 64, folder) == 0  # all there: an interrupted run continues
    (folder / "person_0000/00.png").write_bytes(b"cut")
    assert write_synthetic_people(PEOPLE, 64, folder) == 1


def test_other_parameters_are_another_folder(cache: Path) -> None:
    folders = {
        RestorationDataModule(size_px=size, synthetic=SyntheticPeople(6, 3, seed), cache_dir=str(cache)).folder
        for size in (64, 128)
        for seed in (0, 1)
    }
    assert len(folders) == 4


def test_batches(cache: Path) -> None:
    batches = list(module(cache, accumulate=2).train_dataloader())
    assert len(batches) == 8  # max_iterations * accumulate
    for batch in batches:
        assert batch["lq"].shape == batch["hq"].shape == (3, 3, 64, 64)
        assert batch["references"].shape[:2] == batch["reference_mask"].shape
        assert batch["reference_mask"].any(1).all()
        assert batch["landmark_mask"].float().mean() > 0.5
        assert batch["landmarks"].min() >= -0.5
        assert batch["landmarks"].max() <= 63.5


def test_workers_do_not_matter(cache: Path) -> None:
    zero, one, two = (module(cache, num_workers=n) for n in range(3))
    assert same_batches(zero.train_dataloader(), one.train_dataloader())
    assert same_batches(zero.train_dataloader(), two.train_dataloader())
    assert same_batches(zero.test_dataloader(), two.test_dataloader())


def test_seeds_matter(cache: Path) -> None:
    assert same_batches(module(cache).train_dataloader(), module(cache).train_dataloader())
    assert not same_batches(module(cache).train_dataloader(), module(cache, seed=1).train_dataloader())


def test_evaluation_is_the_same_every_time(cache: Path) -> None:
    data = module(cache, eval_batch_size=2)
    batches = list(data.val_dataloader())
    assert [len(batch["key"]) for batch in batches] == [2, 1]
    assert same_batches(batches, data.val_dataloader())
    assert same_batches(data.test_dataloader(), data.predict_dataloader())


class Recorder(LightningModule):
    """Counts its steps as the real module does and remembers which photos it saw."""

    def __init__(self, max_iterations: int) -> None:
        super().__init__()
        self.max_iterations = max_iterations
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("steps", torch.tensor(0))
        self.seen: list[tuple[tuple[str, ...], float]] = []

    @property
    def iteration(self) -> int:
        return int(self.steps)

    def training_step(self, batch: dict[str, Any], _: int) -> None:
        self.seen.append((tuple(batch["key"]), batch["lq"].sum().item()))
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.layer(torch.ones(1, 1)).sum())
        optimizer.step()
        self.steps += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.iteration == 3:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / "3.ckpt")


def fit(data: RestorationDataModule, folder: Path, ckpt_path: Path | None = None) -> Recorder:
    recorder = Recorder(max_iterations=7)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(recorder, data, ckpt_path=ckpt_path, weights_only=True)
    return recorder


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(cache: Path, tmp_path: Path, num_workers: int) -> None:
    whole = fit(module(cache, num_workers=num_workers), tmp_path)
    resumed = fit(module(cache, num_workers=num_workers), tmp_path / "resumed", tmp_path / "3.ckpt")
    assert len(whole.seen) == 7
    assert resumed.seen == whole.seen[3:]
    assert resumed.iteration == 7


def test_people_folder_takes_the_same_road(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = people_folder(anna=3, bert=3, cara=3)
    with pytest.warns(UserWarning, match="3 of 3 training photos have no landmarks"):
        data = module(tmp_path / "cache", root)
    assert data.folder.parent == tmp_path / "cache"
    assert not data.folder.is_relative_to(root)
    assert len(next(iter(data.train_dataloader()))["key"]) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(tmp_path / "cache", root, landmarks=False)


def test_new_photos_in_a_folder_are_noticed(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = people_folder(anna=3, bert=3, cara=3)
    module(tmp_path / "cache", root, landmarks=False)
    people_folder(root, anna=3, bert=3, cara=3, dora=2)
    assert "dora" in module(tmp_path / "cache", root, landmarks=False).manifest.identities()


def test_prepared_folder_and_its_split(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = people_folder(anna=2, bert=2, cara=2, dora=2)
    manifest = build_manifest(root, split=Split(val=0, test=2))
    write_manifest(manifest, tmp_path / "prepared" / MANIFEST_NAME)
    points = (POINTS_68 * 20 + 48).astype(np.float32)
    for photo in manifest.photos:
        landmarks = Landmarks(points, np.ones(68, bool), photo.sha256, "t")
        write_landmarks(landmarks, landmark_path(tmp_path / "prepared/landmarks", photo.key))
    data = module(tmp_path / "cache", tmp_path / "prepared")
    assert not (tmp_path / "cache").exists()
    assert (len(data.datasets["val"]), len(data.datasets["test"])) == (0, 4)
    assert list(data.val_dataloader()) == []
    assert next(iter(data.train_dataloader()))["landmark_mask"].all()
    data = module(tmp_path / "cache", tmp_path / "prepared", split=Split(val=1, test=1))
    assert (len(data.datasets["val"]), len(data.datasets["test"])) == (2, 2)
    assert read_manifest(tmp_path / "prepared" / MANIFEST_NAME) == manifest


def test_changed_photo_and_stale_landmarks_are_errors(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = people_folder(anna=3)
    manifest = build_manifest(root, split=Split(0, 0))
    write_manifest(manifest, tmp_path / "prepared" / MANIFEST_NAME)
    photo = manifest.photos[0]
    landmarks = Landmarks(np.zeros((68, 2)), np.ones(68, bool), "other", "t")
    write_landmarks(landmarks, landmark_path(tmp_path / "prepared/landmarks", photo.key))
    with pytest.raises(UserError, match="stale landmarks"), pytest.warns(UserWarning, match="2 of 3 training photos"):
        list(module(tmp_path, tmp_path / "prepared").train_dataloader())
    Path(photo.path).write_bytes(b"changed")
    with pytest.raises(UserError, match=r"anna/0\.png has changed.*prepare"):
        module(tmp_path, tmp_path / "prepared")


def test_lq_only_folder_predicts_but_does_not_train(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    data = module(tmp_path / "cache", people_folder(flat=3) / "flat")
    batch = next(iter(data.predict_dataloader()))
    assert batch["references"].shape[1] == 0
    assert not batch["has_hq"].any()
    with pytest.raises(UserError, match="no photos with ground truth in split 'train'"):
        data.train_dataloader()


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such data folder"):
        module(tmp_path, tmp_path / "missing")
    with pytest.raises(UserError, match="diffbir_face"):
        module(tmp_path, degradation="difbir_face")
    with pytest.raises(UserError, match="images_per_identity >= 2"):
        SyntheticPeople(images_per_identity=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "number too small: data.batch_size; expected 1 or more; found 0"),
        ({"eval_batch_size": -1}, "number too small: data.eval_batch_size; expected 1 or more; found -1"),
        ({"size_px": 0}, "number too small: data.size_px"),
        ({"max_references": -1}, "number too small: data.max_references; expected 0 or more; found -1"),
        ({"num_workers": -1}, "number too small: data.num_workers"),
        ({"zero_reference_probability": 1.5}, "bad probability: data.zero_reference_probability; expected 0 to 1"),
    ],
)
def test_numbers_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RestorationDataModule(**options)
