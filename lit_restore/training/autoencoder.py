"""Recipe of the bundled VAE: the latent space the small diffusion model works in.

A network this small learns one colour axis after the other, in the order of their variance, and with an L1 loss never
the last one: most pixels have next to no green-magenta, and an L1 loss would rather have them all exactly neutral than
the few saturated ones right. So colour differences count squared, and enter with as much contrast as brightness does.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from lit_restore.losses.ms_ssim import ms_ssim_loss
from lit_restore.models.base import load_vae
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.pretraining import PretrainingModule, all_faces
from lit_restore.types import RestorationBatch

# Orthonormal: brightness, orange-blue, green-magenta, by falling variance in photos of people.
COLOUR_AXES = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]]))
CONTRAST = torch.tensor([1.0, 3.0, 6.0])
"""The axes' contrast in the first layer at the start; about what makes their variances equal."""


class AutoencoderModule(PretrainingModule):
    """Train an `AutoencoderKL` on clean faces.

    With e the error along the colour axes, and a small KL term (Rombach et al. 2022, section 3.1):

        loss = mean |e_0| + a (1 - MS-SSIM of brightness) + mean 3 e_1^2 + 10 e_2^2 + b KL

    Args:
        output: folder for the trained VAE, diffusers layout.
        widths: channels per level; n widths shrink the image 2^(n-1) times.
        latent_channels: channels of the latent.
        init: folder of a VAE to continue from.
        kl_weight: b, of the KL divergence to a unit normal, per latent value.
        ms_ssim_weight: a.
        seed: of the noise in the posterior.
    """

    def __init__(
        self,
        output: str,
        widths: list[int] = [24, 48, 96],
        latent_channels: int = 8,
        layers_per_block: int = 1,
        init: str | None = None,
        kl_weight: float = 1e-5,
        ms_ssim_weight: float = 0.2,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-3, weight_decay=0.0, schedule="cosine"),
        max_iterations: int = 6000,
        ema_decay: float = 0.998,
        seed: int = 42,
    ) -> None:
        super().__init__(output, optimizer, max_iterations, ema_decay, seed)
        self.kl_weight, self.ms_ssim_weight = kl_weight, ms_ssim_weight
        levels = len(widths)
        if init:
            network = load_vae(init, init).requires_grad_(True)
        else:
            network = AutoencoderKL(
                block_out_channels=tuple(widths),
                latent_channels=latent_channels,
                layers_per_block=layers_per_block,
                norm_num_groups=8,
                down_block_types=("DownEncoderBlock2D",) * levels,
                up_block_types=("UpDecoderBlock2D",) * levels,
            )
            balance_colours(network.encoder.conv_in)
        self.track(network.train())
        self.latent_square = nn.Buffer(torch.tensor(1.0))

    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        faces = all_faces(batch).contiguous(memory_format=torch.channels_last)
        posterior = self.network.encode(faces).latent_dist
        noise = self.noise("posterior", posterior.mean)
        decoded = self.network.decode(posterior.mean + posterior.std * noise).sample.float()
        error = torch.einsum("ij,bjhw->ibhw", COLOUR_AXES.to(faces), decoded - faces)
        brightness = error[0].abs().mean()
        colour = 3 * error[1].square().mean() + 10 * error[2].square().mean()
        structure = ms_ssim_loss(decoded.mean(1, keepdim=True), faces.mean(1, keepdim=True))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        self.latent_square.lerp_(posterior.mean.detach().float().pow(2).mean(), 0.01)
        total = brightness + self.ms_ssim_weight * structure + colour + self.kl_weight * kl
        psnr = -10 * torch.log10(((decoded.clamp(-1, 1) - faces) / 2).pow(2).mean())
        return total, {"loss": total.detach(), "psnr": psnr.detach(), "colour": colour.detach(), "kl": kl.detach()}

    def export(self, network: AutoencoderKL, folder: Path) -> None:
        # Latents are scaled to unit variance, as diffusion expects them (Rombach et al. 2022, appendix G).
        network.register_to_config(scaling_factor=round(1 / math.sqrt(float(self.latent_square)), 4))
        network.half().save_pretrained(folder)


@torch.no_grad()
def balance_colours(first: nn.Conv2d) -> None:
    """Fold a change of the input's colour contrasts into the first convolution, in place."""
    change = COLOUR_AXES.T @ torch.diag(CONTRAST) @ COLOUR_AXES
    first.weight.copy_(torch.einsum("oihw,ij->ojhw", first.weight, change))
