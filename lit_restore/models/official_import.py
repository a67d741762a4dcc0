"""Official checkpoint -> model folder (spec: InstantRestore 15).

    official                                                  ours
    unet.X.lora_A.default.weight, ..., unet.conv_in.*         unet: LoRA, conv_in
    vae.X.lora_A.vae_skip.weight, ...                         vae: LoRA
    unet.X.base_layer.*, original_unet.*, the same of the     the base, by name and fingerprint
        VAE, text_encoder.*
    cfg.model; FreeU, noise on references and alpha are       GeneratorConfig
        fixed in the code

A conversion builds the generator that will run, so whatever could not be loaded later is found now.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lit_restore.errors import UserError
from lit_restore.models.adaptation import Adaptation
from lit_restore.models.artifact import write_model
from lit_restore.models.base import load_text_encoder, load_vae, resolve
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator
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
    size_px = answers.size_px or checkpoint.cfg.get("data", {}).get("resolution", 512)
    if not isinstance(size_px, int):
        raise UserError("bad value in cfg", where=f"{checkpoint.path}, cfg.data.resolution", found=size_px)
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
    _check_text_encoder(checkpoint, config.base)  # first, since memory then holds nothing else
    generator = OneStepGenerator(config)
    for part, adaptation in generator.adaptations.items():
        _check_base(checkpoint, part, _frozen(checkpoint, part), adaptation.untouched_state(), config.base)
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
    for name in adaptation.names:
        if not bool(ours[name].isfinite().all()):
            raise UserError("a trained tensor is not finite", where=f"{checkpoint.path}, {part}.{name}")
    return {name: ours[name] for name in adaptation.names}


def _frozen(checkpoint: OfficialCheckpoint, part: str) -> State:
    """What the checkpoint knows of the base: the frozen copy, or else what is below LoRA."""
    original = checkpoint.networks.get(f"original_{part}")
    if original is not None:
        return original
    below = base_of_tuned(checkpoint, part)
    return {name: value for name, value in below.items() if part != "unet" or not name.startswith("conv_in.")}


def _check_text_encoder(checkpoint: OfficialCheckpoint, base: str) -> None:
    encoder = load_text_encoder(base) if "text_encoder" in checkpoint.networks else None
    if encoder is not None:
        stored = {name: t for name, t in checkpoint.networks["text_encoder"].items() if t.is_floating_point()}
        _check_base(checkpoint, "text_encoder", _short_names(stored), _short_names(encoder.state_dict()), base)


def _short_names(text_encoder: State) -> State:
    """Without the level that transformers has dropped."""
    return {name.removeprefix("text_model."): value for name, value in text_encoder.items()}


def _check_base(checkpoint: OfficialCheckpoint, part: str, frozen: State, known: State, base: str) -> None:
    difference = _first_difference(frozen, known)
    if difference is not None:
        raise UserError(
            "the checkpoint was trained on another base",
            where=f"{checkpoint.path}, {part}",
            expected=f"the weights of {base}, up to rounding",
            found=difference,
            fix="Pass the right one with --base and --vae, or take it out of the checkpoint itself with "
            "--write-base FOLDER.",
        )


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
