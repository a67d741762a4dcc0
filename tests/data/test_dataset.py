from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_restore.data.augmentation import augment
from lit_restore.data.canonical_face import NUM_DENSE, POINTS_68
from lit_restore.data.collate import collate
from lit_restore.data.dataset import RestorationDataset, require_targets
from lit_restore.data.degradation import Degradation, degrade
from lit_restore.data.landmarks import Landmarks, landmark_path, write_landmarks
from lit_restore.data.manifest import Manifest, Split
from lit_restore.data.sampler import EvalSampler, TrainSampler
from lit_restore.data.scan import build_manifest
from lit_restore.errors import UserError
from lit_restore.image import fit_square, read_rgb, to_tensor

ALL_TRAIN = Split(val=0, test=0)
ALL_TEST = Split(val=0, test=2)


def make(manifest: Manifest, split: str = "train", **options: object) -> RestorationDataset:
    values = {"size_px": 64, "degradation": Degradation("diffbir_face", seed=3), "training": split == "train"}
    return RestorationDataset(manifest, split, **(values | options))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k] for k in one
    )


@pytest.fixture
def manifest(people_folder: Callable[..., Path]) -> Manifest:
    return build_manifest(people_folder(anna=4, bert=3, cara=2), split=ALL_TRAIN)


def test_a_sample_is_composed_of_its_parts(manifest: Manifest) -> None:
    dataset = make(manifest)
    for epoch, index in ((0, 0), (2, 5)):
        photo = manifest.photos[index]
        sample = dataset[epoch, index]
        hq = fit_square(read_rgb(photo.path), 64)
        assert torch.equal(sample["hq"], to_tensor(hq))
        record = Degradation("diffbir_face", seed=3).record(photo.key, epoch, (64, 64))
        assert torch.equal(sample["lq"], to_tensor(degrade(hq, record)))
        references = [to_tensor(fit_square(read_rgb(p.path), 64)) for p in dataset.references(photo, epoch)]
        assert torch.equal(sample["references"], torch.stack(references))
        assert (sample["identity"], sample["key"]) == (photo.identity, photo.key)
        assert sample["has_hq"].item() is True
        assert not sample["landmark_mask"].any()


def test_ranges_and_shapes(manifest: Manifest) -> None:
    for index in range(len(manifest.photos)):
        sample = make(manifest)[1, index]
        for name in ("lq", "hq", "references"):
            assert sample[name].shape[-3:] == (3, 64, 64)
            assert sample[name].dtype == torch.float32
            assert sample[name].min() >= -1
            assert sample[name].max() <= 1
        assert sample["lq"].min() < -0.2  # not left in [0, 1]
        assert sample["references"].min() < -0.2
        assert sample["reference_landmarks"].shape == (len(sample["references"]), NUM_DENSE, 2)


def test_references_in_the_official_training_range(manifest: Manifest) -> None:
    """[0, 1] instead of [-1, 1]: the same pictures, (x + 1) / 2; nothing else of the sample changes."""
    usual, official = make(manifest)[1, 0], make(manifest, reference_range=(0, 1))[1, 0]
    torch.testing.assert_close(official.pop("references"), (usual.pop("references") + 1) / 2, atol=1e-7, rtol=0)
    assert same(usual, official)
    for bad in ((1, 0), (0, 255), (-1, -1)):
        with pytest.raises(UserError, match=r"data.reference_range; expected \[low, high\] within \[-1, 1\]; found"):
            make(manifest, reference_range=bad)


def test_training_changes_with_the_epoch_and_evaluation_does_not(manifest: Manifest) -> None:
    training = make(manifest)
    assert same(training[1, 0], training[1, 0])
    assert not torch.equal(training[0, 0]["lq"], training[1, 0]["lq"])
    assert same(training[0], training[0, 0])
    evaluation = make(build_manifest(manifest.roots[0], split=ALL_TEST), "test")
    assert same(evaluation[0, 0], evaluation[5, 0])


def test_evaluation_references_are_fixed_and_nested(manifest: Manifest) -> None:
    testing = build_manifest(manifest.roots[0], split=ALL_TEST)
    four, one, none = (make(testing, "test", max_references=n) for n in (4, 1, 0))
    for index in range(len(four)):
        assert torch.equal(four[index]["references"][:1], one[index]["references"])
        assert none[index]["references"].shape == (0, 3, 64, 64)
        assert torch.equal(four[index]["lq"], none[index]["lq"])


def test_evaluation_shows_many_people_first(manifest: Manifest) -> None:
    dataset = make(build_manifest(manifest.roots[0], split=ALL_TEST), "test")
    people = [photo.identity for photo in dataset.targets]
    assert len(set(people[:2])) == 2
    assert len(dataset) == len({photo.key for photo in dataset.targets})


def test_no_file_is_used_as_its_own_reference(manifest: Manifest) -> None:
    dataset = make(manifest)
    for epoch in range(5):
        for index in range(len(dataset)):
            sample = dataset[epoch, index]
            assert all(not torch.equal(reference, sample["hq"]) for reference in sample["references"])


def test_removing_a_person_leaves_the_others_alone(manifest: Manifest) -> None:
    fewer = Manifest(tuple(p for p in manifest.photos if p.identity != "anna"), roots=manifest.roots)
    assert same(make(manifest)[2, 4], make(fewer)[2, 0])


def test_global_random_states_are_untouched(manifest: Manifest) -> None:
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    make(manifest, augmentation="official")[3, 1]
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_landmarks_follow_the_crop(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = people_folder(anna=2)
    path = root / "anna/wide.png"
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(path)
    manifest = build_manifest(root, split=ALL_TRAIN)
    photo = next(p for p in manifest.photos if p.path == str(path))
    points = (POINTS_68 * 20 + [99.5, 49.5]).astype(np.float32)  # centred in 200 x 100
    points[0] = [10, 50]  # left of the centre crop
    visible = np.ones(68, bool)
    write_landmarks(Landmarks(points, visible, photo.sha256, "t"), landmark_path(tmp_path / "cache", photo.key))
    sample = make(manifest, landmarks=tmp_path / "cache")[0, manifest.photos.index(photo)]
    expected = (points[1:68] - [99.5, 49.5]) * 64 / 100 + 31.5  # same centre, scaled by 64/100
    np.testing.assert_allclose(sample["landmarks"][1:68], expected, atol=1e-4)
    assert sample["landmark_mask"][1:68].all()
    assert not sample["landmark_mask"][0]
    assert sample["landmarks"][0].tolist() == [0, 0]
    assert not sample["reference_landmark_mask"].any()


def test_fixed_pairs_and_photos_without_truth(people_folder: Callable[..., Path], tmp_path: Path) -> None:
    people_folder(tmp_path / "set/hq", anna=3)
    people_folder(tmp_path / "set/lq", bert=1, anna=3)
    (tmp_path / "set/lq/bert/0.png").rename(tmp_path / "set/lq/anna/0.png")
    dataset = make(build_manifest(tmp_path / "set"), "test")
    sample = dataset[0]
    assert torch.equal(sample["lq"], to_tensor(fit_square(read_rgb(tmp_path / "set/lq/anna/0.png"), 64)))
    assert sample["has_hq"]
    assert len(sample["references"]) == 2
    people_folder(tmp_path, flat=2)
    sample = make(build_manifest(tmp_path / "flat"), "test")[0]
    assert not sample["has_hq"]
    assert torch.equal(sample["lq"], sample["hq"])
    assert sample["references"].shape[0] == 0
    with pytest.raises(UserError, match="no photos with ground truth in split 'train'"):
        require_targets(make(build_manifest(tmp_path / "flat")), "train", "flat")


def test_a_file_that_vanishes_is_named(manifest: Manifest) -> None:
    Path(manifest.photos[2].path).unlink()
    with pytest.raises(UserError, match=r"no such image file: .*anna/2\.png"):
        make(manifest)[0, 2]


def test_official_augmentation_changes_target_and_input_only(manifest: Manifest) -> None:
    plain, jittered = make(manifest)[4, 0], make(manifest, augmentation="official")[4, 0]
    assert not torch.equal(plain["hq"], jittered["hq"])
    assert not torch.equal(plain["lq"], jittered["lq"])
    assert torch.equal(plain["references"], jittered["references"])
    assert same(jittered, make(manifest, augmentation="official")[4, 0])


def test_official_augmentation_has_its_strength(manifest: Manifest) -> None:
    image = read_rgb(manifest.photos[0].path)
    results = [augment(image, "official", seed=0, key=f"k{n}", epoch=0) for n in range(300)]
    grey = sum(bool((np.ptp(result, axis=2) <= 1).all()) for result in results)
    assert 12 <= grey <= 55  # 10 %
    ratios = np.array([result.mean() for result in results]) / image.mean()
    assert 0.6 < ratios.min() < 0.8
    assert 1.2 < ratios.max() < 1.4


def test_collate_pads_and_masks(manifest: Manifest) -> None:
    dataset = make(manifest, zero_reference_probability=0.4)
    samples = [dataset[epoch, 0] for epoch in range(12)]
    batch = collate(samples)
    counts = [len(sample["references"]) for sample in samples]
    assert min(counts) == 0
    assert batch["references"].shape == (12, max(counts), 3, 64, 64)
    assert batch["reference_mask"].sum(1).tolist() == counts
    for row, (sample, count) in enumerate(zip(samples, counts, strict=True)):
        assert torch.equal(batch["references"][row, :count], sample["references"])
        assert not batch["references"][row, count:].any()
        assert not batch["reference_landmark_mask"][row, count:].any()
        assert batch["reference_mask"][row].tolist() == [True] * count + [False] * (max(counts) - count)


def test_collate_without_any_reference(manifest: Manifest) -> None:
    batch = collate([make(manifest, max_references=0)[0, index] for index in range(3)])
    assert batch["references"].shape == (3, 0, 3, 64, 64)
    assert batch["reference_mask"].shape == (3, 0)
    assert batch["reference_landmarks"].shape == (3, 0, NUM_DENSE, 2)


def test_train_sampler_visits_everything_once_per_epoch() -> None:
    pairs = list(TrainSampler(7, batch_size=4, num_batches=7, seed=5))
    assert len(pairs) == 28
    for epoch in range(4):
        assert sorted(index for number, index in pairs if number == epoch) == list(range(7))
    assert [i for e, i in pairs if e == 0] != [i for e, i in pairs if e == 1]
    assert pairs == list(TrainSampler(7, batch_size=4, num_batches=7, seed=5))
    assert pairs != list(TrainSampler(7, batch_size=4, num_batches=7, seed=6))


def test_train_sampler_starts_anywhere() -> None:
    whole = list(TrainSampler(7, batch_size=3, num_batches=9, seed=5))
    for start in range(10):
        sampler = TrainSampler(7, batch_size=3, num_batches=9, seed=5, start_batch=start)
        assert list(sampler) == whole[3 * start :]
        assert len(sampler) == 27


def test_train_sampler_ranks_share_the_chain() -> None:
    whole = list(TrainSampler(10, batch_size=4, num_batches=5, seed=5))
    ranks = [list(TrainSampler(10, batch_size=2, num_batches=5, seed=5, rank=r, world_size=2)) for r in range(2)]
    assert [pair for step in zip(*ranks, strict=True) for pair in step] == whole
    for epoch in range(2):
        assert not set(ranks[0][5 * epoch : 5 * epoch + 5]) & set(ranks[1][5 * epoch : 5 * epoch + 5])


def test_eval_sampler_repeats_nothing() -> None:
    ranks = [list(EvalSampler(10, rank=r, world_size=4)) for r in range(4)]
    assert sorted(index for rank in ranks for index in rank) == list(range(10))
    assert [len(EvalSampler(10, rank=r, world_size=4)) for r in range(4)] == [3, 3, 2, 2]
