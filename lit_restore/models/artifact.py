"""A trained restorer as a folder: ``config.json`` and one safetensors file per adapted network.

    config.json        format, the generator's configuration, the base it needs (fingerprint), iteration
    unet.safetensors   trained tensors of the UNet, diffusers/peft names
    vae.safetensors    the same of the VAE

Nothing frozen is stored: the base is loaded from where the configuration says and must have the stored fingerprint.
"""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lit_restore.errors import UserError, nearest
from lit_restore.image import atomic_path
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator

FORMAT = 1


def save_generator(generator: OneStepGenerator, folder: Path, *, iteration: int) -> None:
    """Write what was trained; each file appears complete or not at all."""
    for part, adaptation in generator.adaptations.items():
        state = {name: tensor.contiguous().cpu() for name, tensor in adaptation.state_dict().items()}
        with atomic_path(folder / f"{part}.safetensors") as path:
            save_file(state, path)
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
    known = {field.name for field in fields(GeneratorConfig)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown generator option '{key}'", where=where, fix=nearest(key, known))
    freeu = values.get("freeu")
    return GeneratorConfig(**{**values, "freeu": FreeU(**freeu) if freeu else None})


def _read(source: Path) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
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
    try:
        config = json.loads((folder / "config.json").read_text())
        if config["format"] != FORMAT:
            raise UserError("model of another version", where=folder, expected=FORMAT, found=config["format"])
        return config, {part: load_file(folder / f"{part}.safetensors") for part in ("unet", "vae")}
    except FileNotFoundError as error:
        raise UserError(
            "not a model folder",
            where=source,
            expected="config.json, unet.safetensors and vae.safetensors",
            found=f"no {os.path.basename(error.filename or '')}".strip(),
        ) from None
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise _damaged(folder, error) from None


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        config, state = checkpoint["lit_restore"], checkpoint["state_dict"]
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from None
    except (KeyError, TypeError):
        raise UserError("not a checkpoint of lit_restore's restoration training", where=path) from None
    states = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in ("unet", "vae")
    }
    return config, states


def _damaged(path: Path, error: Exception) -> UserError:
    size = path.stat().st_size if path.is_file() else None
    return UserError(
        "damaged checkpoint",
        where=path,
        found=f"{str(error).splitlines()[0][:120]}" + (f" ({size} bytes)" if size is not None else ""),
        fix="It may have been cut off while copying; copy it again or use an earlier one.",
    )
