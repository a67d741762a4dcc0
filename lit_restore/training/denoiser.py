"""Recipe of the bundled UNet: a small latent diffusion model of faces, the stand-in for SD-Turbo."""

from __future__ import annotations

import hashlib
import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
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
    """Train a UNet to predict the noise in latents of faces (DDPM, Ho et al. 2020, eq. 14), and to look things up.

    A text-to-image model learns from billions of pictures what faces of every quality look like and which parts of two
    photos correspond; a network of this size does not. So for a share of the batches the decoder's self-attention
    looks into another photo of the same person, the way InstantRestore will use it, and is told by landmarks where:

        z_t  = sqrt(abar_t) z' + sqrt(1 - abar_t) noise,     z' the latent of the face or of a degraded copy of it
        z_0  = (z_t - sqrt(1 - abar_t) predicted) / sqrt(abar_t)
        loss = mean |z - z_0|^2 + w CE(landmark, attention)

    at the noise levels t from which one step restores. Details are lost in degraded and noisy latents alike; only the
    other photo shows them. Sometimes that photo is the face itself, turned, moved and in another light: the shortest
    lesson in copying, and one in which the place of every cell is known, not of landmarks alone.

    Args:
        output: folder for the base: ``unet/ vae/ prompt/ scheduler/``.
        vae: folder of a trained VAE; copied into the base.
        widths: channels per level of the UNet.
        shared_probability: share of iterations with attention to other photos.
        shared_timesteps: noise levels of those, one drawn per photo.
        degraded_probability: share of those that start from degraded faces.
        moved_probability: share of those whose other photo is the face itself.
        attention_weight: w above, of the cross entropy with the place of the same landmark in the other photo.
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
        moved_probability: float = 0.3,
        attention_weight: float = 0.1,
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
        self.num_shared = len(share_decoder_attention(self.network, SharingOptions(use_adain=True)))
        self.schedule = NoiseSchedule.from_config(SCHEDULER)
        self.schedule.check(shared_timesteps, where="shared_timesteps")

    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        draws = self.draws("lesson")
        shared, degraded, moved = (
            draws.random() < share
            for share in (self.shared_probability, self.degraded_probability, self.moved_probability)
        )
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
        probe = AttentionProbe(range(self.num_shared))
        predicted = self._unet(noisy, steps, self._features(batch, known=not moved), probe)
        estimate = self.schedule.predict_clean(noisy, predicted.float(), steps)
        error = (estimate - latent).pow(2).mean()
        attention = self._attention_loss(probe, batch)
        name = f"{'degraded' if degraded else 'noisy'}_{'moved' if moved else 'other'}"
        values = {f"mse_{name}": error.detach(), f"attention_{name}": attention.detach()}
        return error + self.attention_weight * attention, values

    def _timesteps(self, latent: torch.Tensor, choices: Sequence[int]) -> torch.Tensor:
        draws = self.draws("timesteps", self.global_rank)
        return torch.tensor([draws.choice(choices) for _ in latent], device=latent.device)

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

    def _features(self, batch: RestorationBatch, known: bool) -> ReferenceFeatures:
        """Keys and values of the references, with gradients: here both sides of the attention learn."""
        batch_size, count = batch["references"].shape[:2]
        faces = batch["references"].flatten(0, 1)
        latent = self._latents_of(faces) if known else self._encode(faces)
        recorder = FeatureRecorder(self.num_shared)
        try:
            self._unet(latent, torch.ones(batch_size * count, dtype=torch.long, device=latent.device), recorder)
        except ReferencePassComplete:
            pass
        return recorder.features(count, batch["reference_mask"])

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


def moved_copies(batch: RestorationBatch, draws: random.Random, cells: int) -> RestorationBatch:
    """The batch with every face's first reference replaced by the face itself, turned, scaled, shifted and recoloured.

    Turned by up to 20 degrees, scaled by up to 20 %, shifted by up to 12 % of the side, each colour channel with a
    contrast of 0.7 to 1.3 and a brightness of up to 0.3 of its own. Landmarks are the centres of a grid of ``cells`` x
    ``cells``, and known where the copy still shows them.
    """
    faces, side = batch["hq"], batch["hq"].shape[-1]
    to_source, colours = [], []
    for _ in faces:
        angle, scale = math.radians(draws.uniform(-20, 20)), draws.uniform(0.8, 1.2)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        to_source.append([[cos, -sin, draws.uniform(-0.24, 0.24)], [sin, cos, draws.uniform(-0.24, 0.24)]])
        colours.append([[draws.uniform(0.7, 1.3), draws.uniform(-0.3, 0.3)] for _ in range(3)])
    to_source = faces.new_tensor(to_source)  # (B, 2, 3), between coordinates that run from -1 to 1
    contrast, brightness = faces.new_tensor(colours)[..., None, None].unbind(2)
    grid = F.affine_grid(to_source, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    moved = (moved * contrast + brightness).clamp(-1, 1)
    middles = (2 * torch.arange(cells, device=faces.device) + 1) / cells - 1
    centres = torch.cartesian_prod(middles, middles).flip(-1)  # (K, 2) x, y, row by row
    copies = (centres - to_source[:, None, :, 2]) @ to_source[:, :, :2].inverse().transpose(1, 2)  # (B, K, 2)
    shown = (copies.abs() <= 1).all(-1)
    return batch | {
        "references": moved[:, None],
        "reference_mask": batch["reference_mask"].new_ones(len(faces), 1),
        "landmarks": _pixels(centres, side).expand_as(copies),
        "landmark_mask": torch.ones_like(shown),
        "reference_landmarks": _pixels(copies, side)[:, None],
        "reference_landmark_mask": shown[:, None],
    }


def _pixels(points: torch.Tensor, side: int) -> torch.Tensor:
    """Pixel coordinates of points between -1 and 1."""
    return ((points + 1) * side - 1) / 2


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
