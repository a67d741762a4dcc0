"""Metrics by name: what they promise, what they need, what they say when it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.metrics.catalogue import CATALOGUE, COLUMNS, MetricOptions, build_metrics, resolve

PER_PICTURE = ["psnr", "ssim", "ms_ssim", "lpips_squeeze", "niqe", "id_synthetic", "regions"]
OF_SET = ["fid_synthetic"]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> MetricOptions:
    """Files of the right kind for whatever needs one; their numbers mean nothing."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), folder / "squeezenet.pth")
    np.savez(folder / "niqe.npz", mu_pris_param=np.zeros(36), cov_pris_param=np.eye(36))
    files = {"squeezenet": folder / "squeezenet.pth", "niqe": folder / "niqe.npz"}
    return MetricOptions(weights=files, points="template")


def test_no_column_belongs_to_two_metrics() -> None:
    assert len(COLUMNS) == sum(len(entry.columns) for entry in CATALOGUE.values())


def test_metrics_give_the_columns_they_promise(options: MetricOptions, make_batch) -> None:
    hq, restored = pictures(0, 2, 3, 192, 192), pictures(1, 2, 3, 192, 192)
    batch = make_batch(hq, references=pictures(2, 2, 1, 3, 192, 192))
    metrics, set_metrics = build_metrics(PER_PICTURE + OF_SET, options)
    assert list(metrics) == PER_PICTURE
    assert list(set_metrics) == OF_SET
    for name, metric in metrics.items():
        values = metric(restored, batch)
        assert list(values) == list(metric.columns) == list(CATALOGUE[name].columns)
        for column in values.values():
            assert column.numbers.shape == (2,)
            assert column.numbers.isfinite().all()
            assert column.failures == {}
    for name, metric in set_metrics.items():
        metric.update(restored, batch)
        assert list(metric.compute()) == list(metric.columns) == list(CATALOGUE[name].columns)


def test_no_number_depends_on_the_others_in_its_batch(options: MetricOptions, make_batch) -> None:
    hq, restored, references = pictures(0, 3, 3, 192, 192), pictures(1, 3, 3, 192, 192), pictures(2, 3, 1, 3, 192, 192)
    for metric in build_metrics(PER_PICTURE, options)[0].values():
        together = metric(restored, make_batch(hq, references))
        for index in range(3):
            one = slice(index, index + 1)
            alone = metric(restored[one], make_batch(hq[one], references[one]))
            for column, values in alone.items():
                torch.testing.assert_close(values.numbers[0], together[column].numbers[index], atol=1e-4, rtol=1e-5)


def test_protocols_are_texts_that_say_something(options: MetricOptions) -> None:
    metrics, set_metrics = build_metrics(PER_PICTURE + OF_SET, options)
    for metric in [*metrics.values(), *set_metrics.values()]:
        assert metric.protocol
        assert all(isinstance(value, str) and value for value in metric.protocol.values())
        json.dumps(metric.protocol)
    assert metrics["ssim"].protocol["window"] == "Gaussian, 11 px, sigma 1.5, inside the image"
    assert metrics["lpips_squeeze"].protocol["backbone"] == "SqueezeNet"
    assert "whole picture" in set_metrics["fid_synthetic"].protocol["crop"]


def test_other_weights_have_another_protocol(options: MetricOptions, tmp_path: Path) -> None:
    np.savez(tmp_path / "niqe.npz", mu_pris_param=np.ones(36), cov_pris_param=np.eye(36))
    other = MetricOptions(weights={"niqe": tmp_path / "niqe.npz"}, luma="video")
    one, two = (build_metrics(["niqe"], choice)[0]["niqe"].protocol for choice in (options, other))
    assert {key for key in one if one[key] != two[key]} == {"weights", "colour"}


def test_columns_stand_for_their_metric() -> None:
    names = ["id_arcface_ref", "psnr", "kid", "landmark_distance_eyes", "id_arcface_gt", "fid"]
    assert resolve(names) == ["id_arcface", "psnr", "fid", "landmarks"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pnsr", "psnr"), ("lpips_alexnet", "lpips_alex"), ("id_curricularface", "id_curricular"), ("DISTS", "dists")],
)
def test_an_unknown_name_gets_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"unknown metric '{name}'.*Did you mean '{meant}"):
        build_metrics([name])


def test_weights_nobody_asks_for_are_refused() -> None:
    with pytest.raises(UserError, match=r"no metric has weights called 'squeeze'.*Did you mean 'squeezenet'"):
        MetricOptions(weights={"squeeze": "x.pth"})


@pytest.mark.usefixtures("no_weights_at_hand")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lpips_alex", r"alexnet-owt-7be5be79.pth .*244,408,911 bytes.*no network.*LIT_RESTORE_WEIGHTS"),
        ("lpips_vgg", r"vgg16-397923af.pth .*553,433,881 bytes, sha256 397923af.*https://download"),
        ("lpips_squeeze", r"squeezenet1_1-b8a52dc0.pth.*or instead squeezenet1_1_fp16.safetensors"),
        ("dists", r"vgg16-397923af.pth"),
        ("niqe", r"niqe_pris_params.npz .*11,850 bytes.*github.com/XPixelGroup/BasicSR"),
        ("id_curricular", r"CurricularFace_Backbone.pth"),
        ("id_arcface", r"model_ir_se50.pth .*175,367,323 bytes"),
        ("id_adaface", r"adaface_ir101_webface12m.ckpt"),
        ("id_reid0095", r"face_reid_0095.safetensors"),
        ("fid_reid0095", r"face_reid_0095.safetensors"),
        ("landmarks", r"mobilenet0.25_Final.pth"),
        ("fid_ffhq", r"statistics of FFHQ.*mu \(2048\) and sigma"),
    ],
)
def test_missing_weights_are_named_with_place_and_source(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as error:
        build_metrics([name], MetricOptions(points="template"))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("no_weights_at_hand")
@pytest.mark.parametrize("weights", ["alexnet", "vgg16", "squeezenet", "niqe"])
def test_a_named_file_that_is_not_there_is_an_error(weights: str) -> None:
    name = {"alexnet": "lpips_alex", "vgg16": "lpips_vgg", "squeezenet": "lpips_squeeze", "niqe": "niqe"}[weights]
    with pytest.raises(UserError, match=r"no such weight file: nowhere/x.pth"):
        build_metrics([name], MetricOptions(weights={weights: "nowhere/x.pth"}))


@pytest.mark.usefixtures("no_weights_at_hand")
def test_a_damaged_copy_in_a_searched_folder_is_refused() -> None:
    Path("weights").mkdir()
    Path("weights/niqe_pris_params.npz").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"damaged \(cut short\): weights/niqe_pris_params.npz"):
        build_metrics(["niqe"])
