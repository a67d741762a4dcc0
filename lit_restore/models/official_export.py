"""Model folder -> checkpoint of the official code: the reverse of `lit_restore.models.official_import`.

The official format holds the base twice, tuned and frozen, and the text encoder, so the base must be at hand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.artifact import generator_config, load_generator, read_model
from lit_restore.models.base import PROMPT, load_text_encoder
from lit_restore.models.generator import FreeU, GeneratorConfig
from lit_restore.models.official_cfg import cfg_of
from lit_restore.models.tensor_file import State

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def differences(config: GeneratorConfig) -> list[str]:
    """What the generator does and the official code, which has no option for it, does otherwise."""
    fixed = {
        "freeu": FreeU(),
        "reference_noise": True,
        "reference_timestep": 1,
        "inference_timestep": 249,
        "add_noise": True,
        "prompt": PROMPT,
    }
    values = {name: (getattr(config, name), value) for name, value in fixed.items()}
    found = [f"{name} {ours}, not {theirs}" for name, (ours, theirs) in values.items() if ours != theirs]
    for part in ("unet", "vae"):
        rank = getattr(config, f"lora_rank_{part}")
        alpha = math.floor(rank * config.lora_alpha_ratio)
        if alpha != rank // 2:
            found.append(f"LoRA alpha {alpha} at rank {rank} in the {part}, not {rank // 2}")
    return found


def export_official(
    source: str | Path, path: Path, *, base: str | None = None, dtype: torch.dtype | None = None, force: bool = False
) -> dict[str, Any]:
    """Write a trained restorer as a checkpoint of the official code; returns its ``cfg``.

    The frozen networks are in the file twice by name and once in fact.

    Args:
        source: anything `lit_restore.models.artifact.load_generator` takes.
        base: where the base is, if not where the configuration says.
        dtype: of all tensors; None = as in the file it was converted from, else bfloat16, which the official code uses.
        force: write it although the official code would compute something else.

    Raises:
        UserError: the official format or code cannot represent the generator.
    """
    stored, _ = read_model(source)
    config = generator_config(stored["generator"], where=source)
    check_representable(config, source, force)
    origin = stored.get("official", {})
    dtype = dtype or DTYPES.get(origin.get("dtype"), torch.bfloat16)
    encoder = load_text_encoder(base or config.base)
    if encoder is None:
        raise UserError(
            "the official format contains the text encoder, which this base does not have",
            where=base or config.base,
            expected="text_encoder/",
            fix="Use a model on a full base such as SD-Turbo.",
        )
    texts = {k.removeprefix("text_model."): v for k, v in encoder.to(dtype).state_dict().items()}
    del encoder
    generator = load_generator(source, base=base).to(dtype)
    state: State = {}
    trained: list[str] = []
    for part, adaptation in generator.adaptations.items():
        for name, value in _official_names(adaptation):
            state[f"net.{part}.{name}"] = value
            if ".lora_" in name or (part, name.rpartition(".")[0]) == ("unet", "conv_in"):
                trained.append(f"net.{part}.{name}")
        state |= {f"net.original_{part}.{name}": value for name, value in adaptation.untouched_state().items()}
    state |= {f"net.text_encoder.text_model.{name}": value for name, value in texts.items()}
    cfg = cfg_of(config, origin.get("cfg"))
    rate = cfg.get("optim", {}).get("learning_rate", 5e-4)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(state[name]) for name in trained], lr=rate)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save({"state_dict": state, "cfg": cfg, "optimizer": optimizer.state_dict()}, file)
    return cfg


def _official_names(adaptation: Adaptation) -> Iterator[tuple[str, torch.Tensor]]:
    """The tuned network; a layer in full that has LoRA there gets one that does nothing."""
    with_lora = tuple(f".{target}" for target in adaptation.targets)
    for name, value in adaptation.network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer not in adaptation.full_layers or not f".{layer}".endswith(with_lora):
            yield name, value
            continue
        yield f"{layer}.base_layer.{kind}", value
        if kind == "weight":
            out_channels, in_channels, *kernel = value.shape
            first, second = (adaptation.rank, in_channels, *kernel), (out_channels, adaptation.rank, *[1] * len(kernel))
            yield f"{layer}.lora_A.{adaptation.name}.weight", value.new_zeros(first)
            yield f"{layer}.lora_B.{adaptation.name}.weight", value.new_zeros(second)


def check_representable(config: GeneratorConfig, source: str | Path, force: bool) -> None:
    """Whether the official format can hold the generator and the official code will compute the same.

    Raises:
        UserError: it cannot, or it will not and ``force`` is off.
    """
    different = differences(config)
    if different and not force:
        raise UserError(
            "the official code would compute something else with these weights",
            where=source,
            found="; ".join(different),
            fix="Write the file all the same with --force.",
        )
    unet, vae = (tuple(f".{target}" for target in targets) for targets in (UNET_LORA_TARGETS, VAE_LORA_TARGETS))
    outside = [x for x in config.full_unet_layers if x != "conv_in" and not f".{x}".endswith(unet)]
    outside += [x for x in config.full_vae_layers if config.lora_rank_vae == 0 or not f".{x}".endswith(vae)]
    if config.lora_rank_unet == 0 or outside:
        raise UserError(
            "the official format has no place for this model",
            where=source,
            expected="LoRA in the UNet, and no layer in full but the UNet's conv_in and layers that could have LoRA",
            found=f"full layers {', '.join(outside)}" if outside else "no LoRA in the UNet",
        )
