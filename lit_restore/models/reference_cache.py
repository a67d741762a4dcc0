"""Reference keys and values on disk, so that a second photo of a person costs no reference work.

What a reference photo gives is a function of the photo and the frozen networks alone (no other reference and no
degraded photo takes part), so there is one file per photo, and any choice among a person's photos is put together:

    FOLDER/<sha256 of the key>.safetensors      key.0 value.0 key.1 ...    (N, C) each, in the precision of the model

The key holds everything that decides the values: whatever changes, changes the name, and an old file is never asked for
again. Each file carries its key and a checksum; one that does not fit is computed anew and replaced.
Files appear whole or not at all, so any number of processes may share a folder; two that miss the same photo at once
both compute it and the last one stays.

At 512 px SD-Turbo's nine layers take 13.8 million numbers per photo: 55 MB in float32, 28 MB in 16 bits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from lit_restore.image import to_tensor
from lit_restore.models.checked_file import CacheNotes, find_entry, keep_entry
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.models.tensor_file import State

FORMAT = 2


class ReferenceCache:
    """Keys and values of reference photos, from disk where they are there.

    Args:
        folder: made when first written to; may be shared by models, people and processes, and deleted at any time.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    def features(
        self,
        generator: OneStepGenerator,
        photos: Sequence[np.ndarray],
        *,
        seed: int = 0,
        notes: CacheNotes | None = None,
    ) -> ReferenceFeatures | None:
        """What `OneStepGenerator.reference_features` gives for these photos of one person.

        Photos are looked at one by one, so the values of one do not depend on which others are asked for, to the last
        bit on one machine.

        Args:
            generator: in any form (`lit_restore.models.inference_form` or not), on any device.
            photos: aligned faces, uint8 RGB (S, S, 3), S as the generator works with.
            seed: of the references' noise; only matters to models with ``reference_noise``.
            notes: filled with what was found, computed and rebuilt.

        Returns:
            keys and values of a batch of one, (1, R, N, C) per layer, on the generator's device; None without photos
            or where the model uses no references.
        """
        notes = notes if notes is not None else CacheNotes()
        if not photos or not generator.config.use_references:
            return None
        common = _common_key(generator, seed)
        entries = [self._entry(generator, photo, common, seed, notes) for photo in photos]
        device = generator.prompt_embedding.device
        layers = range(len(generator.shared_layers))
        # Stacking also moves the values into memory of torch's own alignment, on which the last bits depend.
        keys, values = (
            [torch.stack([entry[f"{kind}.{layer}"] for entry in entries])[None].to(device) for layer in layers]
            for kind in ("key", "value")
        )
        return ReferenceFeatures(keys, values)

    def size_bytes(self) -> int:
        """What the files take on disk, all models and people together."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _entry(
        self, generator: OneStepGenerator, photo: np.ndarray, common: dict[str, object], seed: int, notes: CacheNotes
    ) -> State:
        key = json.dumps(common | {"photo": _digest(photo)}, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
        found = find_entry(path, key, notes)
        if found is not None:
            return found[0]
        entry = _compute(generator, photo, seed)
        keep_entry(path, entry, key, notes)
        return entry


def _common_key(generator: OneStepGenerator, seed: int) -> dict[str, object]:
    """Everything besides the photo that the stored values depend on.

    Base, VAE and prompt count by their numbers, not by where they come from. The device counts since the last bits
    differ between kinds. The trained weights do not enter the reference pass; they are here so that nothing of an
    earlier model is ever used with a later one.
    """
    config = generator.config
    return {
        "format": FORMAT,
        "model": generator.weights_fingerprint,
        "base": generator.base_fingerprint,
        "prompt": _digest(generator.prompt_embedding.float().cpu().numpy()),
        "layers": generator.shared_layers,
        "timestep": config.reference_timestep,
        "noise": seed if config.reference_noise else None,
        "freeu": asdict(config.freeu) if config.freeu else None,
        "vae_tile_px": generator.vae.tile_sample_min_size if generator.vae.use_tiling else None,
        "dtype": str(generator.dtype),
        "device": generator.prompt_embedding.device.type,
    }


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.tobytes()).hexdigest()


@torch.inference_mode()
def _compute(generator: OneStepGenerator, photo: np.ndarray, seed: int) -> State:
    device = generator.prompt_embedding.device
    features = generator.reference_features(to_tensor(photo)[None, None].to(device), draw=fixed_noise(seed, device))
    assert features is not None  # the photo is there, and `features` has asked the configuration
    return {
        f"{kind}.{layer}": tensor[0, 0].cpu().contiguous()
        for kind, tensors in (("key", features.keys), ("value", features.values))
        for layer, tensor in enumerate(tensors)
    }
