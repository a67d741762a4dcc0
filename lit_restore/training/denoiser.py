"""Recipe of the bundled UNet: a small latent diffusion model of faces, the stand-in for SD-Turbo."""

from __future__ import annotations

import hashlib
import math
import shutil
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from lit_restore.data.attention_targets import landmark_cells
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.base import load_unet, load_vae
from lit_restore.models.random_base import SCHEDULER, write_constant_parts
from lit_restore.models.reference_attention import (
    FeatureRecorder,
    ReferenceFeatures,
    ReferencePassComplete,
    SharingOptions,
    share_decoder_attention,
)
from lit_restore.models.schedule import NoiseSchedule
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.pretraining import PretrainingModule
from lit_restore.types import RestorationBatch


class DenoiserModule(PretrainingModule):
    """Train a UNet to predict the noise in latents of clean faces (DDPM, Ho et al. 2020, eq. 14).

    A text-to-image model learns from billions of pictures which parts of two photos correspond; a network of this size
    does not. So for a share of the batches the decoder's self-attention looks into another photo of the same person,
    the way InstantRestore will use it, and is told by landmarks where to look:

        loss = mean_t min(max((1 - abar_t) / abar_t, 1), 20) |noise - predicted|^2 + w CE(landmark, attention)

    The weight makes an error of the clean picture count about the same at all noise levels; at the high ones details
    are lost that only the other photo shows.

    Args:
        output: folder for the base: ``unet/ vae/ prompt/ scheduler/``.
        vae: folder of a trained VAE; copied into the base.
        widths: channels per level of the UNet.
        shared_probability: share of iterations with attention to other photos of the person.
        shared_min_timestep: lowest noise level of those; below it the picture itself shows all there is to know.
        attention_weight: w above, of the cross entropy with the place of the same landmark in the other photo.
        init: folder of a base to continue from.
        seed: of noise, noise levels, and which iterations look at other photos.
    """

    def __init__(
        self,
        output: str,
        vae: str,
        widths: list[int] = [64, 96, 128],
        layers_per_block: int = 1,
        head_channels: int = 32,
        prompt_tokens: int = 4,
        prompt_channels: int = 32,
        shared_probability: float = 0.5,
        shared_min_timestep: int = 400,
        attention_weight: float = 0.03,
        init: str | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, schedule="cosine"),
        max_iterations: int = 8000,
        ema_decay: float = 0.998,
        seed: int = 42,
    ) -> None:
        super().__init__(output, optimizer, max_iterations, ema_decay, seed)
        self.vae_folder = Path(vae)
        self.vae = load_vae(vae, vae)
        self.shared_probability, self.shared_min_timestep = shared_probability, shared_min_timestep
        self.attention_weight = attention_weight
        self._latents: dict[bytes, torch.Tensor] = {}
        levels = len(widths)
        unet = (
            load_unet(init).requires_grad_(True)
            if init
            else UNet2DConditionModel(
                sample_size=32,
                in_channels=self.vae.config.latent_channels,
                out_channels=self.vae.config.latent_channels,
                block_out_channels=tuple(widths),
                layers_per_block=layers_per_block,
                norm_num_groups=8,
                cross_attention_dim=prompt_channels,
                attention_head_dim=[width // head_channels for width in widths],
                use_linear_projection=True,
                down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
                up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            )
        )
        # One learned constant in the place of an encoded prompt; fixed, since nothing else ever varies it.
        generator = torch.Generator().manual_seed(0)
        self.prompt = nn.Buffer(torch.randn(1, prompt_tokens, prompt_channels, generator=generator))
        self.track(unet.train())
        self.num_shared = len(share_decoder_attention(self.network, SharingOptions(use_adain=True)))
        self.schedule = NoiseSchedule.from_config(SCHEDULER)

    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        latent = self._encode(batch["hq"])
        shared = self.draws("shared").random() < self.shared_probability
        noise = self.noise("latent", latent)
        lowest = self.shared_min_timestep if shared else 0
        draws = self.draws("timesteps", self.global_rank)
        steps = torch.tensor([draws.randrange(lowest, len(self.schedule)) for _ in latent], device=latent.device)
        noisy = self.schedule.add_noise(latent, noise, steps)
        probe = AttentionProbe(range(self.num_shared)) if shared else None
        predicted = self._unet(noisy, steps, self._features(batch) if shared else None, probe)
        error = (predicted.float() - noise).pow(2).mean((1, 2, 3))
        if not shared:
            return error.mean(), {"mse_alone": error.detach().mean()}
        abar = self.schedule.alpha_bar.to(error.device)[steps]
        attention = self._attention_loss(probe, batch)
        total = (((1 - abar) / abar).clamp(1, 20) * error).mean() + self.attention_weight * attention
        return total, {"mse_shared": error.detach().mean(), "attention": attention.detach()}

    def _attention_loss(self, probe: AttentionProbe, batch: RestorationBatch) -> torch.Tensor:
        """Cross entropy between where a landmark is in the first reference and where its query looks.

        The target is the bilinear weights of the four cells around the landmark, as sharp as a grid can be: what is
        looked up should be a mole, not its surroundings. With gradients to queries and keys: unlike in the restorer,
        both belong to the network in training.
        """
        known = batch["landmark_mask"] & batch["reference_landmark_mask"][:, 0]
        side, values = batch["hq"].shape[-1], []
        for seen in probe.seen.values():
            grid = math.isqrt(seen.query.shape[2])
            for sample, pairs in enumerate(known):
                cells, inside = landmark_cells(batch["landmarks"][sample][pairs], side, grid)
                points = batch["reference_landmarks"][sample, 0][pairs][inside]
                cells = (cells[:, 1] * grid + cells[:, 0])[inside]
                corners, weights = bilinear_cells(points, side, grid)  # (K, 4)
                query, key = seen.query[sample].float(), seen.key[sample, :, : grid**2].float()  # (h, N, d)
                rows, row_of_point = cells.unique(return_inverse=True)
                logits = query[:, rows] @ key.transpose(1, 2) / query.shape[-1] ** 0.5  # (h, rows, N)
                log_attention = logits.log_softmax(-1)[:, row_of_point[:, None], corners]  # (h, K, 4)
                values.append(-(weights * log_attention).sum(-1).flatten())
        return torch.cat(values).mean()

    def _features(self, batch: RestorationBatch) -> ReferenceFeatures:
        """Keys and values of the references, with gradients: here both sides of the attention learn."""
        batch_size, count = batch["references"].shape[:2]
        latent = self._encode(batch["references"].flatten(0, 1))
        recorder = FeatureRecorder(self.num_shared)
        try:
            self._unet(latent, torch.ones(batch_size * count, dtype=torch.long, device=latent.device), recorder)
        except ReferencePassComplete:
            pass
        return recorder.features(count, batch["reference_mask"])

    @torch.no_grad()
    def _encode(self, faces: torch.Tensor) -> torch.Tensor:
        """Scaled latents (F, C, h, w); each face is encoded once in a training, since the VAE stays as it is."""
        names = [hashlib.blake2b(face.cpu().numpy().tobytes(), digest_size=16).digest() for face in faces]
        for name, face in zip(names, faces, strict=True):
            if name not in self._latents:  # one at a time, so that its bits do not depend on the company
                encoded = self.vae.encode(face[None].contiguous(memory_format=torch.channels_last)).latent_dist.mean
                self._latents[name] = (encoded[0].float() * self.vae.config.scaling_factor).half().cpu()
        return torch.stack([self._latents[name].float() for name in names]).to(faces.device)

    def _unet(self, latent, steps, reference, probe=None) -> torch.Tensor:
        prompt = self.prompt.expand(len(latent), -1, -1)
        shared = {"reference": reference, "probe": probe}
        return self.network(latent, steps, prompt, cross_attention_kwargs=shared).sample

    def export(self, network: UNet2DConditionModel, folder: Path) -> None:
        network.half().save_pretrained(folder / "unet")
        shutil.copytree(self.vae_folder, folder / "vae", dirs_exist_ok=True)
        write_constant_parts(folder, self.prompt)


def bilinear_cells(points: torch.Tensor, size_px: int, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The four cells whose centres surround each point, and the point's bilinear weights in them.

    Args:
        points: (K, 2) x, y in pixels of a ``size_px`` square image, pixel centres at integers.
        grid: cells per side.

    Returns:
        flat cell numbers ``y * grid + x`` (K, 4) int64 and weights (K, 4) that sum to 1; beyond the outermost centres
        the nearest ones count.
    """
    position = ((points + 0.5) * (grid / size_px) - 0.5).clamp(0, grid - 1)
    low = position.floor().clamp(max=grid - 2)
    share = position - low
    x, y = low.long().unbind(-1)
    right, down = share.unbind(-1)
    cells = torch.stack([y * grid + x, y * grid + x + 1, (y + 1) * grid + x, (y + 1) * grid + x + 1], dim=-1)
    left, up = 1 - right, 1 - down
    return cells, torch.stack([up * left, up * right, down * left, down * right], dim=-1)
