"""Take the base of an official checkpoint out of the checkpoint itself.

Every official file carries its frozen UNet, VAE and text encoder; what it lacks are their configurations. Those come
from a folder with the small files of the base (no weights needed), or, for SD-Turbo's shape, from here: the prompt is
one constant sentence, so even its tokens are known and no tokenizer is needed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from lit_restore.errors import UserError
from lit_restore.image import atomic_folder
from lit_restore.models.base import load_text_encoder
from lit_restore.models.official_checkpoint import OfficialCheckpoint
from lit_restore.models.random_base import SCHEDULER, build_unet, build_vae
from lit_restore.models.tensor_file import State, write_safetensors

# OpenCLIP ViT-H/14 without its last layer, as in Stable Diffusion 2 and SD-Turbo.
TEXT_ENCODER = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
    "vocab_size": 49408,
}
# start, the 13 tokens of base.PROMPT, end; the rest of the 77 is SD-Turbo's padding, "!" = 0.
PROMPT_TOKENS = (49406, 320, 1400, 268, 3027, 1125, 539, 320, 2533, 282, 4774, 267, 279, 330, 49407, *[0] * 62)

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "prompt", "scheduler")


def write_base(checkpoint: OfficialCheckpoint, folder: Path, small_files: Path | None = None) -> None:
    """Write the frozen networks of a checkpoint as a base folder, in the checkpoint's precision.

    Args:
        folder: appears as a whole.
        small_files: folder with ``unet/config.json``, ``vae/config.json``, ``scheduler/scheduler_config.json`` and
            ``text_encoder/config.json`` with ``tokenizer/``, or ``prompt/``; None = SD-Turbo's.

    Raises:
        UserError: the checkpoint has no frozen networks, or they have another shape than the configuration.
    """
    for part in ("original_unet", "original_vae"):
        if part not in checkpoint.networks:
            raise UserError(
                "the checkpoint does not contain its base",
                where=checkpoint.path,
                expected=f"tensors net.{part}.*",
                fix="Pass the base it was trained on with --base and --vae.",
            )
    with atomic_folder(folder, ours=PARTS) as temporary:
        for part, kind, build in (
            ("unet", UNet2DConditionModel, build_unet),
            ("vae", AutoencoderKL, build_vae),
        ):
            with torch.device("meta"):  # shapes only
                network = kind.from_config(_config(small_files / part)) if small_files else build("sd-turbo")
            state = checkpoint.networks[f"original_{part}"]
            _check_shapes(state, network, f"{checkpoint.path}, original_{part}", small_files)
            network.save_config(temporary / part)
            write_safetensors(temporary / part / "diffusion_pytorch_model.safetensors", state)
        _write_json(
            temporary / "scheduler" / "scheduler_config.json",
            _config(small_files / "scheduler", "scheduler_config.json") if small_files else SCHEDULER,
        )
        _write_prompt(checkpoint, temporary, small_files)


def _write_prompt(checkpoint: OfficialCheckpoint, folder: Path, small_files: Path | None) -> None:
    """The text encoder with its tokenizer, or with the embedding of the one prompt."""
    state = checkpoint.networks.get("text_encoder")
    if state is None:
        if small_files is None or not (small_files / "prompt").is_dir():
            raise UserError("the checkpoint contains no text encoder", where=checkpoint.path, expected="text_encoder.*")
        shutil.copytree(small_files / "prompt", folder / "prompt")
        return
    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}  # of old transformers
    encoder = folder / "text_encoder"
    _write_json(encoder / "config.json", _config(small_files / "text_encoder") if small_files else TEXT_ENCODER)
    write_safetensors(encoder / "model.safetensors", state)
    if small_files:
        if not (small_files / "tokenizer").is_dir():
            raise UserError("incomplete base", where=small_files, expected="tokenizer/")
        shutil.copytree(small_files / "tokenizer", folder / "tokenizer")
        return
    with torch.no_grad():
        embedding = load_text_encoder(str(folder))(torch.tensor([PROMPT_TOKENS])).last_hidden_state
    (folder / "prompt").mkdir()
    write_safetensors(folder / "prompt" / "embedding.safetensors", {"embedding": embedding})


def _check_shapes(state: State, network: torch.nn.Module, where: str, small_files: Path | None) -> None:
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if expected != found:
        odd = min(dict(expected.items() ^ found.items()))
        raise UserError(
            "the base in the checkpoint has another shape than its configuration",
            where=where,
            expected=f"{odd} {expected.get(odd, 'absent')} as in {small_files or 'SD-Turbo'}",
            found=found.get(odd, "no such tensor"),
            fix="Pass a folder with the right config.json files with --base; it needs no weights.",
        )


def _config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, OSError) else str(error)
        raise UserError("incomplete base", where=folder / name, found=reason) from None


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")
