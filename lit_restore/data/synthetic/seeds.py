"""Where all randomness of synthetic people comes from."""

from __future__ import annotations

import numpy as np


def random_state(domain: str, *keys: int) -> np.random.RandomState:
    """A generator that depends on the domain and the keys only, and whose stream numpy keeps frozen."""
    entropy = [int.from_bytes(domain.encode(), "little"), *keys]
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))
