"""The generator as it is used: LoRA folded in, weights in the layout and precision that suit the device.

    W' = W + (alpha / rank) B A      once, in float32, then rounded to the precision of inference

One layer instead of three wherever there was LoRA. References are seen by the frozen networks all the same, and exactly
by them: every layer that folding changes is kept as it was beside the folded one, and takes its place for the reference
pass. That costs the weights once more (SD-Turbo: about 3.8 GB in float32, 1.9 GB in 16 bits); subtracting the product
instead would cost nothing but leave rounding behind, and adapters left as they are would slow down every pass. Where
references only ever come from `lit_restore.models.reference_cache` the base is not needed: ``keep_base=False``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.generator import OneStepGenerator

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def inference_form(
    generator: OneStepGenerator,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    keep_base: bool = True,
    compile: bool = False,
    vae_slicing: bool = False,
    vae_tiling: bool = False,
) -> OneStepGenerator:
    """Change a trained generator, in place, into one that only restores; it cannot be trained or saved afterwards.

    In float32 its results are the unfolded generator's but for rounding.

    Args:
        generator: as `lit_restore.models.artifact.load_generator` gives it.
        device: where it will run.
        precision: of weights and activations; auto = `best_precision`.
        keep_base: keep what the reference pass needs; without it only cached references can be used. The base layers
            stay on the CPU until the first reference pass.
        compile: hand the networks to ``torch.compile``: minutes for the first pass of every size. The reference pass,
            once per person, stays as it is.
        vae_slicing: encode and decode one face of a batch after the other. Same result, less memory.
        vae_tiling: encode and decode in overlapping tiles of half the side. Much less memory; every tile is normalised
            by its own statistics, so the result is close but not the same.

    Returns:
        The same generator in eval mode, without gradients.

    Raises:
        UserError: it is to be compiled and that does not work here.
    """
    if compile:
        check_compiles(device)
    generator.requires_grad_(False).eval()
    dtype = best_precision(device) if precision == "auto" else _DTYPES[precision]
    for adaptation in generator.adaptations.values():
        adaptation.fold(keep_base=keep_base)
        if keep_base:
            with adaptation.off():
                _convert(adaptation.network, dtype)
        _convert(adaptation.network, dtype)
    generator.to(device)
    if vae_slicing:
        generator.vae.enable_slicing()
    if vae_tiling:
        tile_px = generator.config.size_px // 2
        generator.vae.enable_tiling()
        generator.vae.tile_sample_min_size = tile_px
        generator.vae.tile_latent_min_size = tile_px // generator.vae_factor
    if compile:
        for network in (generator.unet, generator.vae.encoder, generator.vae.decoder):
            network.compile()
    return generator


def check_compiles(device: torch.device | str) -> None:
    """Compile next to nothing, since ``torch.compile`` itself only fails in the middle of the first pass.

    Raises:
        UserError: that does not work on this machine.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # every backend, compiler and driver has errors of its own
        text = " ".join(str(error).split())[:160].rstrip(". ")
        raise UserError(
            "the networks cannot be compiled on this machine",
            where=device,
            found=f"{type(error).__name__}: {text}",
            fix="Leave --compile out, or install what torch.compile needs: a C++ compiler, for a GPU also Triton.",
        ) from None


def _convert(network: nn.Module, dtype: torch.dtype) -> None:
    # diffusers' own method of this name warns about layers that should stay in float32, of which there are none.
    nn.Module.to(network, dtype=dtype, memory_format=torch.channels_last)


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def best_precision(device: torch.device | str) -> torch.dtype:
    """bfloat16 on a GPU that computes in it, float16 on an older one, float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def cpu_computes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices (AVX-512 BF16 or AMX); elsewhere torch emulates them."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
