from __future__ import annotations

import os
from pathlib import Path
from urllib.error import URLError

import lpips
import pytest
import torch
import torchvision
from helpers import pictures
from safetensors.torch import save_file

from lit_restore.errors import UserError
from lit_restore.losses.composite import LossConfig, RestorationLoss
from lit_restore.losses.perceptual import Lpips


def real_weights() -> Path | None:
    """ImageNet SqueezeNet in the folder named by LIT_RESTORE_WEIGHTS, if there is one."""
    folder = os.environ.get("LIT_RESTORE_WEIGHTS")
    return next(iter(sorted(Path(folder).rglob("squeezenet1_1*.safetensors"))), None) if folder else None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the right names and sizes; the numbers are random unless real ones are at hand."""
    if (path := real_weights()) is not None:
        return path
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def network(weights: Path) -> Lpips:
    return Lpips("squeeze", str(weights))


def test_equal_images_have_no_distance_and_others_have_one(network: Lpips) -> None:
    images = pictures(0, 3, 3, 64, 64)
    assert torch.equal(network(images, images), torch.zeros(3))
    distance = network(images, pictures(1, 3, 3, 64, 64))
    assert distance.shape == (3,)
    assert (distance > 1e-4).all()
    torch.testing.assert_close(network(pictures(1, 3, 3, 64, 64), images), distance)


def test_equals_the_package_s_own_computation(network: Lpips) -> None:
    own = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval()
    own.load_state_dict(network.network.state_dict())
    first, second = pictures(0, 2, 3, 64, 64), pictures(1, 2, 3, 64, 64)
    torch.testing.assert_close(network(first, second), own(first, second).flatten(), atol=1e-5, rtol=1e-4)


def test_backbone_comes_from_the_file_and_heads_from_the_package(network: Lpips, weights: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(weights)
    own = network.network.state_dict()
    assert torch.equal(own["net.slice1.0.weight"], state["features.0.weight"])
    assert torch.equal(own["net.slice7.12.expand3x3.bias"], state["features.12.expand3x3.bias"])
    heads = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).state_dict()
    assert torch.equal(own["lin0.model.1.weight"], heads["lin0.model.1.weight"])


def test_a_pth_file_is_the_same(network: Lpips, weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(weights), tmp_path / "squeezenet1_1-b8a52dc0.pth")
    first, second = pictures(0, 1, 3, 64, 64), pictures(1, 1, 3, 64, 64)
    assert torch.equal(
        Lpips("squeeze", str(tmp_path / "squeezenet1_1-b8a52dc0.pth"))(first, second), network(first, second)
    )


def test_stays_frozen_and_in_eval_mode(network: Lpips) -> None:
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


def test_gradient_is_finite_where_all_features_are_zero(tmp_path: Path) -> None:
    """Biases far below zero silence every unit of the first layer."""
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    state["features.0.bias"].fill_(-100.0)
    for name in state:
        if name.endswith("bias") and name != "features.0.bias":
            state[name].fill_(-1.0)
    save_file(state, tmp_path / "dead.safetensors")
    network = Lpips("squeeze", str(tmp_path / "dead.safetensors"))
    image = pictures(0, 1, 3, 64, 64)
    features = network.network.net(network.network.scaling_layer(image))
    assert not any(feature.any() for feature in features)
    image.requires_grad_()
    network(image, pictures(1, 1, 3, 64, 64)).sum().backward()
    assert torch.isfinite(image.grad).all()


def test_gradient_of_equal_images_is_zero(network: Lpips) -> None:
    image = pictures(0, 1, 3, 64, 64)
    output = image.clone().requires_grad_()
    network(output, image).sum().backward()
    assert torch.isfinite(output.grad).all()
    assert output.grad.abs().max() < 1e-6


def test_as_a_loss_term(weights: Path, network: Lpips) -> None:
    loss = RestorationLoss(LossConfig(ms_ssim=0.0, lpips=5.0, lpips_backbone="squeeze", lpips_weights=str(weights)))
    first, second = pictures(0, 2, 3, 64, 64), pictures(1, 2, 3, 64, 64)
    total, terms = loss(first, second)
    assert terms["lpips"].item() == pytest.approx(network(first, second).mean().item())
    assert total.item() == pytest.approx(5 * terms["lpips"].item())


def test_missing_weights_say_which_file_is_needed_and_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"no such weight file.*none.pth.*vgg16-397923af.pth"):
        Lpips("vgg", str(tmp_path / "none.pth"))

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    for variable in ("TORCH_HOME", "XDG_CACHE_HOME", "LIT_RESTORE_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    expected = (
        r"alexnet-owt-7be5be79.pth.*244,408,911 bytes, sha256 7be5be791159.*https://.*not there in.*no network.*Put"
    )
    with pytest.raises(UserError, match=expected):
        Lpips("alex")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="weight file is damaged") as error:
        Lpips("squeeze", str(path))
    assert "\n" not in str(error.value)


def test_another_network_s_weights_are_refused(tmp_path: Path) -> None:
    state = torchvision.models.squeezenet1_0(weights=None).state_dict()
    save_file(state, tmp_path / "squeezenet1_0.safetensors")
    with pytest.raises(UserError, match="not the weights of this LPIPS backbone") as error:
        Lpips("squeeze", str(tmp_path / "squeezenet1_0.safetensors"))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(
    real_weights() is None, reason="LIT_RESTORE_WEIGHTS names no folder with squeezenet1_1*.safetensors"
)
def test_with_real_weights_blur_and_noise_grow_with_their_strength(network: Lpips) -> None:
    coarse = pictures(0, 1, 3, 16, 16)
    image = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(-1, 1)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    distances = [network(image, (image + s * noise).clamp(-1, 1)).item() for s in (0.0, 0.05, 0.1, 0.2, 0.4)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert 0.02 < distances[-1] < 1.5
