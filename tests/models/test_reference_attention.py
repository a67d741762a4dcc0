"""Shared attention against an independent computation in float64 that writes out every probability."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention
from helpers import NOISE, normal, pictures, tiny_generator

from lit_restore.models.base import load_base
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.reference_attention import (
    FeatureRecorder,
    ReferenceFeatures,
    ReferencePassComplete,
    SharedAttentionProcessor,
    SharingOptions,
    adain,
    share_decoder_attention,
)

B, R, N, C, HEADS = 3, 2, 9, 8, 2
MASK = torch.tensor([[True, True], [True, False], [False, False]])


def attention(use_adain: bool, keep_own: bool) -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Attention(query_dim=C, heads=HEADS, dim_head=C // HEADS)
    layer.set_processor(SharedAttentionProcessor(0, SharingOptions(use_adain, keep_own)))
    return layer.requires_grad_(False)


def features(mask: torch.Tensor | None, padding: float | None = None) -> ReferenceFeatures:
    keys, values = normal(1, B, R, N, C), 3 + 2 * normal(2, B, R, N, C)
    if padding is not None:
        keys[~mask] = padding * normal(3, int((~mask).sum()), N, C)
        values[~mask] = padding * normal(4, int((~mask).sum()), N, C)
    return ReferenceFeatures([keys], [values], mask)


def written_out(
    layer: Attention, hidden: torch.Tensor, reference: ReferenceFeatures, use_adain: bool, keep_own: bool
) -> torch.Tensor:
    """The definition, sample by sample and head by head, in float64; masked references are left out."""
    weights = {name: value.double() for name, value in layer.state_dict().items()}
    outputs = []
    for index, tokens in enumerate(hidden.double()):
        query, key, value = (tokens @ weights[f"to_{name}.weight"].T for name in "qkv")
        real = torch.arange(R) if reference.mask is None else reference.mask[index].nonzero().flatten()
        keys = [key] if keep_own or len(real) == 0 else []
        values = [value] if keep_own or len(real) == 0 else []
        for r in real.tolist():
            keys.append(reference.keys[0][index, r].double())
            shown = reference.values[0][index, r].double()
            if use_adain:
                centred = (shown - shown.mean(0)) / (shown.var(0).sqrt() + 1e-5)
                shown = centred * (value.var(0).sqrt() + 1e-5) + value.mean(0)
            values.append(shown)
        keys, values = torch.cat(keys), torch.cat(values)
        width = C // HEADS
        heads = []
        for h in range(HEADS):
            part = slice(h * width, (h + 1) * width)
            probabilities = torch.softmax(query[:, part] @ keys[:, part].T / width**0.5, dim=1)
            heads.append(probabilities @ values[:, part])
        outputs.append(torch.cat(heads, 1) @ weights["to_out.0.weight"].T + weights["to_out.0.bias"])
    return torch.stack(outputs)


def test_adain_gives_the_style_s_mean_and_deviation_per_channel() -> None:
    values, style = 5 + 3 * normal(0, B, R, N, C), -1 + 0.5 * normal(1, B, N, C)
    result = adain(values, style)
    for r in range(R):
        torch.testing.assert_close(result[:, r].mean(1), style.mean(1), atol=1e-5, rtol=0)
        torch.testing.assert_close(result[:, r].std(1), style.std(1), atol=1e-5, rtol=0)


def test_adain_keeps_the_pattern_and_drops_scale_and_shift() -> None:
    values, style = normal(0, B, R, N, C), normal(1, B, N, C)
    torch.testing.assert_close(adain(7 * values - 4, style), adain(values, style), atol=1e-4, rtol=0)
    constant = torch.full_like(values, 3.0)  # nothing but a mean: becomes the style's mean
    torch.testing.assert_close(
        adain(constant, style), style.mean(1)[:, None, None].expand_as(values), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(adain(style[:, None], style), style[:, None], atol=1e-5, rtol=0)


@pytest.mark.parametrize("keep_own", [False, True])
@pytest.mark.parametrize("use_adain", [False, True])
@pytest.mark.parametrize("mask", [None, MASK, MASK[:2].repeat(2, 1)[:B]], ids=["no mask", "mixed", "no lonely sample"])
def test_shared_attention_equals_the_written_out_definition(
    use_adain: bool, keep_own: bool, mask: torch.Tensor | None
) -> None:
    layer, hidden, reference = attention(use_adain, keep_own), normal(5, B, N, C), features(mask)
    expected = written_out(layer, hidden, reference, use_adain, keep_own)
    torch.testing.assert_close(layer(hidden, reference=reference).double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("use_adain", [False, True])
def test_values_of_padding_have_no_influence(use_adain: bool) -> None:
    layer, hidden = attention(use_adain, keep_own=False), normal(5, B, N, C)
    outputs = [layer(hidden, reference=features(MASK, padding)) for padding in (0.0, 1.0, 1e4)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs[0], outputs[2], atol=1e-6, rtol=0)


def test_a_sample_without_references_is_ordinary_self_attention_beside_others_with_some() -> None:
    layer, hidden = attention(use_adain=True, keep_own=False), normal(5, B, N, C)
    alone = layer(hidden)
    shared = layer(hidden, reference=features(MASK))
    torch.testing.assert_close(shared[2], alone[2], atol=1e-6, rtol=0)
    assert (shared[:2] - alone[:2]).abs().max() > 0.1


def test_gradients_stay_finite_with_padding_of_zeros() -> None:
    layer, hidden = attention(use_adain=True, keep_own=False), normal(5, B, N, C).requires_grad_()
    layer(hidden, reference=features(MASK, 0.0)).square().sum().backward()
    assert torch.isfinite(hidden.grad).all()


def test_recorder_collects_in_order_and_ends_the_pass_after_the_last_layer() -> None:
    recorder = FeatureRecorder(2)
    recorder.record(normal(0, 6, N, C), normal(1, 6, N, C))
    with pytest.raises(ReferencePassComplete):
        recorder.record(normal(2, 6, 4, C), normal(3, 6, 4, C))
    collected = recorder.features(3, None)
    assert [tuple(key.shape) for key in collected.keys] == [(2, 3, N, C), (2, 3, 4, C)]
    assert torch.equal(collected.values[1][1, 2], normal(3, 6, 4, C)[5])  # sample 1, reference 2 is number 1 * 3 + 2


# The same through the whole network, whose sums are ordered differently for every batch shape.

ROUNDING = 2e-5


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base)


@pytest.fixture(scope="module")
def lq() -> torch.Tensor:
    return pictures(0, 2, 3, 64, 64)


@pytest.fixture(scope="module")
def references() -> torch.Tensor:
    return pictures(1, 2, 3, 3, 64, 64)


def restore(generator: OneStepGenerator, lq, references=None, mask=None) -> torch.Tensor:
    with torch.no_grad():
        return generator(lq, references, mask, draw=NOISE)


def test_without_references_the_unet_computes_what_diffusers_own_does(tiny_base: Path) -> None:
    base = load_base(str(tiny_base))
    stock = copy.deepcopy(base.unet)
    shared = share_decoder_attention(base.unet, SharingOptions())
    assert shared == [
        f"up_blocks.{block}.attentions.{index}.transformer_blocks.0.attn1" for block in (1, 2, 3) for index in range(3)
    ]
    latent, steps, prompt = normal(0, 2, 4, 8, 8), torch.tensor([249, 999]), base.prompt_embedding.expand(2, -1, -1)
    with torch.no_grad():
        expected = stock(latent, steps, prompt).sample
        for extra in ({}, {"cross_attention_kwargs": {"reference": None}}):
            assert torch.equal(base.unet(latent, steps, prompt, **extra).sample, expected)


def test_the_reference_pass_ends_at_the_last_shared_layer(generator: OneStepGenerator, references) -> None:
    ran: list[str] = []
    watched = ["conv_in", "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_v", "conv_out"]
    watched.append("up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0")
    hooks = [
        generator.unet.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in watched
    ]
    generator.reference_features(references, draw=NOISE)
    for hook in hooks:
        hook.remove()
    assert ran == ["conv_in", "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_v"]


def test_a_masked_reference_is_as_good_as_none(generator: OneStepGenerator, lq, references) -> None:
    mask = torch.tensor([[True, False, True]] * 2)
    masked = restore(generator, lq, references, mask)
    torch.testing.assert_close(masked, restore(generator, lq, references[:, [0, 2]]), atol=ROUNDING, rtol=0)
    assert (masked - restore(generator, lq, references)).abs().max() > 1e-3


def test_padding_pictures_have_no_influence(generator: OneStepGenerator, lq, references) -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    zeros = torch.where(mask[..., None, None, None], references, torch.zeros_like(references))
    other = torch.where(mask[..., None, None, None], references, pictures(9, *references.shape))
    torch.testing.assert_close(
        restore(generator, lq, zeros, mask), restore(generator, lq, other, mask), atol=ROUNDING, rtol=0
    )


def test_in_a_mixed_batch_every_sample_gets_what_it_would_get_alone(
    generator: OneStepGenerator, lq, references
) -> None:
    mask = torch.tensor([[True, True, True], [False, False, False]])
    mixed = restore(generator, lq, references, mask)
    torch.testing.assert_close(mixed[:1], restore(generator, lq[:1], references[:1]), atol=ROUNDING, rtol=0)
    torch.testing.assert_close(mixed[1:], restore(generator, lq[1:]), atol=ROUNDING, rtol=0)


def test_the_order_of_references_does_not_matter_but_their_content_does(
    generator: OneStepGenerator, lq, references
) -> None:
    output = restore(generator, lq, references)
    torch.testing.assert_close(output, restore(generator, lq, references[:, [2, 0, 1]]), atol=ROUNDING, rtol=0)
    assert (output - restore(generator, lq, references.flip(0))).abs().max() > 1e-3  # the other person's


@pytest.mark.parametrize("mask", [None, torch.zeros(2, 3, dtype=torch.bool)], ids=["R = 0", "all masked"])
def test_no_reference_in_whichever_form_is_the_same(generator: OneStepGenerator, lq, references, mask) -> None:
    given = references[:, :0] if mask is None else references
    assert torch.equal(restore(generator, lq, given, mask), restore(generator, lq))


def test_use_references_off_ignores_them(tiny_base: Path, generator: OneStepGenerator, lq, references) -> None:
    blind = tiny_generator(tiny_base, use_references=False)
    assert torch.equal(restore(blind, lq, references), restore(generator, lq))


def without_gradient(generator: OneStepGenerator, lq, references) -> set[str]:
    generator.zero_grad()
    generator(lq, references, draw=NOISE).square().mean().backward()
    trained = set(generator.unet_adaptation.names)
    return {n for n, p in generator.unet.named_parameters() if n in trained and (p.grad is None or not p.grad.any())}


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, ("to_k",)),  # keys are replaced; values still give AdaIN its style
        ({"use_adain": False}, ("to_k", "to_v")),
        ({"keep_own_keys": True}, ()),
    ],
    ids=["adain", "plain", "own keys kept"],
)
def test_gradients_reach_what_takes_part(tiny_base: Path, changes: dict, dead: tuple[str, ...]) -> None:
    generator = tiny_generator(tiny_base, **changes)
    expected = {
        name
        for name in generator.unet_adaptation.names
        if any(name.startswith(f"{layer}.{part}.") for layer in generator.shared_layers for part in dead)
    }
    assert len(expected) == 2 * 9 * len(dead)  # A and B of nine layers
    lq, references = pictures(0, 1, 3, 128, 128), pictures(1, 1, 2, 3, 128, 128)
    assert without_gradient(generator, lq, references) == expected
    assert without_gradient(generator, lq, None) == set()  # alone, everything takes part
