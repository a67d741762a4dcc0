from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import NOISE, disturb, pictures, tiny_generator
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.adaptation import UNET_LORA_TARGETS, Adaptation
from lit_restore.models.artifact import save_generator
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.inference_form import best_precision, inference_form
from lit_restore.models.random_base import build_unet
from lit_restore.models.reference_attention import ReferenceFeatures

LQ, REFERENCES = pictures(0, 2, 3, 64, 64), pictures(1, 2, 3, 3, 64, 64)


def a_generator(base: Path) -> OneStepGenerator:
    """With everything folding has to treat: LoRA and layers trained in full, in both networks."""
    return tiny_generator(base, full_unet_layers=["conv_in"])


@pytest.fixture(scope="module")
def plain(tiny_base: Path) -> OneStepGenerator:
    return a_generator(tiny_base).requires_grad_(False)


def features_of(generator: OneStepGenerator) -> ReferenceFeatures:
    features = generator.reference_features(REFERENCES, draw=NOISE)
    assert features is not None
    return features


def distance(one: ReferenceFeatures, other: ReferenceFeatures) -> float:
    pairs = zip(one.keys + one.values, other.keys + other.values, strict=True)
    return max(float((a.float() - b.float()).abs().max()) for a, b in pairs)


@torch.no_grad()
def test_folding_adds_the_product_of_the_lora_matrices() -> None:
    unet = build_unet("tiny")
    adaptation = Adaptation(unet, rank=4, alpha=2, targets=UNET_LORA_TARGETS, name="default")
    disturb(adaptation)
    state = adaptation.state_dict()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    adaptation.fold(keep_base=True)
    folded = unet.state_dict()
    assert not any("lora" in name or "base_layer" in name for name in folded)
    linear, conv = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
    a, b = (state[f"{linear}.lora_{x}.default.weight"] for x in "AB")
    torch.testing.assert_close(folded[f"{linear}.weight"], before[f"{linear}.base_layer.weight"] + 2 / 4 * b @ a)
    a, b = (state[f"{conv}.lora_{x}.default.weight"] for x in "AB")
    product = torch.einsum("or,rihw->oihw", b[:, :, 0, 0], a)
    torch.testing.assert_close(folded[f"{conv}.weight"], before[f"{conv}.base_layer.weight"] + 2 / 4 * product)


@torch.no_grad()
def test_off_gives_the_very_base_after_folding_as_before(tiny_base: Path) -> None:
    generator = a_generator(tiny_base)
    before = {part: a.untouched_state() for part, a in generator.adaptations.items()}
    for part, adaptation in generator.adaptations.items():
        adaptation.fold(keep_base=True)
        assert all(torch.equal(tensor, before[part][name]) for name, tensor in adaptation.untouched_state().items())


@torch.no_grad()
def test_in_float32_it_restores_as_the_plain_generator_does(tiny_base: Path, plain: OneStepGenerator) -> None:
    """Tolerance: outputs are in [-1, 1]; 2e-5 is a four-hundredth of an 8-bit step."""
    folded = inference_form(a_generator(tiny_base))
    torch.testing.assert_close(folded(LQ, draw=NOISE), plain(LQ, draw=NOISE), atol=2e-5, rtol=0)
    expected = plain(LQ, REFERENCES, draw=NOISE)
    torch.testing.assert_close(folded(LQ, REFERENCES, draw=NOISE), expected, atol=2e-5, rtol=0)
    assert (expected - plain(LQ, draw=NOISE)).abs().max() > 0.05  # so the references count here
    assert distance(features_of(folded), features_of(plain)) < 1e-4  # values reach 10
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@torch.no_grad()
def test_a_reference_pass_leaves_no_trace_and_results_repeat(tiny_base: Path) -> None:
    folded = inference_form(a_generator(tiny_base))
    first = folded(LQ, draw=NOISE)
    features = features_of(folded)
    assert torch.equal(folded(LQ, draw=NOISE), first)
    assert torch.equal(folded(LQ, features, draw=NOISE), folded(LQ, REFERENCES, draw=NOISE))


@torch.no_grad()
def test_without_the_base_only_ready_features_are_taken(tiny_base: Path, plain: OneStepGenerator) -> None:
    small = inference_form(a_generator(tiny_base), keep_base=False)
    features = features_of(plain)
    torch.testing.assert_close(small(LQ, features, draw=NOISE), plain(LQ, features, draw=NOISE), atol=2e-5, rtol=0)
    with pytest.raises(RuntimeError, match="only cached references"):
        small(LQ, REFERENCES, draw=NOISE)


@torch.no_grad()
@pytest.mark.parametrize(("precision", "within"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_half_precision_throughout(tiny_base: Path, plain: OneStepGenerator, precision: str, within: float) -> None:
    """Rounding to 8 and 11 bits in every layer of a random network; also of the layers for the references."""
    half = inference_form(a_generator(tiny_base), precision=precision)
    dtype = getattr(torch, precision)
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    assert {key.dtype for key in features_of(half).keys} == {dtype}
    difference = half(LQ, REFERENCES, draw=NOISE).float() - plain(LQ, REFERENCES, draw=NOISE)
    assert 0 < difference.abs().max() < within


@torch.no_grad()
def test_the_vae_in_slices_and_tiles(tiny_base: Path, plain: OneStepGenerator) -> None:
    expected = plain(LQ, draw=NOISE)
    sliced = inference_form(a_generator(tiny_base), vae_slicing=True)
    torch.testing.assert_close(sliced(LQ, draw=NOISE), expected, atol=2e-5, rtol=0)
    latent = sliced.encode(LQ, NOISE, "", False)
    each = [sliced.encode(LQ[i : i + 1], NOISE, "", False) for i in range(2)]
    assert torch.equal(latent, torch.cat(each))  # exactly what each face gives alone
    assert torch.equal(sliced.decode(latent), torch.cat([sliced.decode(one) for one in each]))
    tiled = inference_form(a_generator(tiny_base), vae_tiling=True)
    sides = []
    tiled.vae.decoder.conv_in.register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[-1]))
    assert tiled(LQ, draw=NOISE).shape == expected.shape
    assert len(sides) > 1
    assert max(sides) == 4  # half of 8 cells


def test_where_nothing_can_be_compiled_that_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(_: object) -> None:
        raise RuntimeError("No working C++ compiler found in\ntorch._inductor.config.cpp.cxx: (None, 'g++').")

    monkeypatch.setattr(torch, "compile", no_compiler)
    with pytest.raises(UserError) as caught:
        inference_form(None, compile=True)
    said = str(caught.value)
    assert said.startswith("the networks cannot be compiled on this machine: cpu; found RuntimeError: No working C++")
    assert said.endswith(
        "Leave --compile out, or install what torch.compile needs: a C++ compiler, for a GPU also Triton."
    )
    assert "\n" not in said


def test_what_is_folded_cannot_be_saved_by_mistake(tiny_base: Path, tmp_path: Path) -> None:
    folded = inference_form(a_generator(tiny_base))
    with pytest.raises(RuntimeError, match="save before folding"):
        save_generator(folded, tmp_path / "model", iteration=0)
    assert folded.weights_fingerprint == a_generator(tiny_base).weights_fingerprint
    assert folded.weights_fingerprint != tiny_generator(tiny_base, trained=False).weights_fingerprint


def test_without_an_accelerator_float32_is_best() -> None:
    assert best_precision("cpu") == torch.float32


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled(tiny_base: Path, plain: OneStepGenerator, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """``eager`` traces and guards as ``inductor`` does but generates no code."""
    ordinary = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: ordinary(module, backend=backend))
    compiled = inference_form(a_generator(tiny_base), compile=True)
    features = features_of(compiled)
    assert distance(features, features_of(plain)) < 1e-4
    for _ in range(2):
        expected = plain(LQ, REFERENCES, draw=NOISE)
        torch.testing.assert_close(compiled(LQ, features, draw=NOISE), expected, atol=2e-5, rtol=0)
        torch.testing.assert_close(compiled(LQ, draw=NOISE), plain(LQ, draw=NOISE), atol=2e-5, rtol=0)
