"""A base of the right shape with random weights: for tests, memory checks and trying a config without downloads.

    python -m lit_restore.models.random_base sd-turbo weights/random-sd-turbo

It restores nothing; it has SD-Turbo's (or a tiny network's) layers, names and sizes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

Shape = Literal["tiny", "sd-turbo"]

SCHEDULER = {  # of SD-Turbo
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
    "clip_sample": False,
}

# Four levels each, attention on the first three, as in Stable Diffusion 2.1 and SD-Turbo (spec: InstantRestore 1).
_UNET = {
    "tiny": {
        "block_out_channels": (16, 16, 32, 32),
        "attention_head_dim": (2, 2, 4, 4),
        "cross_attention_dim": 16,
        "norm_num_groups": 8,
    },
    "sd-turbo": {
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),  # this legacy field is the number of heads
        "cross_attention_dim": 1024,
        "norm_num_groups": 32,
    },
}
_VAE = {
    "tiny": {"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 8},
    "sd-turbo": {"block_out_channels": (128, 256, 512, 512), "norm_num_groups": 32},
}


def write_random_base(folder: str | Path, shape: Shape = "tiny", *, seed: int = 0) -> Path:
    """Write ``unet/ vae/ prompt/ scheduler/`` (float16 for sd-turbo: 1.9 GB); returns the folder."""
    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=64,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            use_linear_projection=True,
            **_UNET[shape],
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            **_VAE[shape],
        )
        embedding = torch.randn(1, 77, _UNET[shape]["cross_attention_dim"])
    for name, network in (("unet", unet), ("vae", vae)):
        (network.half() if shape == "sd-turbo" else network).save_pretrained(folder / name)
    write_constant_parts(folder, embedding)
    return folder


def write_constant_parts(folder: Path, embedding: torch.Tensor) -> None:
    """``prompt/embedding.safetensors`` (1, tokens, channels) and the scheduler file."""
    (folder / "prompt").mkdir(parents=True, exist_ok=True)
    save_file({"embedding": embedding.contiguous()}, folder / "prompt" / "embedding.safetensors")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=list(_UNET))
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(write_random_base(options.folder, options.shape, seed=options.seed))


if __name__ == "__main__":
    main()
