"""Inception and pyiqa's networks, where their packages are installed; else what is said instead."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers import pictures

from lit_restore.errors import UserError
from lit_restore.metrics.catalogue import MetricOptions, build_metrics

has_fidelity = importlib.util.find_spec("torch_fidelity") is not None
has_pyiqa = importlib.util.find_spec("pyiqa") is not None
needs_pyiqa = pytest.mark.skipif(not has_pyiqa, reason="pyiqa is not installed")


@pytest.mark.skipif(has_fidelity, reason="torch-fidelity is installed")
@pytest.mark.parametrize("name", ["fid", "kid"])
def test_fid_says_which_package_it_needs(name: str) -> None:
    with pytest.raises(UserError, match=r"torch-fidelity.*lit_restore\[fid\].*fid_synthetic"):
        build_metrics([name])


@pytest.mark.skipif(has_pyiqa, reason="pyiqa is installed")
@pytest.mark.parametrize("name", ["musiq", "clipiqa", "maniqa"])
def test_networks_of_pyiqa_say_which_package_they_need(name: str) -> None:
    with pytest.raises(UserError, match=r"needs the package pyiqa.*lit_restore\[iqa\].*non-commercial"):
        build_metrics([name])


@needs_pyiqa
@pytest.mark.usefixtures("no_weights_at_hand")
@pytest.mark.parametrize(
    ("name", "file"), [("musiq", "musiq_koniq_ckpt"), ("clipiqa", "RN50.pt"), ("maniqa", "ckpt_koniq10k.pt")]
)
def test_networks_of_pyiqa_say_which_file_they_need(name: str, file: str) -> None:
    with pytest.raises(UserError, match=rf"{file}.*no network"):
        build_metrics([name])


@needs_pyiqa
def test_a_network_from_a_file_is_the_package_s_own(tmp_path: Path, make_batch) -> None:
    import pyiqa

    torch.manual_seed(0)
    own = pyiqa.create_metric("musiq", device="cpu", pretrained=False)
    path = tmp_path / "musiq.pth"
    torch.save({f"module.{name}": value for name, value in own.net.state_dict().items()}, path)
    metric = build_metrics(["musiq"], MetricOptions(weights={"musiq": path}))[0]["musiq"]
    images = pictures(0, 2, 3, 224, 224)
    values = metric(images, make_batch(images))["musiq"]
    torch.testing.assert_close(values.numbers, own((images + 1) / 2).double().flatten(), atol=1e-5, rtol=1e-5)
    assert metric.protocol["library"].startswith("pyiqa ")


@needs_pyiqa
@pytest.mark.parametrize("name", ["musiq", "clipiqa"])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"broken")
    weights = {"musiq": "musiq", "clipiqa": "clip"}[name]
    for file in ("other.pth", "broken.pth"):
        with pytest.raises(UserError, match=file) as error:
            build_metrics([name], MetricOptions(weights={weights: tmp_path / file}))
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not has_fidelity, reason="torch-fidelity is not installed")
def test_inception_from_a_file_sees_eight_bits(tmp_path: Path, make_batch, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import FrechetInceptionDistance

    torch.manual_seed(0)
    with monkeypatch.context() as patch:  # a network of random weights: reads none
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(torch, "load", lambda *_, **__: None)
        random = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], "none")
    path = tmp_path / "inception.pth"
    torch.save(random.state_dict(), path)
    metric = build_metrics(["kid"], MetricOptions(weights={"inception": path}))[1]["fid"]
    hq, restored = pictures(0, 3, 3, 64, 64), pictures(1, 3, 3, 64, 64) * 0.5
    metric.update(restored, make_batch(hq))
    own = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(path), antialias=False)
    own.set_dtype(torch.float64)
    for images, real in ((hq, True), (restored, False)):
        own.update(((images + 1) * 127.5).round().byte(), real=real)
    assert metric.compute()["fid"] == pytest.approx(own.compute().item(), rel=1e-3)
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(UserError, match="damaged or not a weight file"):
        build_metrics(["fid"], MetricOptions(weights={"inception": tmp_path / "broken.pth"}))
