"""A trained restorer as a folder: ``config.json`` and one adapter per network, in the layout of peft.

    config.json        format, the generator's configuration, the base it needs (fingerprint), iteration
    unet/              what was trained of the UNet
        adapter_model.safetensors    LoRA matrices, and the layers trained in full
        adapter_config.json          rank, alpha and layers, for peft; absent where there is no LoRA
    vae/               the same of the VAE

Nothing frozen is stored: the base is loaded from where the configuration says and must have the stored fingerprint.
The folder changes as a whole, so its files always belong together.

The adapters also load without this package, into the networks of the base, and then compute what our networks compute
(without shared attention and FreeU, which are not weights):

    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    unet.load_lora_adapter(folder, subfolder="unet", weight_name="adapter_model.safetensors",
                           prefix="base_model.model")                    # diffusers
    unet = PeftModel.from_pretrained(unet, folder, subfolder="unet")     # or peft

and likewise ``AutoencoderKL`` with ``vae``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from lit_restore.errors import UserError, nearest
from lit_restore.image import atomic_folder
from lit_restore.models.adaptation import PEFT_PREFIX
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator
from lit_restore.models.hub import fetch_model
from lit_restore.models.tensor_file import State, damaged, read_torch_file, write_safetensors

FORMAT = 2
PARTS = ("unet", "vae")
WEIGHTS = "adapter_model.safetensors"


def save_generator(generator: OneStepGenerator, folder: Path, *, iteration: int) -> None:
    """Write what was trained; the folder appears, or is replaced, as a whole."""
    states = {part: adaptation.state_dict() for part, adaptation in generator.adaptations.items()}
    write_model(folder, generator, states, iteration=iteration)


def write_model(
    folder: Path,
    generator: OneStepGenerator,
    states: Mapping[str, State],
    *,
    iteration: int,
    base: str | None = None,
    **extra: Any,
) -> None:
    """Write given tensors rather than the generator's own, in their precision.

    Args:
        states: part -> tensors under the names of `Adaptation.state_dict`.
        base: what the base is called in there; None = as the generator calls it.
        extra: further entries of config.json, which loading ignores.
    """
    values = asdict(generator.config)
    values["base"] = values["base"] if base is None else base
    config = {
        "format": FORMAT,
        "iteration": iteration,
        "base_fingerprint": generator.base_fingerprint,
        "generator": values,
        **extra,
    }
    with atomic_folder(folder, ours=("config.json", *PARTS)) as temporary:
        for part, adaptation in generator.adaptations.items():
            (temporary / part).mkdir()
            adapter, metadata = adaptation.adapter_config(), None
            if adapter is not None:
                # diffusers reads the header of the weights, peft a file beside them.
                prefixed = {PEFT_PREFIX + key: value for key, value in adapter.items()}
                metadata = {"lora_adapter_metadata": json.dumps(prefixed)}
                adapter["base_model_name_or_path"] = values["base"]
                _write_json(temporary / part / "adapter_config.json", adapter)
            write_safetensors(temporary / part / WEIGHTS, adaptation.adapter_state(states[part]), metadata)
        _write_json(temporary / "config.json", config)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")


def load_generator(source: str | Path, *, base: str | None = None) -> OneStepGenerator:
    """A trained restorer in eval mode.

    Args:
        source: a folder written by `save_generator`, a run folder that contains one as ``model/``, a training
            checkpoint (``.ckpt``), or a folder of the first two kinds on the hub, see `lit_restore.models.hub`.
        base: where the base is now, if not where the configuration says.

    Raises:
        UserError: nothing is there, a file is damaged, or the base is another one.
    """
    config, states = read_model(source)
    if base is not None:
        config["generator"]["base"] = base
    generator = OneStepGenerator(generator_config(config["generator"], where=source))
    _load_states(generator, config, states, source)
    generator.origin = {key: config[key] for key in ("iteration", "official") if key in config}
    return generator.requires_grad_(False).eval()


def load_weights(generator: OneStepGenerator, source: str | Path) -> None:
    """Start from what ``source``, anything `load_generator` takes, has learnt; the configuration stays as it is.

    Raises:
        UserError: ``source`` has another base, rank, LoRA alpha or other layers trained.
    """
    config, states = read_model(source)
    stored = generator_config(config["generator"], where=source)
    if stored.lora_alpha_ratio != generator.config.lora_alpha_ratio:
        raise UserError(
            "weights made for another LoRA alpha",
            where=source,
            expected=f"lora_alpha_ratio {generator.config.lora_alpha_ratio}",
            found=stored.lora_alpha_ratio,
            fix="Set model.generator.lora_alpha_ratio to what they were trained with.",
        )
    _load_states(generator, config, states, source)


def _load_states(generator: OneStepGenerator, config: dict[str, Any], states: dict[str, State], source: object) -> None:
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


def read_model(source: str | Path) -> tuple[dict[str, Any], dict[str, State]]:
    """config.json and the trained tensors of each part, unchecked against any base.

    Raises:
        UserError: nothing is there, or it is damaged or something else.
    """
    source = Path(source) if Path(source).exists() else fetch_model(str(source))
    if source.is_file():
        return _read_checkpoint(source)
    folder = source / "model" if (source / "model" / "config.json").is_file() else source
    if not (folder / "config.json").is_file():
        raise _no_model(source, "no config.json")
    try:
        text = (folder / "config.json").read_text()
        config = json.loads(text)
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from None
    if not isinstance(config, dict) or not {"format", "generator", "base_fingerprint"} <= set(config):
        raise _no_model(source, "a config.json of something else")
    if config["format"] != FORMAT:
        raise UserError(
            "model of another version",
            where=folder,
            expected=FORMAT,
            found=config["format"],
            fix="A training run still has it as checkpoints/last.ckpt, which can be used instead.",
        )
    for part in PARTS:
        if not (folder / part / WEIGHTS).is_file():
            raise _no_model(source, f"no {part}/{WEIGHTS}")
    try:
        states = {part: load_file(folder / part / WEIGHTS) for part in PARTS}
        replaced = (folder / "config.json").read_text() != text
    except (OSError, ValueError, SafetensorError) as error:
        raise damaged(folder, error) from None
    # A training run may have put a newer model here meanwhile; then some of this is of the older one.
    return read_model(source) if replaced else (config, states)


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, State]]:
    checkpoint = read_torch_file(path)
    if not isinstance(checkpoint, dict) or not {"lit_restore", "state_dict"} <= set(checkpoint):
        official = isinstance(checkpoint, dict) and {"cfg", "state_dict"} <= set(checkpoint)
        raise UserError(
            "not a checkpoint of lit_restore's restoration training",
            where=path,
            found="an official InstantRestore checkpoint" if official else None,
            fix=f"Convert it first: lit_restore convert {path} FOLDER" if official else None,
        )
    state = checkpoint["state_dict"]
    # A run that averages its weights restores with the average.
    state = {key.removeprefix("average."): value for key, value in state.items() if key.startswith("average.")} or state
    states = {
        part: {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        for part in PARTS
    }
    return checkpoint["lit_restore"], states


def _no_model(source: Path, found: str) -> UserError:
    expected = f"config.json, {' and '.join(f'{part}/{WEIGHTS}' for part in PARTS)}"
    return UserError("not a model folder", where=source, expected=expected, found=found)
