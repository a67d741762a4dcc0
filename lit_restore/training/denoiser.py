"""Recipe of the bundled UNet: a small latent diffusion model of faces, the stand-in for SD-Turbo."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.base import load_unet, load_vae
from lit_restore.models.random_base import SCHEDULER, write_constant_parts
from lit_restore.models.reference_attention import (
    FeatureRecorder,
    ReferencePassComplete,
    SharingOptions,
    share_decoder_attention,
)
from lit_restore.models.schedule import NoiseSchedule
from lit_restore.training.correspondence import find_places, moved_copies
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.pretraining import PretrainingModule
from lit_restore.training.taught_attention import TaughtAttentionProcessor, TaughtFeatures, place_loss
from lit_restore.types import RestorationBatch


class DenoiserModule(PretrainingModule):
    """Train a UNet to predict the noise in latents of faces (DDPM, Ho et al. 2020, eq. 14), and to look things up.

    A text-to-image model learns from billions of pictures what faces of every quality look like and which parts of two
    photos correspond; a network of this size does not. So for a share of the batches the decoder's self-attention
    looks into another photo of the same person, the way InstantRestore will use it, and is told where:

        z_t  = sqrt(abar_t) z' + sqrt(1 - abar_t) noise,     z' the latent of the face or of a degraded copy of it
        z_0  = (z_t - sqrt(1 - abar_t) predicted) / sqrt(abar_t)
        loss = mean |z - z_0|^2 + w CE(place, attention)

    at the noise levels t from which one step restores. Details are lost in degraded and noisy latents alike; only the
    other photo shows them. Sometimes that photo is the face itself, turned, moved and in another light: the shortest
    lesson in copying. Each query is handed the values of its place while its attention learns that place
    (`lit_restore.training.taught_attention`).

    Args:
        output: folder for the base: ``unet/ vae/ prompt/ scheduler/``.
        vae: folder of a trained VAE; copied into the base.
        widths: channels per level of the UNet.
        shared_probability: share of iterations with attention to other photos.
        shared_timesteps: noise levels of those, one drawn per photo.
        degraded_probability: share of those that start from degraded faces.
        moved_probability: share of those whose other photo is the face itself.
        attention_weight: w above.
        init: folder of a base to continue from.
        seed: of noise, noise levels, and which iterations do what.

    Raises:
        UserError: a noise level that does not exist, or no VAE in ``vae``.
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
        shared_probability: float = 0.9,
        shared_timesteps: list[int] = [249, 499],
        degraded_probability: float = 0.75,
        moved_probability: float = 0.5,
        attention_weight: float = 1.0,
        init: str | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, schedule="cosine"),
        max_iterations: int = 8000,
        ema_decay: float = 0.998,
        seed: int = 42,
    ) -> None:
        super().__init__(output, optimizer, max_iterations, ema_decay, seed)
        self.vae_folder = Path(vae)
        self.vae = load_vae(vae, vae)
        self.shared_probability, self.shared_timesteps = shared_probability, shared_timesteps
        self.degraded_probability, self.moved_probability = degraded_probability, moved_probability
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
        self.num_shared = len(share_decoder_attention(self.network, SharingOptions(), TaughtAttentionProcessor))
        self.schedule = NoiseSchedule.from_config(SCHEDULER)
        self.schedule.check(shared_timesteps, where="shared_timesteps")

    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        draws = self.draws("lesson")
        shared, degraded, moved = (
            draws.random() < share
            for share in (self.shared_probability, self.degraded_probability, self.moved_probability)
        )
        shared = shared and bool(batch["reference_mask"].any(1).all())
        latent = self._latents_of(batch["hq"])
        steps = self._timesteps(latent, self.shared_timesteps if shared else range(len(self.schedule)))
        noise = self.noise("latent", latent)
        if not shared:
            predicted = self._unet(self.schedule.add_noise(latent, noise, steps), steps, None)
            error = (predicted.float() - noise).pow(2).mean()
            return error, {"mse_alone": error.detach()}
        if moved:
            batch = moved_copies(batch, self.draws("move"), cells=latent.shape[-1])
        noisy = self.schedule.add_noise(self._encode(batch["lq"]) if degraded else latent, noise, steps)
        features, probe = self._features(batch, known=not moved), AttentionProbe(range(self.num_shared))
        predicted = self._unet(noisy, steps, features, probe)
        estimate = self.schedule.predict_clean(noisy, predicted.float(), steps)
        error = (estimate - latent).pow(2).mean()
        attention = place_loss(probe, features.places)
        name = f"{'degraded' if degraded else 'noisy'}_{'moved' if moved else 'other'}"
        values = {f"mse_{name}": error.detach(), f"attention_{name}": attention.detach()}
        return error + self.attention_weight * attention, values

    def _timesteps(self, latent: torch.Tensor, choices: Sequence[int]) -> torch.Tensor:
        draws = self.draws("timesteps", self.global_rank)
        return torch.tensor([draws.choice(choices) for _ in latent], device=latent.device)

    def _features(self, batch: RestorationBatch, known: bool) -> TaughtFeatures:
        """What the first references offer, with gradients (here both sides of the attention learn), and the places."""
        faces = batch["references"][:, 0]
        latent = self._latents_of(faces) if known else self._encode(faces)
        recorder = FeatureRecorder(self.num_shared)
        try:
            self._unet(latent, torch.ones(len(faces), dtype=torch.long, device=latent.device), recorder)
        except ReferencePassComplete:
            pass
        features = recorder.features(1, None)
        places = {cells: find_places(batch, math.isqrt(cells)) for cells in {key.shape[2] for key in features.keys}}
        return TaughtFeatures(features.keys, features.values, places=places)

    def _latents_of(self, faces: torch.Tensor) -> torch.Tensor:
        """As `_encode`, for clean photos: each is encoded once in a training, since the VAE stays as it is."""
        names = [hashlib.blake2b(face.cpu().numpy().tobytes(), digest_size=16).digest() for face in faces]
        for name, face in zip(names, faces, strict=True):
            if name not in self._latents:  # one at a time, so that its bits do not depend on the company
                self._latents[name] = self._encode(face[None])[0].half().cpu()
        return torch.stack([self._latents[name].float() for name in names]).to(faces.device)

    @torch.no_grad()
    def _encode(self, faces: torch.Tensor) -> torch.Tensor:
        """Scaled latents (F, C, h, w)."""
        encoded = self.vae.encode(faces.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        return encoded.float() * self.vae.config.scaling_factor

    def _unet(self, latent, steps, reference, probe=None) -> torch.Tensor:
        prompt = self.prompt.expand(len(latent), -1, -1)
        shared = {"reference": reference, "probe": probe}
        return self.network(latent, steps, prompt, cross_attention_kwargs=shared).sample

    def export(self, network: UNet2DConditionModel, folder: Path) -> None:
        network.register_to_config(_name_or_path="")  # where it began is nobody's business
        network.half().save_pretrained(folder / "unet")
        shutil.copytree(self.vae_folder, folder / "vae", dirs_exist_ok=True)
        write_constant_parts(folder, self.prompt)
