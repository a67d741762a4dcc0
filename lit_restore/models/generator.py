"""The restorer: one encode, one look at the references, one denoising step, one decode (InstantRestore, figure 2).

    z      = encode(lq)                                   tuned VAE
    K, V   = self-attention keys and values of references frozen VAE and UNet
    z_t    = sqrt(abar_t) z + sqrt(1 - abar_t) noise
    z_0    = clean(z_t, UNet(z_t, t; K, V), t)            tuned UNet, shared attention
    image  = clamp(decode(z_0))                           tuned VAE

Tuned and frozen networks are the same modules with their adapters on and off.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lit_restore.errors import UserError, check_at_least
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.base import PROMPT, load_base
from lit_restore.models.reference_attention import (
    FeatureRecorder,
    ReferenceFeatures,
    ReferencePassComplete,
    SharingOptions,
    share_decoder_attention,
)

Draw = Callable[[str, torch.Size], torch.Tensor]
"""A source of standard-normal noise: (name of the draw, shape) -> tensor. See `seeded_noise`."""


@dataclass
class FreeU:
    """Re-weighting of decoder features (Si et al. 2023); the official code runs both UNets with these numbers."""

    s1: float = 0.9
    s2: float = 0.2
    b1: float = 1.4
    b2: float = 1.6


@dataclass
class GeneratorConfig:
    """Everything that decides what the generator computes; saved with its weights.

    Where paper and official code disagree the default is the paper's and the comment gives the code's value.
    """

    size_px: int = 512
    """Side of the faces it is trained on and restores."""
    base: str = "stabilityai/sd-turbo"
    """Stable-Diffusion-shaped folder, hub id, or bundled:NAME."""
    vae: str | None = None
    """Take the VAE from elsewhere (official: stabilityai/sd-vae-ft-mse)."""
    prompt: str = PROMPT
    lora_rank_unet: int = 32
    lora_rank_vae: int = 32
    lora_alpha_ratio: float = 0.5
    """LoRA alpha as a fraction of the rank (official: rank // 2)."""
    full_unet_layers: list[str] = field(default_factory=list)
    """UNet layers trained in full (official: [conv_in])."""
    full_vae_layers: list[str] = field(default_factory=lambda: ["encoder.conv_in"])
    """VAE layers trained in full (paper: the VAE's first convolution; official: none)."""
    use_references: bool = True
    """Share attention with the references at all."""
    use_adain: bool = True
    keep_own_keys: bool = False
    """Keep the restored image's own keys and values beside the references' (paper: always discarded)."""
    reference_noise: bool = False
    """Add noise at t = reference_timestep to the references' latents (official: true)."""
    reference_timestep: int = 1
    train_timesteps: list[int] = field(default_factory=lambda: [249, 499, 749])
    """One of these is drawn for every photo (paper, appendix A; official: one per batch, which is one photo)."""
    inference_timestep: int = 249
    add_noise: bool = True
    """Noise the input's latent to t before the step; off feeds the latent itself."""
    freeu: FreeU | None = None
    """FreeU in both UNets (paper: not mentioned; official: on)."""
    compat_zero_keys: bool = False
    """Reproduce a defect of the official code: missing references count as zero keys instead of not at all."""

    def __post_init__(self) -> None:
        check_at_least(1, "generator", size_px=self.size_px)
        check_at_least(0, "generator", lora_rank_unet=self.lora_rank_unet, lora_rank_vae=self.lora_rank_vae)


def seeded_noise(seed: int, *context: object, device: torch.device | str = "cpu") -> Draw:
    """Noise that is a pure function of (seed, context, name, shape), whatever was drawn before and on which device."""

    def draw(name: str, shape: torch.Size) -> torch.Tensor:
        message = "\0".join(str(part) for part in ("lit-restore/noise/v1", seed, *context, name))
        words = hashlib.sha256(message.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(words[:8], "little") >> 1)
        return torch.randn(shape, generator=generator).to(device)

    return draw


def fixed_noise(seed: int = 0, device: torch.device | str = "cpu") -> Draw:
    """Noise for evaluation: every sample gets the same field, so results do not depend on how photos are batched."""
    source = seeded_noise(seed, "fixed", device=device)
    return lambda name, shape: source(name, torch.Size((1, *shape[1:]))).expand(shape)


class OneStepGenerator(nn.Module):
    """Restore degraded faces in one step, guided by any number of reference photos.

    Image sides must be multiples of ``side_multiple`` (64 for SD-Turbo).

    Args:
        config: what it computes.
        seed: of the random start of the LoRA matrices; irrelevant where trained ones are loaded.
    """

    def __init__(self, config: GeneratorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.origin: dict[str, Any] = {}
        """What the file it was loaded from says of how it came about, such as the iterations of training."""
        base = load_base(config.base, vae=config.vae, prompt=config.prompt)
        self.base_fingerprint = base.fingerprint
        self.schedule = base.schedule
        self.unet, self.vae = base.unet, base.vae
        self._check_config()
        self.register_buffer("prompt_embedding", base.prompt_embedding, persistent=False)
        if config.freeu is not None:
            self.unet.enable_freeu(**vars(config.freeu))
        self.shared_layers = share_decoder_attention(
            self.unet,
            SharingOptions(
                use_adain=config.use_adain,
                keep_own=config.keep_own_keys,
                compat_zero_keys=config.compat_zero_keys,
            ),
        )
        self.unet_adaptation = Adaptation(
            self.unet,
            rank=config.lora_rank_unet,
            alpha=math.floor(config.lora_rank_unet * config.lora_alpha_ratio),
            targets=UNET_LORA_TARGETS,
            name="default",
            full_layers=config.full_unet_layers,
            seed=seed,
        )
        self.vae_adaptation = Adaptation(
            self.vae,
            rank=config.lora_rank_vae,
            alpha=math.floor(config.lora_rank_vae * config.lora_alpha_ratio),
            targets=VAE_LORA_TARGETS,
            name="vae_skip",
            full_layers=config.full_vae_layers,
            seed=seed,
        )

    def _check_config(self) -> None:
        """Refuse what this base cannot do."""
        config = self.config
        self.schedule.check(config.train_timesteps, where="train_timesteps")
        self.schedule.check([config.inference_timestep], where="inference_timestep")
        self.schedule.check([config.reference_timestep], where="reference_timestep")
        self._check_sides(config.size_px, config.size_px, where="size_px")

    def _check_sides(self, height: int, width: int, where: str | None = None) -> None:
        multiple = self.side_multiple
        if height % multiple or width % multiple:
            expected = f"sides that are multiples of {multiple}"
            raise UserError(
                "the base cannot work at this size", where=where, expected=expected, found=f"{height}x{width}"
            )

    @property
    def adaptations(self) -> dict[str, Adaptation]:
        return {"unet": self.unet_adaptation, "vae": self.vae_adaptation}

    @property
    def weights_fingerprint(self) -> str:
        """Hash of everything that was trained; tells two models on one base apart."""
        return "".join(adaptation.fingerprint() for adaptation in self.adaptations.values())

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks: float32, or less where `lit_restore.models.inference_form` made it less."""
        return next(self.unet.parameters()).dtype

    @property
    def vae_factor(self) -> int:
        """Image pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def side_multiple(self) -> int:
        """Image sides must be divisible by this."""
        return self.vae_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def forward(
        self,
        lq: torch.Tensor,
        references: torch.Tensor | ReferenceFeatures | None = None,
        reference_mask: torch.Tensor | None = None,
        *,
        timestep: int | torch.Tensor | None = None,
        draw: Draw,
        sample_posterior: bool = False,
        probe: AttentionProbe | None = None,
    ) -> torch.Tensor:
        """Restore.

        Args:
            lq: (B, 3, H, W) in [-1, 1].
            references: (B, R, 3, H, W) in [-1, 1], or features from `reference_features`; None or R = 0: none.
            reference_mask: (B, R) bool, True = real.
            timestep: noise level of the step, one for all or (B,) int64; None = the configured one for inference.
            draw: source of noise.
            sample_posterior: sample the VAE's posterior (training) rather than take its mode.
            probe: afterwards knows the shared attention of the layers it asks for.

        Returns:
            (B, 3, H, W) in [-1, 1].
        """
        if isinstance(references, torch.Tensor):
            references = self.reference_features(
                references, reference_mask, draw=draw, sample_posterior=sample_posterior
            )
        latent = self.encode(lq, draw, "posterior", sample_posterior)
        clean = self.denoise(latent, references, timestep=timestep, draw=draw, probe=probe)
        return self.decode(clean)

    def encode(self, images: torch.Tensor, draw: Draw, name: str, sample: bool) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f)."""
        self._check_sides(*images.shape[-2:])
        posterior = self.vae.encode(images.to(self.dtype)).latent_dist
        latent = posterior.mean
        if sample:
            latent = latent + posterior.std * draw(name, latent.shape).to(latent)
        return latent * self.vae.config.scaling_factor

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Scaled latents -> images, clamped to [-1, 1] as in the official code."""
        return self.vae.decode((latent / self.vae.config.scaling_factor).to(self.dtype)).sample.clamp(-1, 1)

    def denoise(
        self,
        latent: torch.Tensor,
        features: ReferenceFeatures | None,
        *,
        timestep: int | torch.Tensor | None,
        draw: Draw,
        probe: AttentionProbe | None = None,
    ) -> torch.Tensor:
        """One step from the degraded latent to the clean one, (B, C, h, w), float32."""
        step = self.config.inference_timestep if timestep is None else timestep
        steps = torch.as_tensor(step, device=latent.device).expand(latent.shape[0])
        noisy = latent
        if self.config.add_noise:
            noisy = self.schedule.add_noise(latent, draw("noise", latent.shape).to(latent), steps)
        prediction = self._unet(noisy, steps, features, probe)
        return self.schedule.predict_clean(noisy, prediction, steps)

    @torch.no_grad()
    def reference_features(
        self,
        references: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        draw: Draw,
        sample_posterior: bool = False,
    ) -> ReferenceFeatures | None:
        """Keys and values of references (B, R, 3, H, W) from the frozen networks; None if there is nothing to share."""
        batch, count = references.shape[:2]
        if count == 0 or not self.config.use_references or (mask is not None and not bool(mask.any())):
            return None
        images = references.flatten(0, 1)
        recorder = FeatureRecorder(len(self.shared_layers))
        steps = torch.full((batch * count,), self.config.reference_timestep, device=images.device)
        # Where the networks are compiled: tracing them a second time, with other layers and an end in the middle, costs
        # more than it gives.
        eager = torch.compiler.set_stance("force_eager")
        with self.vae_adaptation.off(), self.unet_adaptation.off(), eager:
            latent = self.encode(images, draw, "reference_posterior", sample_posterior)
            if self.config.reference_noise:
                noise = draw("reference_noise", latent.shape).to(latent)
                latent = self.schedule.add_noise(latent, noise, steps)
            try:
                self._unet(latent, steps, recorder)
            except ReferencePassComplete:
                pass
        return recorder.features(count, mask)

    def _unet(
        self,
        latent: torch.Tensor,
        steps: torch.Tensor,
        reference: FeatureRecorder | ReferenceFeatures | None,
        probe: AttentionProbe | None = None,
    ) -> torch.Tensor:
        prompt = self.prompt_embedding.to(latent).expand(latent.shape[0], -1, -1)
        travelling = {"reference": reference, "probe": probe}
        return self.unet(latent, steps, prompt, cross_attention_kwargs=travelling).sample
