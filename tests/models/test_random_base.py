"""Sizes of the full base, counted without allocating it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin
from helpers import pictures
from transformers import PreTrainedModel

from lit_restore.losses.perceptual import Lpips
from lit_restore.models import random_base
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.random_base import write_random_base, write_random_dinov2, write_random_judge
from lit_restore.models.recognition import load_recognizer
from lit_restore.models.reference_attention import SharingOptions, share_decoder_attention


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModelMixin]:
    built: dict[str, ModelMixin] = {}
    monkeypatch.setattr(ModelMixin, "save_pretrained", lambda self, folder: built.update({folder.name: self}))
    monkeypatch.setattr(random_base, "write_constant_parts", lambda *_: None)
    with torch.device("meta"):
        write_random_base(tmp_path, "sd-turbo")
    return built


def count(network: torch.nn.Module, names: tuple[str, ...] | None = None) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if names is None or name in names)


def test_sd_turbo_has_its_published_size_and_layers(networks: dict[str, ModelMixin]) -> None:
    unet, vae = networks["unet"], networks["vae"]
    assert isinstance(unet, UNet2DConditionModel)
    assert isinstance(vae, AutoencoderKL)
    assert (count(unet), count(vae)) == (865_910_724, 83_653_863)
    shared = share_decoder_attention(unet, SharingOptions())
    layers = [unet.get_submodule(name) for name in shared]
    assert [layer.heads for layer in layers] == [20] * 3 + [10] * 3 + [5] * 3
    assert [layer.to_k.out_features for layer in layers] == [1280] * 3 + [640] * 3 + [320] * 3


def test_official_lora_has_its_published_size(networks: dict[str, ModelMixin]) -> None:
    unet, vae = networks["unet"].requires_grad_(False), networks["vae"].requires_grad_(False)
    adaptation = Adaptation(unet, rank=32, alpha=16, targets=UNET_LORA_TARGETS, name="default", full_layers=["conv_in"])
    lora = tuple(name for name in adaptation.names if "lora" in name)
    assert (len(lora), count(unet, lora)) == (514, 32_434_304)
    assert count(unet, adaptation.names) - count(unet, lora) == 11_840  # conv_in
    adaptation = Adaptation(vae, rank=32, alpha=16, targets=VAE_LORA_TARGETS, name="vae_skip")
    assert (len(adaptation.names), count(vae, adaptation.names)) == (140, 7_055_680)


def test_dinov2_large_has_its_published_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[PreTrainedModel] = []
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", lambda self, folder: built.append(self))
    with torch.device("meta"):
        write_random_dinov2(tmp_path, "dinov2-large")
    assert count(built[0]) == 304_368_640
    assert built[0].embeddings.position_embeddings.shape == (1, 1370, 1024)
    assert len(built[0].encoder.layer) == 24


def test_random_judges_take_the_places_of_the_real_ones(tmp_path: Path) -> None:
    lpips = Lpips("vgg", str(write_random_judge(tmp_path / "weights" / "vgg", "vgg16")))
    one, other = pictures(0, 1, 3, 32, 32), pictures(1, 1, 3, 32, 32)
    assert lpips(one, one).item() == 0
    assert lpips(one, other).item() > 0
    assert count(lpips.network.net) == 14_714_688  # VGG16's thirteen convolutions
    arcface = load_recognizer(str(write_random_judge(tmp_path / "arcface", "arcface")))
    assert arcface.name == "ArcFace IR-SE50"
    torch.testing.assert_close(arcface(pictures(2, 2, 3, 112, 112)).norm(dim=1), torch.ones(2))
