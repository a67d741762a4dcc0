"""A trained restorer as a folder: ``config.json`` and one safetensors file per adapted network.

    config.json        format, the generator's configuration, the base it needs (fingerprint), iteration
    unet.safetensors   trained tensors of the UNet, diffusers/peft names
    vae.safetensors    the same of the VAE

Nothing frozen is stored: the base is loaded from where the configuration says and must have the stored fingerprint.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from lit_restore.errors import UserError, nearest
from lit_restore.image import atomic_path
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator

FORMAT = 1
PARTS = ("unet", "vae")

State = dict[str, torch.Tensor]


def save_generator(generator: OneStepGenerator, folder: Path, *, iteration: int) -> None:
    """Write what was trained; each file appears complete or not at all."""
    for part, adaptation in generator.adaptations.items():
        state = {name: tensor.contiguous().cpu() for name, tensor in adaptation.state_dict().items()}
        with atomic_path(folder / f"{part}.safetensors") as path:
            path.write_bytes(save(state))  # safetensors' own writer hides from us that a disk is full
    config = {
        "format": FORMAT,
        "iteration": iteration,
        "base_fingerprint": generator.base_fingerprint,
        "generator": asdict(generator.config),
    }
    with atomic_path(folder / "config.json") as path:
        path.write_text(json.dumps(config, indent=2) + "\n")


def load_generator(source: str | Path, *, base: str | None = None) -> OneStepGenerator:
    """A trained restorer in eval mode.

    Args:
        source: a folder written by `save_generator`, a run folder that contains one as ``model/``, or a training
            checkpoint (``.ckpt``).
        base: where the base is now, if not where the configuration says.

    Raises:
        UserError: nothing is there, a file is damaged, or the base is another one.
    """
    config, states = _read(Path(source))
    if base is not None:
        config["generator"]["base"] = base
    generator = OneStepGenerator(generator_config(config["generator"], where=source))
    if generator.base_fingerprint != config["base_fingerprint"]:
        raise UserError(
            "these weights belong to another base",
            where=source,
            expected=f"fingerprint {config['base_fingerprint']}",
            found=f"{generator.base_fingerprint} at {generator.config.base}",
            fix="Pass the folder of the base it was trained on.",
        )
    for part, adaptation in generator.adaptations.items():
        adaptation.load_state_dict(states[part], where=f"{source}, {part}")
    return generator.requires_grad_(False).eval()


def generator_config(values: dict[str, Any], where: object) -> GeneratorConfig:
    """Stored values -> `GeneratorConfig`; options this version does not know are refused, not dropped."""
    freeu = values.get("freeu")
    _refuse_unknown(values, GeneratorConfig, where)
    _refuse_unknown(freeu or {}, FreeU, where)
    return GeneratorConfig(**{**values, "freeu": FreeU(**freeu) if freeu else None})


def _refuse_unknown(values: dict[str, Any], kind: type, where: object) -> None:
    known = {field.name for field in fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown generator option '{key}'", where=where, fix=nearest(key, known))


def _read(source: Path) -> tuple[dict[str, Any], dict[str, State]]:
    if not source.exists():
        raise UserError(
            "no such checkpoint",
            where=source,
            expected="a model folder, a run folder or a .ckpt file",
            fix="Train one with: lit_restore fit --config configs/quickstart.yaml",
        )
    if source.is_file():
        return _read_checkpoint(source)
    folder = source / "model" if (source / "model" / "config.json").is_file() else source
    for name in ("config.json", *(f"{part}.safetensors" for part in PARTS)):
        if not (folder / name).is_file():
            raise _no_model(source, f"no {name}")
    try:
        config = json.loads((folder / "config.json").read_text())
        states = {part: load_file(folder / f"{part}.safetensors") for part in PARTS}
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(folder, error) from None
    if not isinstance(config, dict) or not {"format", "generator", "base_fingerprint"} <= set(config):
        raise _no_model(source, "a config.json of something else")
    if config["format"] != FORMAT:
        raise UserError("model of another version", where=folder, expected=FORMAT, found=config["format"])
    return config, states


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, State]]:
    try:
        if not zipfile.is_zipfile(path):  # on other files torch fails in ways that cannot be foreseen
            raise EOFError("not a whole file of torch.save")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from None
    if not isinstance(checkpoint, dict) or not {"lit_restore", "state_dict"} <= set(checkpoint):
        raise UserError("not a checkpoint of lit_restore's restoration training", where=path)
    state = checkpoint["state_dict"]
    states = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in PARTS
    }
    return checkpoint["lit_restore"], states


def _no_model(source: Path, found: str) -> UserError:
    expected = "config.json, unet.safetensors and vae.safetensors"
    return UserError("not a model folder", where=source, expected=expected, found=found)


def _damaged(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
    return UserError(
        "damaged checkpoint",
        where=path,
        found=reason + (f" ({path.stat().st_size} bytes)" if path.is_file() else ""),
        fix="It may have been cut off while copying; copy it again or use an earlier one.",
    )
