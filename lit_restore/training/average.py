"""Exponential moving average of the trained weights, for a calmer model than the last step's.

    a_0 = w_0,   a_i = d_i a_{i-1} + (1 - d_i) w_i,   d_i = min(decay, (1 + i) / (10 + i))

The decay grows with the iterations, so that the untrained weights are soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from lit_restore.errors import UserError


class WeightAverage(nn.Module):
    """The average of named parameters; its buffers travel between devices with the module it belongs to.

    Args:
        parameters: name -> parameter, as it is at the start of the average.
        decay: in (0, 1); the window is about 1 / (1 - decay) iterations.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise UserError("bad decay of the weights' average", where="ema_decay", expected="0 = off, or below 1")
        self.decay = decay
        self._depth = 0
        self._names = list(parameters)
        self._parameters_of = tuple(parameters.values())  # a tuple, since they are another module's
        for index, parameter in enumerate(self._parameters_of):
            self.register_buffer(f"{index}", parameter.detach().clone(), persistent=False)

    @property
    def _values(self) -> list[torch.Tensor]:
        return [self._buffers[f"{index}"] for index in range(len(self._names))]

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Take in the weights after the update number ``iteration`` (from 1)."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        for value, parameter in zip(self._values, self._parameters_of, strict=True):
            value.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew at the present weights."""
        for value, parameter in zip(self._values, self._parameters_of, strict=True):
            value.copy_(parameter)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, or blocks, the parameters hold their averages.

        Not for between a forward pass and its backward.
        """
        if self._depth == 0:
            self._swap()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._swap()

    def _swap(self) -> None:
        for index, parameter in enumerate(self._parameters_of):
            average = self._buffers[f"{index}"]
            self._buffers[f"{index}"], parameter.data = parameter.data, average

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:
        """Averages under the parameters' names."""
        return dict(zip(self._names, self._values, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor], *args: object, **kwargs: object) -> None:
        """Load what `state_dict` gave.

        Raises:
            UserError: the average of other parameters.
        """
        if set(state) != set(self._names):
            raise UserError(
                "the checkpoint's weight average is of other parameters",
                expected=f"{len(self._names)} tensors",
                found=len(state),
                fix="Use the configuration the weights were trained with.",
            )
        for name, value in zip(self._names, self._values, strict=True):
            value.copy_(state[name])
