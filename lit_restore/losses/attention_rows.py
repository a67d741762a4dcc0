r"""Distance between chosen rows of an attention map and where they should look, without ever holding the map.

One photo, one layer: queries Q (h, N, d), keys K (h, M, d), among them N of each reference, and

    P = softmax(S),   S = Q K^T / sqrt(d).

Supervised are few rows i, and of each only the keys j of one reference c. With target T the loss is

    l2             mean_{h,i,j} (P~_ij - T_ij)^2
    cross_entropy  mean_{h,i} - sum_j T_ij log P~_ij

where the scaling that ~ stands for is

    minmax   (P - min P) / (max P - min P), over the map as in the public code or over the supervised rows; minimum
             and maximum carry gradient
    row_sum  P_ij / sum_{j in c} P_ij: where to look in this reference, whatever the weight of the others
    none     P itself

**How it stays small.** Rows are computed a few at a time and forgotten. The gradient with respect to the queries is
computed in the forward pass already, where the probabilities are at hand, and only it is kept, (h, N, d). With
g = dL/dP, which is zero outside of reference c,

    dL/dq_i = (sum_{j in c} P_ij g_ij K_j - delta_i m_i) / sqrt(d)
    delta_i = sum_{j in c} P_ij g_ij,   m_i = sum_j P_ij K_j,

so all M keys are needed only for the normaliser of a row and its mean key m_i. References are frozen, their keys need
no gradient; the restored image's own keys do, where they take part: dL/dK_j = - sum_i delta_i P_ij q_i / sqrt(d).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from lit_restore.models.attention_probe import SampleAttention

Scaling = Literal["minmax", "row_sum", "none"]
Distance = Literal["l2", "cross_entropy"]
Extremes = Literal["rows", "map"]

# Probabilities in work at a time: on a CPU they should stay in its cache, a GPU wants large pieces.
PIECE = {"cpu": 2**20, "cuda": 2**25}
FEWEST_ROWS = 256
SMALLEST_RANGE = 1e-8  # of probabilities; a perfectly even map has none, and nothing to be scaled


class RowTarget(NamedTuple):
    """Where some queries should look in one reference."""

    cells: torch.Tensor
    """(K,) int64 query cells, K > 0, each once."""
    values: torch.Tensor
    """(K, N) float32, T over the reference's cells, scaled like P; under cross_entropy each row sums to 1."""
    start: int
    """Position of the reference's first cell among the keys."""


def attention_row_loss(
    attention: SampleAttention,
    targets: Sequence[RowTarget],
    *,
    scaling: Scaling = "minmax",
    distance: Distance = "l2",
    extremes: Extremes = "rows",
) -> torch.Tensor:
    """The loss of the module's text, averaged over ``targets``; a scalar, differentiable once.

    Args:
        attention: queries and keys of one photo at one layer.
        targets: at least one.
        scaling, distance: see the module's text; there is no cross entropy of min-max scaled maps, as they are no
            distributions.
        extremes: where ``minmax`` looks for minimum and maximum of P: in all keys of the supervised ``rows``, or in the
            whole ``map`` as the public code does, which costs another product of all queries and keys.
    """
    if (scaling, distance) == ("minmax", "cross_entropy"):
        raise ValueError("cross_entropy compares distributions; min-max scaled maps are none")
    own = attention.key[:, : attention.num_own]
    key = attention.key.detach()
    options = _Options(scaling, distance, extremes)
    return _RowLoss.apply(attention.query, own, key, tuple(targets), options)


class _Options(NamedTuple):
    """See `attention_row_loss`."""

    scaling: Scaling
    distance: Distance
    extremes: Extremes


class _RowLoss(torch.autograd.Function):
    """Value and gradient in one go."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        own: torch.Tensor,
        key: torch.Tensor,
        targets: Sequence[RowTarget],
        options: _Options,
    ) -> torch.Tensor:
        with torch.autocast(query.device.type, enabled=False):
            scale = query.shape[-1] ** -0.5
            rows = _Rows(query, key, own.shape[1] if ctx.needs_input_grad[1] else 0)
            if options.scaling == "row_sum":
                value = sum(rows.conditional(target, options.distance) for target in targets)
            else:
                value = rows.joint(targets, options)
        weight = 1 / len(targets)
        ctx.save_for_backward(rows.query_gradient * (scale * weight), rows.own_gradient * weight)
        ctx.dtypes = query.dtype, own.dtype
        return value * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, own = ctx.saved_tensors
        # Multiplied before rounding: under fp16 the upstream gradient carries the loss scale.
        own = (own * upstream).to(ctx.dtypes[1]) if ctx.needs_input_grad[1] else None
        return (query * upstream).to(ctx.dtypes[0]), own, None, None, None


class _Rows:
    """Value and gradient of the loss, a few rows and heads at a time.

    Args:
        query: (h, N, d).
        key: (h, M, d).
        num_own: so many of the first keys get a gradient.
    """

    def __init__(self, query: torch.Tensor, key: torch.Tensor, num_own: int) -> None:
        # Logits in single precision whatever the network computes in: in bfloat16 they are off by some per cent. Sums
        # of keys may be in the network's, once what all keys have in common, which moves no probability, is taken off.
        dtype = torch.promote_types(query.dtype, torch.float32)
        self.query, self.key = query.to(dtype) * query.shape[-1] ** -0.5, key.to(dtype)
        if key.dtype != dtype:
            self.key.sub_(self.key.mean(1, keepdim=True))
        self.key_to_sum = self.key.to(key.dtype)
        self.query_gradient = torch.zeros_like(self.query)
        self.own_gradient = torch.zeros_like(self.key[:, :num_own])
        # A piece is few heads rather than few rows: products of thin matrices are slow.
        num_heads, num_cells, _ = query.shape
        size = max(PIECE.get(query.device.type, PIECE["cuda"]) // num_cells, 1)  # rows in work, over all heads
        heads = max(1, min(num_heads, size // FEWEST_ROWS))
        self._piece_shape = heads, max(1, size // heads)
        # Written over and over: fresh memory costs a CPU more than what is computed in it.
        self._buffers = self.query.new_empty(2, heads * min(self._piece_shape[1], num_cells) * num_cells)

    def conditional(self, target: RowTarget, distance: Distance) -> torch.Tensor:
        """Loss of rows which are distributions over one reference's cells."""
        value, count = self.query.new_zeros(()), len(self.query) * len(target.cells)
        if distance == "l2":
            count *= target.values.shape[1]
        for heads, part in self._pieces(len(target.cells)):
            cells, keys, goal = target.cells[part], self._keys_of(target), target.values[part]
            logits = self._logits(self.query[heads, cells], self.key[heads, keys])
            probability = torch.softmax(logits, dim=-1, out=self._buffer(1, logits.shape))
            if distance == "cross_entropy":
                value += (torch.logsumexp(logits, dim=-1) - (logits * goal).sum(-1)).sum()
                slope = probability.sub_(goal)
            else:
                slope = torch.sub(probability, goal, out=logits)
                value += torch.dot(slope.flatten(), slope.flatten())
                pull = torch.linalg.vecdot(probability, slope)
                slope.sub_(pull[..., None]).mul_(probability).mul_(2)
            self.query_gradient[heads].index_add_(1, cells, self._sum_keys(slope, heads, keys), alpha=1 / count)
        return value / count

    def joint(self, targets: Sequence[RowTarget], options: _Options) -> torch.Tensor:
        """Loss of rows which are distributions over all keys, min-max scaled or not."""
        shape = self.query.shape[:2]
        self.log_sum = self.query.new_zeros(shape)
        """(h, N) log sum_j exp S_ij; this and the next three are filled for the rows in use."""
        self.lowest, self.highest = self.query.new_full(shape, torch.inf), self.query.new_full(shape, -torch.inf)
        """(h, N) min_j and max_j P_ij."""
        self.mean_key = torch.zeros_like(self.query)
        """(h, N, d) m_i."""
        self.pull = self.query.new_zeros(shape)
        """(h, N) delta_i."""
        supervised = self.query.new_zeros(shape[1], dtype=torch.bool)
        for target in targets:
            supervised[target.cells] = True
        cells = supervised.nonzero().flatten()
        self._look_at_all_keys(cells, mean_key=True)
        if (options.scaling, options.extremes) == ("minmax", "map"):
            self._look_at_all_keys((~supervised).nonzero().flatten(), mean_key=False)
        if options.distance == "cross_entropy":
            value = sum(self._cross_entropy(target) for target in targets)
        elif options.scaling == "none":
            zero, one = self.query.new_tensor([0.0, 1.0])
            value = sum(self._squares(target, zero, one)[0] for target in targets)
        else:
            value = self._min_max_squares(targets)
        self.query_gradient -= self.pull[..., None] * self.mean_key
        self._pass_on_to_own_keys(cells)
        return value

    def _look_at_all_keys(self, cells: torch.Tensor, mean_key: bool) -> None:
        """Normaliser, range and mean key of some rows: first of each image's N keys, then of all together."""
        num_cells = self.query.shape[1]
        for heads, part in self._pieces(len(cells)):
            rows = cells[part]
            query = self.query[heads, rows]
            log_sums, lowest, highest, mean_keys = [], [], [], []
            for start in range(0, self.key.shape[1], num_cells):
                keys = slice(start, start + num_cells)
                logits = self._logits(query, self.key[heads, keys])
                largest = logits.amax(-1)
                probability = torch.softmax(logits, dim=-1, out=self._buffer(1, logits.shape))
                lowest.append(probability.amin(-1))
                highest.append(probability.amax(-1))
                log_sums.append(largest - highest[-1].log())
                if mean_key:
                    mean_keys.append(self._sum_keys(probability, heads, keys))
            log_sum = torch.stack(log_sums)  # (images, ., .)
            self.log_sum[heads, rows] = torch.logsumexp(log_sum, dim=0)
            share = (log_sum - self.log_sum[heads, rows]).exp()
            self.lowest[heads, rows] = (share * torch.stack(lowest)).amin(0)
            self.highest[heads, rows] = (share * torch.stack(highest)).amax(0)
            if mean_key:
                self.mean_key[heads, rows] = (share[..., None] * torch.stack(mean_keys)).sum(0)

    def _squares(self, target: RowTarget, low: torch.Tensor, span: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """mean ((P - low) / span - T)^2, and the sum of its derivatives with respect to P."""
        count, log_span, offset = len(self.query) * target.values.numel(), span.log(), low / span
        value, slopes = self.query.new_zeros(()), self.query.new_zeros(())
        for heads, part in self._pieces(len(target.cells)):
            cells, keys = target.cells[part], self._keys_of(target)
            logits = self._logits(self.query[heads, cells], self.key[heads, keys])
            scaled = logits.sub_(self.log_sum[heads, cells, None] + log_span).exp_()  # P / span
            error = torch.sub(scaled, target.values[part], out=self._buffer(1, scaled.shape)).sub_(offset)
            value += torch.dot(error.flatten(), error.flatten())
            slopes += error.sum()
            slope_times_probability = error.mul_(scaled)
            self.pull[heads].index_add_(1, cells, slope_times_probability.sum(-1), alpha=2 / count)
            gradient = self._sum_keys(slope_times_probability, heads, keys)
            self.query_gradient[heads].index_add_(1, cells, gradient, alpha=2 / count)
        return value / count, slopes * 2 / (count * span)

    def _min_max_squares(self, targets: Sequence[RowTarget]) -> torch.Tensor:
        """P scaled to [0, 1]: u = (P - low) / span, so du/dlow = (u - 1) / span and du/dhigh = -u / span."""
        low_place, high_place = self.lowest.argmin(), self.highest.argmax()
        low, high = self.lowest.flatten()[low_place], self.highest.flatten()[high_place]
        span = (high - low).clamp_min(SMALLEST_RANGE)
        value, slopes = self.query.new_zeros(()), self.query.new_zeros(())
        for target in targets:
            one, slope = self._squares(target, low, span)
            value, slopes = value + one, slopes + slope
        # With P = low + span u, what g u sums up to follows from the sums of g and of P g.
        scaled_slopes = (self.pull.sum() - low * slopes) / span
        self._pass_on_to_entry(low_place, torch.argmin, scaled_slopes - slopes)
        self._pass_on_to_entry(high_place, torch.argmax, -scaled_slopes)
        return value

    def _cross_entropy(self, target: RowTarget) -> torch.Tensor:
        """mean of - sum_j T_ij log P_ij = log_sum_i - q_i sum_j T_ij K_j."""
        centre = target.values @ self.key[:, self._keys_of(target)]  # (h, K, d)
        count = len(self.query) * len(target.cells)
        self.query_gradient.index_add_(1, target.cells, centre, alpha=-1 / count)
        self.pull[:, target.cells] -= 1 / count
        return (self.log_sum[:, target.cells] - (self.query[:, target.cells] * centre).sum(-1)).sum() / count

    def _pass_on_to_entry(self, place: torch.Tensor, pick: Callable[..., torch.Tensor], slope: torch.Tensor) -> None:
        """Add the gradient that reaches one probability, the one ``pick`` finds in the row at ``place`` of (h, N)."""
        head, cell = place // self.query.shape[1], place % self.query.shape[1]
        query, key = self.query[head, cell], self.key[head]
        row = torch.softmax(key @ query, dim=0)  # (M,)
        entry = pick(row)
        slopes = -slope * row[entry] * row
        slopes[entry] += slope * row[entry]
        self.query_gradient[head, cell] += slopes @ key
        self.own_gradient[head] += torch.outer(slopes[: self.own_gradient.shape[1]], query)

    def _pass_on_to_own_keys(self, cells: torch.Tensor) -> None:
        """dL/dK_j = - sum_i delta_i P_ij q_i for the restored image's own keys."""
        num_own = self.own_gradient.shape[1]
        if num_own == 0:
            return
        for heads, part in self._pieces(len(cells)):
            rows = cells[part]
            query = self.query[heads, rows]
            logits = self._logits(query, self.key[heads, :num_own])
            slope = logits.sub_(self.log_sum[heads, rows, None]).exp_().mul_(self.pull[heads, rows, None])
            self.own_gradient[heads] -= slope.transpose(1, 2) @ query

    def _keys_of(self, target: RowTarget) -> slice:
        return slice(target.start, target.start + target.values.shape[1])

    def _sum_keys(self, weights: torch.Tensor, heads: slice, keys: slice) -> torch.Tensor:
        """(., ., k) weights of k keys -> (., ., d) their weighted sum."""
        return (weights.to(self.key_to_sum.dtype) @ self.key_to_sum[heads, keys]).to(weights.dtype)

    def _pieces(self, num_rows: int) -> Iterator[tuple[slice, slice]]:
        """Heads and rows of one piece after another."""
        heads, rows = self._piece_shape
        rows = math.ceil(num_rows / (math.ceil(num_rows / rows) or 1)) or 1  # of equal size
        for head in range(0, len(self.query), heads):
            for row in range(0, num_rows, rows):
                yield slice(head, head + heads), slice(row, row + rows)

    def _logits(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return torch.bmm(query, key.transpose(1, 2), out=self._buffer(0, (*query.shape[:2], key.shape[1])))

    def _buffer(self, number: int, shape: Sequence[int]) -> torch.Tensor:
        return self._buffers[number][: math.prod(shape)].view(shape)
