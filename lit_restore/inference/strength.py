"""How much of the references' identity enters a face.

    clean = (1 - strength) clean_without + strength clean_with

in the latent, before the one decode. At 1 and 0 there is one pass, and the result is to the last bit that of the
restorer with or without references; in between there are two. Blending in the latent rather than mixing inside of the
attention shows the networks only what they were trained on.
"""

from __future__ import annotations

import torch

from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.reference_attention import ReferenceFeatures


@torch.inference_mode()
def restore_faces(
    generator: OneStepGenerator,
    lq: torch.Tensor,
    features: ReferenceFeatures | None,
    strength: float,
    seed: int,
    probe: AttentionProbe | None = None,
) -> torch.Tensor:
    """Restore (B, 3, S, S) in [-1, 1].

    Args:
        features: of the references; None = none.
        strength: 0 = as without references, 1 = as the restorer was trained.
        seed: of the noise.
        probe: afterwards knows the attention to the references.
    """
    draw = fixed_noise(seed, lq.device)
    latent = generator.encode(lq, draw, "posterior", False)
    if features is None or strength == 0:
        return generator.decode(generator.denoise(latent, None, timestep=None, draw=draw))
    clean = generator.denoise(latent, features, timestep=None, draw=draw, probe=probe)
    if strength < 1:
        blind = generator.denoise(latent, None, timestep=None, draw=draw)
        clean = torch.lerp(blind, clean, strength)
    return generator.decode(clean)
