"""Several processes, one training: every process ("rank") works on photos of its own, and all keep equal weights.

    gradient = (1 / W) sum_r gradient_r,   loss = (1 / W) sum_r loss_r     over W ranks,

once per update, so that W ranks give the gradients of one process with a batch W times as large. DDP's own hooks do the
same during the backward pass, one reduction per parameter and per call; here they are kept out, because

- two players take turns on one batch, and a reduction must not wait for the other's parameters;
- which parameters a batch uses differs between ranks (key adapters of shared layers are used only by photos without
  references; InstantRestore spec, D25);
- with accumulation one reduction per update is enough.

What is reduced at the end of the backward pass cannot overlap with it; for LoRA (40 million values) that is a few
hundredths of a second per update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lit_restore.errors import UserError

CHUNK = 2**24
"""Values reduced at once: bounds the memory for the copy."""


def count() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def prepare(module: LightningModule, trainer: Trainer) -> None:
    """Call in ``setup``, before the strategy wraps the module.

    Raises:
        UserError: the strategy spreads one model over several devices.
    """
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise UserError(
            "this strategy cannot train two players by hand",
            where="trainer.strategy",
            expected="auto, or ddp for several devices",
            found=type(trainer.strategy).__name__,
        )
    if isinstance(trainer.strategy, SingleDeviceStrategy):
        return
    # All but one parameter, which DDP insists on: it would hold a second copy of every gradient, send the frozen
    # networks around at the start, and the buffers before every forward pass, also when ranks have unequal shares of
    # the validation photos, where it would wait for ever.
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in trained[:1]]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


def broadcast(tensors: Iterable[torch.Tensor]) -> None:
    """Give every rank the values of rank 0."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def local_gradients(trainer: Trainer) -> AbstractContextManager:
    """Within the block backward passes leave this rank's own gradients."""
    wrapped = trainer.strategy.model
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()


def _all_reduce(values: torch.Tensor, operation: dist.ReduceOp = dist.ReduceOp.SUM) -> None:
    """In place, over all ranks."""
    try:
        dist.all_reduce(values, operation)
    except RuntimeError as error:
        raise UserError(
            "another process of this training has stopped",
            found=str(error).split("] ", 1)[-1].split(". ")[0][:150],
            fix="Its own message says why; the same command continues from the last checkpoint.",
        ) from None


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Put the mean over all ranks into every gradient; a parameter that no rank used keeps having none."""
    if count() == 1:
        return
    uses = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    _all_reduce(uses)
    used = [parameter for parameter, count in zip(parameters, uses.tolist(), strict=True) if count > 0]
    for chunk in _chunks(used):
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in chunk]
        flat = torch.cat([part.flatten().float() for part in parts])
        _all_reduce(flat)
        flat /= count()
        for parameter, part, mean in zip(chunk, parts, flat.split([p.numel() for p in chunk]), strict=True):
            parameter.grad = part.copy_(mean.view_as(part))


def _chunks(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    chunk: list[nn.Parameter] = []
    for parameter in parameters:
        if chunk and sum(p.numel() for p in chunk) + parameter.numel() > CHUNK:
            yield chunk
            chunk = []
        chunk.append(parameter)
    if chunk:
        yield chunk


def mean(values: torch.Tensor) -> torch.Tensor:
    """Mean over all ranks; NaN and infinity of one rank reach all."""
    if count() > 1:
        _all_reduce(values)
        values = values / count()
    return values


def gather(value: object) -> list[object]:
    """Every rank's value, in order of ranks."""
    if count() == 1:
        return [value]
    values: list[object] = [None] * count()
    dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def check_equal(tensors: Iterable[torch.Tensor], iteration: int) -> None:
    """Stop unless all ranks hold the same bits.

    The sum of all bit patterns, read as whole numbers, is exact whatever the order; a difference anywhere changes it.

    Raises:
        UserError: the ranks have drifted apart; on all of them.
    """
    if count() == 1:
        return
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
    checksum = torch.stack([tensor.view(whole[tensor.element_size()]).sum(dtype=torch.int64) for tensor in tensors])
    highest = torch.stack([checksum.sum(), -checksum.sum()])
    _all_reduce(highest, dist.ReduceOp.MAX)
    if highest[0] != -highest[1]:
        raise UserError(
            "the weights of the processes have drifted apart",
            where=f"iteration {iteration}",
            expected=f"the same bits on all {count()} ranks",
            fix="Continue from the last checkpoint; if it happens again, one device computes wrongly or a callback "
            "changes weights on one rank.",
        )
