"""Networks of the right shape with random weights: for tests, memory checks and trying a config without downloads.

    python -m lit_restore.models.random_base sd-turbo weights/random-sd-turbo
    python -m lit_restore.models.random_base dinov2-large weights/random-dinov2-large
    python -m lit_restore.models.random_base vgg16 weights/random-vgg16
    python -m lit_restore.models.random_base arcface weights/random-arcface

The base restores nothing and the others see nothing; they have the layers, names and sizes of the real ones (or of tiny
networks).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from lit_restore.models.iresnet import arcface_ir_se50

Shape = Literal["tiny", "sd-turbo"]
DinoShape = Literal["dinov2-tiny", "dinov2-large"]
JudgeShape = Literal["vgg16", "arcface"]

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
_DINOV2 = {
    "dinov2-tiny": {"hidden_size": 128, "num_hidden_layers": 9, "num_attention_heads": 2},
    "dinov2-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}


def build_unet(shape: Shape) -> UNet2DConditionModel:
    """The UNet of SD-Turbo, or one like it with few channels, freshly initialised."""
    return UNet2DConditionModel(
        sample_size=64,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        use_linear_projection=True,
        **_UNET[shape],
    )


def build_vae(shape: Shape) -> AutoencoderKL:
    """The VAE of Stable Diffusion, or one like it with few channels, freshly initialised."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        **_VAE[shape],
    )


def write_random_base(folder: str | Path, shape: Shape = "tiny", *, seed: int = 0) -> Path:
    """Write ``unet/ vae/ prompt/ scheduler/`` (float16 for sd-turbo: 1.9 GB); returns the folder."""
    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, vae = build_unet(shape), build_vae(shape)
        embedding = torch.randn(1, 77, _UNET[shape]["cross_attention_dim"])
    for name, network in (("unet", unet), ("vae", vae)):
        (network.half() if shape == "sd-turbo" else network).save_pretrained(folder / name)
    write_constant_parts(folder, embedding)
    return folder


def write_random_dinov2(folder: str | Path, shape: DinoShape = "dinov2-tiny", *, seed: int = 0) -> Path:
    """Write ``config.json`` and ``model.safetensors`` of a DINOv2 (large: float16, 0.6 GB); returns the folder."""
    from transformers import Dinov2Config, Dinov2Model

    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Position embeddings of 518 px, as the published networks have them.
        network = Dinov2Model(Dinov2Config(image_size=518, **_DINOV2[shape]))
    (network.half() if shape == "dinov2-large" else network).save_pretrained(folder)
    return folder


def write_random_judge(file: str | Path, shape: JudgeShape, *, seed: int = 0) -> Path:
    """Write the network of the identity loss (ArcFace) or of LPIPS; returns the file.

    The latter is VGG16 under torchvision's names, without its classifier, for which LPIPS has no use.
    """
    file = Path(file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = arcface_ir_se50() if shape == "arcface" else nn.ModuleDict({"features": make_layers(cfgs["D"])})
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return file


def write_constant_parts(folder: Path, embedding: torch.Tensor) -> None:
    """``prompt/embedding.safetensors`` (1, tokens, channels) and the scheduler file."""
    (folder / "prompt").mkdir(parents=True, exist_ok=True)
    save_file({"embedding": embedding.contiguous()}, folder / "prompt" / "embedding.safetensors")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER, indent=2) + "\n")


def main() -> None:
    writers = dict.fromkeys(_UNET, write_random_base) | dict.fromkeys(_DINOV2, write_random_dinov2)
    writers |= dict.fromkeys(get_args(JudgeShape), write_random_judge)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=list(writers))
    parser.add_argument("path", help="the folder to write; for vgg16 and arcface the file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(writers[options.shape](options.path, options.shape, seed=options.seed))


if __name__ == "__main__":
    main()
