"""Shared-image attention (InstantRestore, section 3.2): look the person up in the references.

In every self-attention layer of the UNet's decoder the restored image asks (its queries), and the references answer
(their keys and values, recorded from the frozen network):

    out = softmax(Q [K_1 .. K_R]^T / sqrt(d)) [V'_1 .. V'_R],   V'_r = AdaIN(V_r, V_own)

The keys and values are what ``to_k`` and ``to_v`` give before the split into heads. Axis letters: B batch,
R references, N tokens of the layer, C channels, h heads, d = C / h.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from lit_restore.models.attention_probe import AttentionInputs, AttentionProbe


@dataclass
class ReferenceFeatures:
    """Keys and values of the references, one entry per shared layer, coarse to fine."""

    keys: list[torch.Tensor] = field(default_factory=list)
    """(B, R, N, C) each."""
    values: list[torch.Tensor] = field(default_factory=list)
    """(B, R, N, C) each."""
    mask: torch.Tensor | None = None
    """(B, R) bool, True = real reference; None = all real."""


class ReferencePassComplete(Exception):
    """Raised by the recorder after the last shared layer: the rest of the reference UNet has no use."""


class FeatureRecorder:
    """Collects keys and values during the reference pass, then ends it.

    Args:
        num_layers: how many layers share attention.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def record(self, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take one layer's (B*R, N, C) keys and values."""
        self.keys.append(key)
        self.values.append(value)
        if len(self.keys) == self.num_layers:
            raise ReferencePassComplete

    def features(self, num_references: int, mask: torch.Tensor | None) -> ReferenceFeatures:
        """What was recorded for B*R references, as (B, R, N, C)."""
        return ReferenceFeatures(
            keys=[key.unflatten(0, (-1, num_references)) for key in self.keys],
            values=[value.unflatten(0, (-1, num_references)) for value in self.values],
            mask=mask,
        )


@dataclass(frozen=True)
class SharingOptions:
    """How the references enter the attention."""

    use_adain: bool = True
    keep_own: bool = False
    """Keep the restored image's own keys and values beside the references' (official code: ``train_input``)."""
    compat_zero_keys: bool = False
    """Set keys and values of missing references to zero instead of leaving them out. A defect of the official code
    (instantrestore.md, D9): a zero key still draws attention, so the output is pulled to the mean of the own values.
    Only for reproducing its numbers."""


def adain(values: torch.Tensor, style: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Give each reference's values the per-channel mean and deviation of the restored image's own values.

    ``(v - mean(v)) / (std(v) + eps) * (std(style) + eps) + mean(style)``, statistics over tokens (Huang & Belongie
    2017, eq. 8; InstantRestore section 3.3). It keeps what the reference shows and drops its light and colour cast.

    Args:
        values: (B, R, N, C).
        style: (B, N, C); gradients flow through its statistics.
    """
    style = style.unsqueeze(1)
    std, mean = torch.std_mean(values, dim=2, keepdim=True)
    style_std, style_mean = torch.std_mean(style, dim=2, keepdim=True)
    return (values - mean) / (std + eps) * (style_std + eps) + style_mean


def extend_keys_values(
    own_key: torch.Tensor,
    own_value: torch.Tensor,
    reference_key: torch.Tensor,
    reference_value: torch.Tensor,
    mask: torch.Tensor | None,
    options: SharingOptions,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The keys and values a query of the restored image attends to.

    Args:
        own_key, own_value: (B, N, C) of the restored image.
        reference_key, reference_value: (B, R, N, C).
        mask: (B, R) bool or None.

    Returns:
        keys and values (B, M, C) and which of them may be attended to, (B, M) bool or None for all. Own tokens, where
        present, come first. A sample without any real reference attends to its own tokens: ordinary self-attention.
    """
    if options.compat_zero_keys and mask is not None:
        reference_key, reference_value = (part * mask[:, :, None, None] for part in (reference_key, reference_value))
        mask = None
    if options.use_adain:
        reference_value = adain(reference_value, own_value)
    key, value = reference_key.flatten(1, 2), reference_value.flatten(1, 2)
    tokens = own_key.shape[1]
    allowed = None if mask is None else mask.repeat_interleave(tokens, dim=1)
    lonely = None if mask is None else ~mask.any(dim=1)
    if options.keep_own or (lonely is not None and bool(lonely.any())):
        key, value = torch.cat([own_key, key], dim=1), torch.cat([own_value, value], dim=1)
        if allowed is not None:
            own = torch.ones_like(lonely) if options.keep_own else lonely
            allowed = torch.cat([own[:, None].expand(-1, tokens), allowed], dim=1)
    if allowed is not None and bool(allowed.all()):
        allowed = None  # lets scaled_dot_product_attention take its fast path
    return key, value, allowed


class SharedAttentionProcessor:
    """Self-attention of one decoder layer: records, shares, or does the ordinary thing.

    Args:
        layer: position among the shared layers, 0 = coarsest.
    """

    def __init__(self, layer: int, options: SharingOptions) -> None:
        self.layer = layer
        self.options = options

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        reference: FeatureRecorder | ReferenceFeatures | None = None,
        probe: AttentionProbe | None = None,
    ) -> torch.Tensor:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)  # (B, N, C)
        allowed = None
        if isinstance(reference, FeatureRecorder):
            reference.record(key, value)
        elif reference is not None:
            key, value, allowed = extend_keys_values(
                key,
                value,
                reference.keys[self.layer].to(key.dtype),
                reference.values[self.layer].to(value.dtype),
                reference.mask,
                self.options,
            )
        split = (attn.heads, query.shape[-1] // attn.heads)
        query, key, value = (part.unflatten(-1, split).transpose(1, 2) for part in (query, key, value))  # (B, h, ., d)
        if probe is not None and isinstance(reference, ReferenceFeatures):
            num_references = reference.keys[self.layer].shape[1]
            probe.record(self.layer, AttentionInputs(query, key, allowed, num_references))
        output = self.attend(query, key, value, allowed, reference).transpose(1, 2).flatten(2)  # (B, N, C)
        return attn.to_out[1](attn.to_out[0](output))

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        allowed: torch.Tensor | None,
        reference: object,
    ) -> torch.Tensor:
        """What the queries find: (B, h, N, d) from queries (B, h, N, d), keys and values (B, h, M, d)."""
        mask = None if allowed is None else allowed[:, None, None, :]  # (B, 1, 1, M)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class PlainProcessor(AttnProcessor2_0):
    """Every other attention layer: diffusers' own, but aware that ``reference`` and ``probe`` travel past it."""

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, *args, reference=None, probe=None, **kwargs
    ) -> torch.Tensor:
        return super().__call__(attn, hidden_states, *args, **kwargs)


def share_decoder_attention(
    unet: UNet2DConditionModel,
    options: SharingOptions,
    processor: type[SharedAttentionProcessor] = SharedAttentionProcessor,
) -> list[str]:
    """Install the processors; returns the names of the shared layers, coarse to fine.

    Shared are the self-attentions (``attn1``) of the decoder (``up_blocks``): nine in SD-Turbo.
    """
    processors: dict[str, SharedAttentionProcessor | PlainProcessor] = {}
    shared: list[str] = []
    for name in unet.attn_processors:
        if name.startswith("up_blocks.") and name.endswith(".attn1.processor"):
            processors[name] = processor(len(shared), options)
            shared.append(name.removesuffix(".processor"))
        else:
            processors[name] = PlainProcessor()
    unet.set_attn_processor(processors)
    return shared
