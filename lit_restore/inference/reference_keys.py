"""Keys and values of the chosen references: from the cache on disk, or computed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lit_restore.image import to_tensor
from lit_restore.models.checked_file import CacheNotes
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.models.reference_cache import ReferenceCache


def default_cache_folder() -> Path:
    """Where references' keys and values are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lit_restore" / "references"


@torch.inference_mode()
def reference_keys(
    generator: OneStepGenerator, crops: Sequence[np.ndarray], seed: int, cache: ReferenceCache | None, notes: CacheNotes
) -> ReferenceFeatures | None:
    """What the references (uint8 (S, S, 3) each) give, a batch of one; the same bits with a cache and without."""
    if cache is not None:
        return cache.features(generator, crops, seed=seed, notes=notes)
    if not crops or not generator.config.use_references:
        return None
    device = generator.prompt_embedding.device
    draw = fixed_noise(seed, device)
    # One by one, as the cache does: photos in one batch round differently.
    each = [generator.reference_features(to_tensor(crop)[None, None].to(device), draw=draw) for crop in crops]
    notes.computed += len(crops)
    layers = range(len(generator.shared_layers))
    return ReferenceFeatures(
        *([torch.cat([getattr(one, kind)[i] for one in each], dim=1) for i in layers] for kind in ("keys", "values"))
    )
