"""DISTS against its formula, on VGG16 with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import pictures
from torchvision.models.vgg import cfgs, make_layers

from lit_restore.errors import UserError
from lit_restore.metrics.dists import dists_metric, load_dists

STAGES = (3, 8, 15, 22, 29)  # the last ReLU of each
POOLS = (4, 9, 16, 23)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convolutions of VGG16 under torchvision's names."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = make_layers(cfgs["D"], batch_norm=False)
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> torch.nn.Module:
    return load_dists(weights)


def stages(images: torch.Tensor, state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The picture and the five stages of VGG16, pooled by the root of a Hann-weighted mean of squares."""
    hann = torch.from_numpy(np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]) / 4).float()
    x = (images - torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        -1, 1, 1
    )
    found = [images]
    for index in range(30):
        if index in POOLS:
            channels = x.shape[1]
            x = F.conv2d(x**2, hann.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels).add(1e-12).sqrt()
        elif f"features.{index}.weight" in state:
            x = F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        else:
            x = F.relu(x)
        if index in STAGES:
            found.append(x)
    return found


def test_equals_the_formula(network: torch.nn.Module, weights: Path, make_batch) -> None:
    hq = pictures(0, 2, 3, 48, 40)
    restored = (hq + 0.5 * pictures(1, 2, 3, 48, 40)).clamp(-1, 1)
    state = torch.load(weights, weights_only=True)
    alpha, beta = network.alpha.flatten(), network.beta.flatten()
    assert len(alpha) == len(beta) == 3 + 64 + 128 + 256 + 512 + 512
    similarity = torch.zeros(2)
    start = 0
    for x, y in zip(stages((restored + 1) / 2, state), stages((hq + 1) / 2, state), strict=True):
        part = slice(start, start := start + x.shape[1])
        x, y = x.flatten(2), y.flatten(2)
        mean = (2 * x.mean(2) * y.mean(2) + 1e-6) / (x.mean(2) ** 2 + y.mean(2) ** 2 + 1e-6)
        covariance = ((x - x.mean(2, keepdim=True)) * (y - y.mean(2, keepdim=True))).mean(2)
        variances = x.var(2, correction=0) + y.var(2, correction=0)
        structure = (2 * covariance + 1e-6) / (variances + 1e-6)
        similarity += (alpha[part] * mean + beta[part] * structure).sum(1)
    expected = 1 - similarity / (alpha.sum() + beta.sum())
    values = dists_metric(weights)(restored, make_batch(hq))["dists"].numbers
    torch.testing.assert_close(values, expected.double(), atol=2e-5, rtol=0)
    assert (values > 1e-3).all()


def test_equal_pictures_are_perfect_and_one_is_no_less_a_batch(weights: Path, make_batch) -> None:
    hq = pictures(0, 1, 3, 48, 48)
    values = dists_metric(weights)(hq, make_batch(hq))["dists"].numbers
    assert values.tolist() == pytest.approx([0], abs=1e-6)


def test_is_frozen_and_leaves_torchmetrics_as_it_was(network: torch.nn.Module) -> None:
    from torchmetrics.functional.image import dists
    from torchvision.models import vgg16

    assert dists.vgg16 is vgg16
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_another_network_s_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "alexnet.pth")
    with pytest.raises(UserError, match="not the weights of VGG16") as error:
        load_dists(tmp_path / "alexnet.pth")
    assert "\n" not in str(error.value)
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(UserError, match="damaged or not a weight file"):
        load_dists(tmp_path / "broken.pth")
