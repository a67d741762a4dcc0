"""Seeds of one sample (degradations.md section 6.2).

Everything random about a degraded image is a function of (dataset seed, sample key, epoch). The legacy
``RandomState`` is used on purpose: NumPy freezes its streams, those of ``Generator`` may change between releases.
"""

from __future__ import annotations

import hashlib

import numpy as np

SCHEME = "lit-restore/degrade/v1"


def derive_words(seed: int, key: str, epoch: int, stage: int = 0) -> tuple[int, ...]:
    """Eight uint32 words: SHA-256 of the NUL-separated scheme, seed, key and epoch, read little-endian.

    Words 0-3 seed the parameters, words 4-7 the noise. Later stages of a degradation that has several append their
    number to the message, so that the first stage never depends on how many follow.
    """
    parts = [SCHEME, str(seed), key, str(epoch)]
    if stage:
        parts.append(str(stage))
    digest = hashlib.sha256("\0".join(parts).encode("utf-8")).digest()
    return tuple(int(word) for word in np.frombuffer(digest, "<u4"))


def parameter_uniforms(words: tuple[int, ...], count: int) -> list[float]:
    """``count`` numbers uniform on ``[0, 1)`` from words 0-3; asking for more never changes the first ones."""
    return np.random.RandomState(np.array(words[:4], np.uint32)).random_sample(count).tolist()


def noise_seed(words: tuple[int, ...]) -> list[int]:
    """Words 4-7, the seed of the noise field as it stands in a record."""
    return list(words[4:])
