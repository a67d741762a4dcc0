"""Official checkpoint -> model folder, and back (spec: InstantRestore 15).

    ours                                   official
    unet: LoRA, conv_in                    unet.X.lora_A.default.weight, ..., unet.conv_in.*
    vae: LoRA                              vae.X.lora_A.vae_skip.weight, ...
    the base, by name and fingerprint      unet.X.base_layer.*, original_unet.*, the same of the VAE, text_encoder.*
    GeneratorConfig                        cfg.model; FreeU, noise on references and alpha are fixed in the code

A conversion builds the generator that will run, so whatever could not be loaded later is found now.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError
from lit_restore.image import atomic_path
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.artifact import generator_config, load_generator, read_model, write_model
from lit_restore.models.base import PROMPT, load_text_encoder, load_vae, resolve
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator
from lit_restore.models.official_cfg import cfg_of
from lit_restore.models.official_checkpoint import (
    TUNED,
    OfficialCheckpoint,
    base_of_tuned,
    equal_up_to_rounding,
    layers_trained_in_full,
    own_keys_untouched,
)
from lit_restore.models.tensor_file import State

BASE = "stabilityai/sd-turbo"
VAE = "stabilityai/sd-vae-ft-mse"
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

# A base in half precision is the same base: differences of this relative size are its rounding.
HALF_PRECISION = torch.finfo(torch.float16).eps

# Field of GeneratorConfig -> (field of cfg.model, option of `lit_restore convert`).
SWITCHES = {
    "use_references": ("use_shared_attention", "--use-references"),
    "use_adain": ("use_adain", "--use-adain"),
    "keep_own_keys": ("train_input", "--keep-own-keys"),
}


@dataclass
class Answers:
    """What the user says about a file; needed only where the file does not say it."""

    use_references: bool | None = None
    use_adain: bool | None = None
    keep_own_keys: bool | None = None
    size_px: int | None = None


# --- official -> ours ---------------------------------------------------------------------------------------------


def configuration(checkpoint: OfficialCheckpoint, answers: Answers) -> GeneratorConfig:
    """The generator that computes what the official code computes with this file; on the default base.

    Raises:
        UserError: the file does not say something and ``answers`` neither, or they contradict each other.
    """
    stated = checkpoint.cfg.get("model", {})
    switches: dict[str, bool] = {}
    for field, (name, option) in SWITCHES.items():
        value, answer = stated.get(name), getattr(answers, field)
        if value is not None and not isinstance(value, bool):
            raise UserError("bad value in cfg", where=f"{checkpoint.path}, cfg.model.{name}", found=value)
        if value is None and answer is None:
            raise UserError(
                f"the file does not say whether it was trained with {name}",
                where=checkpoint.path,
                expected=f"cfg.model.{name}",
                found="no cfg" if not checkpoint.cfg else "a cfg without it",
                fix=f"Say it with {option} yes or {option} no{_hint(checkpoint, name)}.",
            )
        if value is not None and answer not in (None, value):
            raise UserError(f"the file says {name} {value}", where=checkpoint.path, fix=f"Leave out {option}.")
        switches[field] = answer if value is None else value
    size_px = answers.size_px or (checkpoint.cfg.get("data") or {}).get("resolution", 512)
    full = {part: _full_layers(checkpoint, part) for part in TUNED}
    return GeneratorConfig(
        size_px=size_px,
        base=BASE,
        lora_rank_unet=checkpoint.ranks["unet"],
        lora_rank_vae=checkpoint.ranks["vae"],
        lora_alpha_ratio=0.5,
        # An untouched conv_in beside another layer in full is how this package's default trains.
        full_unet_layers=full["unet"] or ([] if full["vae"] else ["conv_in"]),
        full_vae_layers=full["vae"],
        reference_noise=True,
        reference_timestep=1,
        freeu=FreeU(),
        **switches,
    )


def _hint(checkpoint: OfficialCheckpoint, name: str) -> str:
    if name != "train_input":
        return ""
    untouched = own_keys_untouched(checkpoint)
    seen = {True: "; the LoRA of own keys was never trained: no", False: "; the LoRA of own keys was trained: yes"}
    return f" (the published configurations: no{seen.get(untouched, '')})"


def _full_layers(checkpoint: OfficialCheckpoint, part: str) -> list[str]:
    frozen = checkpoint.networks.get(f"original_{part}")
    if frozen is None:  # then they are compared with the base
        return ["conv_in"] if part == "unet" else []
    return layers_trained_in_full(checkpoint, part, frozen)


def find_base(checkpoint: OfficialCheckpoint, base: str | None, vae: str | None) -> tuple[str, str | None]:
    """Where UNet and VAE of the checkpoint come from; a VAE that is not named is the base's own or the official one.

    Raises:
        UserError: they are not on this machine and cannot be downloaded, or the VAE is neither.
    """
    take_out = "or take it out of the checkpoint itself with --write-base FOLDER"
    try:
        folder = resolve(base or BASE)
    except UserError:
        if base is not None:
            raise
        raise UserError(
            "the base of the official checkpoints is not on this machine and the model hub cannot be reached",
            where=BASE,
            fix=f"Pass its folder with --base FOLDER, {take_out}.",
        ) from None
    source = str(folder.resolve()) if Path(base or BASE).expanduser().is_dir() else base or BASE
    for candidate in (None, VAE) if vae is None else (vae,):
        try:
            found = load_vae(source, candidate).state_dict()
        except UserError:
            if candidate is None or vae is not None:
                raise
            raise UserError(
                f"the checkpoint's VAE is not that of {source}, and the official one cannot be had",
                where=VAE,
                fix=f"Pass its folder with --vae FOLDER, {take_out}.",
            ) from None
        if _first_difference(_frozen(checkpoint, "vae"), found) is None:
            return source, str(Path(candidate).resolve()) if candidate and Path(candidate).is_dir() else candidate
    raise UserError(
        "the checkpoint was trained on another VAE",
        where=checkpoint.path,
        expected="equal weights up to rounding",
        found=vae or f"neither that of {source} nor {VAE}",
        fix=f"Pass the right one with --vae, {take_out}.",
    )


def import_official(checkpoint: OfficialCheckpoint, folder: Path, config: GeneratorConfig) -> OneStepGenerator:
    """Write the model folder, in the precision of the checkpoint; returns the generator it holds.

    Raises:
        UserError: the base is not that of the checkpoint, or a tensor has no place in the generator.
    """
    generator = OneStepGenerator(config)
    _check_base(checkpoint, generator)
    states = {part: _trained(checkpoint, part, adaptation) for part, adaptation in generator.adaptations.items()}
    for part, adaptation in generator.adaptations.items():
        adaptation.load_state_dict(states[part], where=f"{checkpoint.path}, {part}")
    ((dtype, _),) = checkpoint.dtypes.most_common(1)
    origin = {"file": checkpoint.path.name, "dtype": str(dtype).removeprefix("torch."), "cfg": checkpoint.cfg}
    write_model(folder, generator, states, iteration=0, official=origin)
    return generator.requires_grad_(False).eval()


def _trained(checkpoint: OfficialCheckpoint, part: str, adaptation: Adaptation) -> State:
    """The tensors our generator trains; everything else in the tuned network must be there and be frozen."""
    ours: State = {}
    for name, value in checkpoint.networks[part].items():
        layer = name.split(".base_layer.")[0].split(".lora_")[0]
        if layer not in adaptation.full_layers:
            ours[name] = value
        elif ".lora_" not in name:  # what LoRA there is in a layer trained in full, is zero
            ours[name.replace(".base_layer.", ".")] = value
    expected = set(adaptation.network.state_dict())
    if set(ours) != expected:
        missing, unknown = sorted(expected - set(ours)), sorted(set(ours) - expected)
        raise UserError(
            "tensors of another model",
            where=f"{checkpoint.path}, {part}",
            expected=f"{len(expected)} tensors" + (f", among them {missing[0]}" if missing else ""),
            found=f"{len(ours)}" + (f", among them {unknown[0]}" if unknown else ""),
        )
    return {name: ours[name] for name in adaptation.names}


def _frozen(checkpoint: OfficialCheckpoint, part: str) -> State:
    """What the checkpoint knows of the base: the frozen copy, or else what is below LoRA."""
    original = checkpoint.networks.get(f"original_{part}")
    if original is not None:
        return original
    below = base_of_tuned(checkpoint, part)
    return {name: value for name, value in below.items() if part != "unet" or not name.startswith("conv_in.")}


def _check_base(checkpoint: OfficialCheckpoint, generator: OneStepGenerator) -> None:
    adaptations = generator.adaptations.items()
    pairs = [(part, _frozen(checkpoint, part), dict(_untouched(adaptation))) for part, adaptation in adaptations]
    encoder = load_text_encoder(generator.config.base) if "text_encoder" in checkpoint.networks else None
    if encoder is not None:
        stored = {k.removeprefix("text_model."): v for k, v in checkpoint.networks["text_encoder"].items()}
        known = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
        pairs.append(("text_encoder", {k: v for k, v in stored.items() if not k.endswith("position_ids")}, known))
    for part, frozen, base in pairs:
        difference = _first_difference(frozen, base)
        if difference is not None:
            raise UserError(
                "the checkpoint was trained on another base",
                where=f"{checkpoint.path}, {part}",
                expected=f"the weights of {generator.config.base}, up to rounding",
                found=difference,
                fix="Pass the right one with --base and --vae, or take it out of the checkpoint itself with "
                "--write-base FOLDER.",
            )


def _untouched(adaptation: Adaptation) -> Iterator[tuple[str, torch.Tensor]]:
    """The network as it was before anything was trained."""
    with adaptation.off():
        for name, value in adaptation.network.state_dict().items():
            if ".lora_A." not in name and ".lora_B." not in name:
                yield name.replace(".base_layer.", "."), value


def _first_difference(frozen: State, base: State) -> str | None:
    """What is in ``frozen`` and not the same in ``base``, in words."""
    for name, value in frozen.items():
        if name not in base:
            return f"another network, without {name}"
        if base[name].shape != value.shape:
            return f"{name} of shape {tuple(base[name].shape)}, not {tuple(value.shape)}"
        if not equal_up_to_rounding(value, base[name].to(value.dtype), finest=HALF_PRECISION):
            return f"other values of {name}"
    return None


# --- ours -> official ---------------------------------------------------------------------------------------------


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
    generator = load_generator(source, base=base)
    encoder = load_text_encoder(base or config.base)
    if encoder is None:
        raise UserError(
            "the official format contains the text encoder, which this base does not have",
            where=base or config.base,
            expected="text_encoder/",
            fix="Use a model on a full base such as SD-Turbo.",
        )
    cast = _Cast(dtype)
    state: State = {}
    trained: list[str] = []
    for part, adaptation in generator.adaptations.items():
        for name, value in _official_names(part, adaptation):
            state[f"net.{part}.{name}"] = cast(value)
            if ".lora_" in name or (part, name.rpartition(".")[0]) == ("unet", "conv_in"):
                trained.append(f"net.{part}.{name}")
        state |= {f"net.original_{part}.{name}": cast(value) for name, value in _untouched(adaptation)}
    for name, value in encoder.state_dict().items():
        state[f"net.text_encoder.text_model.{name.removeprefix('text_model.')}"] = cast(value)
    cfg = cfg_of(config, origin.get("cfg"))
    rate = cfg.get("optim", {}).get("learning_rate", 5e-4)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(state[name]) for name in trained], lr=rate)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save({"state_dict": state, "cfg": cfg, "optimizer": optimizer.state_dict()}, file)
    return cfg


class _Cast:
    """To one precision, and equal memory to equal memory, so that the file holds it once."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.done: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        # The source stays referenced: memory that is given back would be found again as something else.
        return self.done.setdefault(tensor.data_ptr(), (tensor, tensor.detach().to(self.dtype)))[1]


def _official_names(part: str, adaptation: Adaptation) -> Iterator[tuple[str, torch.Tensor]]:
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
            yield f"{layer}.lora_A.{adaptation.name}.weight", torch.zeros(first)
            yield f"{layer}.lora_B.{adaptation.name}.weight", torch.zeros(second)


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
