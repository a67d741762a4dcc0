"""Which photo comes when: an endless seeded sequence for training, each photo once for evaluation.

Both derive from torch's ``DistributedSampler``, so that Lightning leaves them in place when it trains on
several devices (it replaces every other sampler by one that forgets epochs, stack.md 2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from lit_restore.data.references import random_state

DOMAIN = "lit-restore/order/v1"


class TrainSampler(DistributedSampler):
    """Exactly ``num_batches * batch_size`` (epoch, index) pairs per rank from a chain of seeded permutations.

    Position p of the chain is photo ``permutation(p // num_photos)[p % num_photos]``; rank r of W takes every
    W-th position from r on. Everything is a function of the seed, so a run that starts at ``start_batch``
    sees exactly what an unbroken run would have seen from there.

    ``len()`` counts the whole sequence, also after ``start_batch``: Lightning counts the batches of a resumed
    epoch from where it stopped, not from 0.
    """

    def __init__(
        self,
        num_photos: int,
        *,
        batch_size: int,
        num_batches: int,
        seed: int,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(range(num_photos), num_replicas=world_size, rank=rank, shuffle=True, seed=seed)
        self.num_photos = num_photos
        self.num_total = num_batches * batch_size
        self.start = start_batch * batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, order = -1, np.empty(0, int)
        for sample in range(self.start, self.num_total):
            position = sample * self.num_replicas + self.rank
            if position // self.num_photos != epoch:
                epoch = position // self.num_photos
                order = random_state(DOMAIN, self.seed, "", epoch).permutation(self.num_photos)
            yield epoch, int(order[position % self.num_photos])

    def __len__(self) -> int:
        return self.num_total


class EvalSampler(DistributedSampler):
    """Every photo exactly once over all ranks, in order; ranks may differ by one photo, none is repeated as
    padding."""

    def __init__(self, num_photos: int, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(num_photos), num_replicas=world_size, rank=rank, shuffle=False)
        self.indices = range(rank, num_photos, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
