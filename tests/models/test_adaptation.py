from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import disturb, normal
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.base import DiffusionBase, load_base

FULL = ("conv_in", "down_blocks.1.resnets.0.conv1")


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> DiffusionBase:
    return load_base(str(tiny_base))


def adapted(base: DiffusionBase, rank: int = 4, full_layers: tuple[str, ...] = FULL) -> Adaptation:
    return Adaptation(
        copy.deepcopy(base.unet), rank=rank, alpha=2, targets=UNET_LORA_TARGETS, name="default", full_layers=full_layers
    )


def run(unet: nn.Module, base: DiffusionBase) -> torch.Tensor:
    return unet(normal(0, 1, 4, 8, 8), torch.tensor([249]), base.prompt_embedding).sample


@torch.no_grad()
def test_lora_at_its_start_changes_nothing(base: DiffusionBase) -> None:
    assert torch.equal(run(adapted(base).network, base), run(base.unet, base))


@torch.no_grad()
def test_switched_off_a_trained_network_is_bit_equal_to_the_untouched_base(base: DiffusionBase) -> None:
    adaptation = adapted(base)
    disturb(adaptation)
    untouched, tuned = run(base.unet, base), run(adaptation.network, base)
    assert (tuned - untouched).abs().max() > 0.1
    with adaptation.off():
        assert torch.equal(run(adaptation.network, base), untouched)
    assert torch.equal(run(adaptation.network, base), tuned)


@torch.no_grad()
def test_every_trained_tensor_matters_when_on_and_none_when_off(base: DiffusionBase) -> None:
    adaptation = adapted(base)
    disturb(adaptation)
    for part in ("conv_in.", FULL[1], "lora"):
        before = run(adaptation.network, base)
        for name, tensor in adaptation.state_dict().items():
            if part in name:
                tensor += 0.1
        assert not torch.equal(run(adaptation.network, base), before)
    with adaptation.off():
        assert torch.equal(run(adaptation.network, base), run(base.unet, base))


def test_off_leaves_requires_grad_alone_and_comes_back_after_an_error(base: DiffusionBase) -> None:
    adaptation = adapted(base)
    disturb(adaptation)

    def trained() -> set[str]:
        return {name for name, p in adaptation.network.named_parameters() if p.requires_grad}

    with torch.no_grad():
        tuned = run(adaptation.network, base)
    assert trained() == set(adaptation.names)
    with pytest.raises(ZeroDivisionError), adaptation.off():  # noqa: PT012 (what is inside is the point)
        # The layers trained in full are out of the network; what remains is as it was.
        assert trained() == {name for name in adaptation.names if not name.startswith(FULL)}
        raise ZeroDivisionError
    assert trained() == set(adaptation.names)
    with torch.no_grad():
        assert torch.equal(run(adaptation.network, base), tuned)


def test_lora_is_scaled_by_alpha_over_rank() -> None:
    network = UNet2DConditionModel(
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        layers_per_block=1,
    )
    weight = network.down_blocks[0].resnets[0].conv1.weight.detach().clone()
    Adaptation(network.requires_grad_(False), rank=5, alpha=2, targets=["conv1"], name="default")
    layer = network.down_blocks[0].resnets[0].conv1
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.copy_(normal(0, *b.shape))
        x = normal(1, 1, 8, 6, 6)
        product = torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)  # B A as one kernel
        expected = nn.functional.conv2d(x, weight + 2 / 5 * product, layer.base_layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_names_are_exactly_lora_on_the_listed_layers_and_the_full_layers(base: DiffusionBase) -> None:
    adaptation = adapted(base)
    layers = {
        name
        for name, module in base.unet.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
        and any(name == target or name.endswith(f".{target}") for target in UNET_LORA_TARGETS)
        and name not in FULL
    }
    lora = {f"{layer}.lora_{side}.default.weight" for layer in layers for side in "AB"}
    assert set(adaptation.names) == lora | {f"{layer}.{kind}" for layer in FULL for kind in ("weight", "bias")}
    assert not any(name.startswith(("time_embedding", "conv_norm_out")) for name in adaptation.names)


def test_vae_adapter_covers_both_ends_but_not_the_quantisation_convolutions(base: DiffusionBase) -> None:
    vae = copy.deepcopy(base.vae)
    names = Adaptation(vae, rank=4, alpha=2, targets=VAE_LORA_TARGETS, name="vae_skip").names
    for layer in ("encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out"):
        assert f"{layer}.lora_A.vae_skip.weight" in names
    assert not any("quant_conv" in name for name in names)


def test_state_survives_a_round_trip_and_holds_nothing_frozen(base: DiffusionBase) -> None:
    source, target = adapted(base), adapted(base)
    disturb(source)
    target.load_state_dict({name: tensor.clone() for name, tensor in source.state_dict().items()})
    assert set(source.state_dict()) == set(source.names)
    with torch.no_grad():
        assert torch.equal(run(source.network, base), run(target.network, base))


def test_state_of_another_model_is_refused_and_loads_nothing(base: DiffusionBase) -> None:
    adaptation, other = adapted(base), adapted(base)
    disturb(other)
    before = {name: tensor.clone() for name, tensor in adaptation.state_dict().items()}
    state = other.state_dict()
    name = adaptation.names[-1]
    for wrong, message in (
        ({k: v for k, v in state.items() if k != name}, f"here.*expected {len(state)} tensors, among them {name}"),
        (state | {"extra.weight": torch.zeros(1)}, "among them extra.weight"),
        (state | {name: state[name][:1]}, f"another shape: here: {name}"),
    ):
        with pytest.raises(UserError, match=message):
            adaptation.load_state_dict(wrong, where="here")
        assert all(torch.equal(tensor, before[key]) for key, tensor in adaptation.state_dict().items())


def test_another_rank_is_refused(base: DiffusionBase) -> None:
    with pytest.raises(UserError, match="LoRA rank"):
        adapted(base).load_state_dict(adapted(base, rank=8).state_dict())


def test_rank_zero_trains_only_the_full_layers(base: DiffusionBase) -> None:
    adaptation = adapted(base, rank=0)
    assert set(adaptation.names) == {f"{layer}.{kind}" for layer in FULL for kind in ("weight", "bias")}


def test_a_misspelt_full_layer_is_refused_with_the_nearest_name(base: DiffusionBase) -> None:
    with pytest.raises(UserError, match=r"conv_im.*Did you mean 'conv_in'"):
        adapted(base, full_layers=("conv_im",))


def test_a_lora_of_scale_zero_is_refused(base: DiffusionBase) -> None:
    with pytest.raises(UserError, match="LoRA"):
        Adaptation(copy.deepcopy(base.unet), rank=1, alpha=0, targets=UNET_LORA_TARGETS, name="default")
