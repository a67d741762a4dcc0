"""Checkpoints in the format of the official InstantRestore code, complete and in every variant it may come in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

PARITY = Path(__file__).resolve().parent / "fixtures" / "instantrestore_parity"

# Network in the checkpoint -> its file in the base; the tuned ones come first, as the official code saves them.
FROZEN = {
    "original_unet": "unet/diffusion_pytorch_model.safetensors",
    "original_vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}

Content = dict[str, Any]


def official_content(folder: Path = PARITY) -> Content:
    """The checkpoint of a parity fixture; frozen copies that were left out to save space are put back."""
    content = torch.load(folder / "official_ckpt.pt", map_location="cpu", weights_only=True)
    state = content["state_dict"]
    prefix = next(iter(state)).split("unet.")[0]
    for part, file in FROZEN.items():
        if not any(name.startswith(f"{prefix}{part}.") for name in state):
            state |= {f"{prefix}{part}.{name}": value for name, value in load_file(folder / "base" / file).items()}
    trained = [name for name in state if ".lora_" in name or name.startswith(f"{prefix}unet.conv_in.")]
    optimizer = torch.optim.AdamW([torch.nn.Parameter(state[name]) for name in trained], lr=5e-4)
    return {"optimizer": optimizer.state_dict()} | content


def write_official(path: Path, content: Content | None = None, **model: Any) -> Path:
    """Save a checkpoint; ``model`` replaces fields of cfg.model, ... removes them."""
    content = official_content() if content is None else content
    if model:
        content = content | {"cfg": copy.deepcopy(content["cfg"])}
        fields = content["cfg"]["model"] | model
        content["cfg"]["model"] = {name: value for name, value in fields.items() if value is not ...}
    torch.save(content, path)
    return path


def renamed(content: Content, prefix: str) -> Content:
    """With another prefix than ``net.``."""
    state = {prefix + name.removeprefix("net."): value for name, value in content["state_dict"].items()}
    return content | {"state_dict": state}


def cast(content: Content, dtype: torch.dtype) -> Content:
    return content | {"state_dict": {name: value.to(dtype) for name, value in content["state_dict"].items()}}


def changed(content: Content, changes: dict[str, torch.Tensor | None]) -> Content:
    """With other tensors; None removes one."""
    state = content["state_dict"] | changes
    return content | {"state_dict": {name: value for name, value in state.items() if value is not None}}
