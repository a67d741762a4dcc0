"""What is trained on top of a frozen network: LoRA on many layers, and a few layers in full.

LoRA (Hu et al. 2021) replaces ``W`` by ``W + (alpha / rank) B A``; ``B`` starts at zero, so nothing changes until
training begins. One frozen network serves two roles in InstantRestore: adapted, as the generator, and as it was, as the
reference network. `Adaptation.off` switches between them. Once training is over `Adaptation.fold` adds the product to
``W``, which saves the two small layers beside every large one.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from lit_restore.errors import UserError, nearest

# Suffixes of the adapted layers (spec: InstantRestore 4.1, after img2img-turbo).
UNET_LORA_TARGETS = (
    "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out",
    "proj_in", "proj_out", "ff.net.2", "ff.net.0.proj",
)  # fmt: skip
VAE_LORA_TARGETS = (
    "conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out", "to_k", "to_q", "to_v", "to_out.0",
)  # fmt: skip

PEFT_PREFIX = "base_model.model."
"""What every name in an adapter file of peft begins with."""


class Adaptation:
    """Attach trainable parts to a frozen diffusers network, in place.

    Args:
        network: a diffusers model with peft support; its own weights stay frozen.
        rank: LoRA rank; 0 attaches none.
        alpha: LoRA scale numerator; the official code uses ``rank // 2``.
        targets: name suffixes of the layers that get LoRA.
        name: adapter name; part of the parameter names and so of checkpoint files.
        full_layers: names of layers trained in full instead (they get no LoRA).
        seed: of the random start of ``A``.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        name: str,
        full_layers: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.network = network
        self.name = name
        self.rank = rank
        self.alpha = alpha
        self.targets = tuple(targets)
        self.full_layers = tuple(full_layers)
        # Frozen twins of the layers trained in full, since switching LoRA off does not undo their training.
        self._twins: dict[str, nn.Module] = {}
        for layer in full_layers:
            self._twins[layer] = _frozen_copy(_get(network, layer))
        if rank > 0 and alpha <= 0:
            raise UserError(
                "LoRA without effect",
                expected="alpha > 0",
                found=f"alpha {alpha} at rank {rank}",
                fix="Raise the rank or the ratio of alpha to rank.",
            )
        if rank > 0:
            config = LoraConfig(
                r=rank,
                lora_alpha=alpha,
                target_modules=list(targets),
                exclude_modules=list(full_layers) or None,
                init_lora_weights="gaussian",
            )
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # peft draws from the global generator
                network.add_adapter(config, adapter_name=name)
        for layer in full_layers:
            _get(network, layer).requires_grad_(True)
        self._lora_layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
        self.folded = False
        self._fingerprint: str | None = None  # only a folded adapter stays what it is
        self.keeps_base = True
        # Listed once: whether a parameter requires a gradient may change later, whether it is ours may not.
        self.names = tuple(key for key, value in network.named_parameters() if value.requires_grad)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Only what is trained, under the network's own (diffusers/peft) parameter names.

        Raises:
            RuntimeError: it was folded into the network.
        """
        if self.folded:
            raise RuntimeError("the adapters are folded into the network: save before folding, or load the model again")
        parameters = dict(self.network.named_parameters())
        return {name: parameters[name].detach() for name in self.names}

    def fingerprint(self) -> str:
        """16 hex digits over everything that was trained; folding does not change it."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        for name, tensor in self.state_dict().items():
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.float().contiguous().cpu().numpy().data)
        return digest.hexdigest()[:16]

    def untouched_state(self) -> dict[str, torch.Tensor]:
        """The network as it was before anything was attached or trained, under its names of then."""
        with self.off():
            state = self.network.state_dict()
        lora = re.compile(r"\.lora_[AB]\.")
        return {name.replace(".base_layer.", "."): value for name, value in state.items() if not lora.search(name)}

    def adapter_state(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``state`` under the names of peft's adapter files, which do not say what the adapter is called."""
        return {PEFT_PREFIX + name.replace(f".{self.name}.weight", ".weight"): value for name, value in state.items()}

    def adapter_config(self) -> dict[str, Any] | None:
        """What peft and diffusers must know to attach the same adapter, as in ``adapter_config.json``.

        None without LoRA: peft knows no adapter of rank 0.
        """
        if self.rank == 0:
            return None
        clashes = [
            layer for layer in self.full_layers if layer.endswith(tuple(f".{target}" for target in self.targets))
        ]
        return {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": list(self.targets),
            "exclude_modules": clashes or None,
            "modules_to_save": list(self.full_layers) or None,
            "rank_pattern": {},  # older releases of diffusers look for these two
            "alpha_pattern": {},
            "inference_mode": True,
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor], where: object = None) -> None:
        """Load what `state_dict` or `adapter_state` gave; every name and shape must agree.

        Raises:
            UserError: names are missing or unknown, or a shape differs (another rank, another base).
        """
        named = rf"\1.{self.name}.weight"
        state = {re.sub(r"(lora_[AB])\.weight$", named, k.removeprefix(PEFT_PREFIX)): v for k, v in state.items()}
        parameters = dict(self.network.named_parameters())
        missing, unknown = sorted(set(self.names) - set(state)), sorted(set(state) - set(self.names))
        if missing or unknown:
            raise UserError(
                "weights of another model",
                where=where,
                expected=f"{len(self.names)} tensors" + (f", among them {missing[0]}" if missing else ""),
                found=f"{len(state)}" + (f", among them {unknown[0]}" if unknown else ""),
                fix="Use the configuration the weights were trained with.",
            )
        for name in self.names:
            if parameters[name].shape != state[name].shape:
                raise UserError(
                    "weights of another shape",
                    where=name if where is None else f"{where}: {name}",
                    expected=tuple(parameters[name].shape),
                    found=tuple(state[name].shape),
                    fix="Use the LoRA rank and base the weights were trained with.",
                )
        with torch.no_grad():
            for name in self.names:
                parameters[name].copy_(state[name])

    @torch.no_grad()
    def fold(self, *, keep_base: bool) -> None:
        """Replace every layer with LoRA by one plain layer of weight ``W + (alpha / rank) B A``; cannot be undone.

        `off` stays exact, bit for bit, since ``W`` is kept rather than computed back. With ``keep_base`` false it is
        not kept, which saves memory, and `off` has to refuse.
        """
        self._fingerprint = self.fingerprint()
        names = {module: name for name, module in self.network.named_modules()}
        for module in self._lora_layers:
            base = module.get_base_layer()
            folded = copy.deepcopy(base) if keep_base else base
            folded.weight += module.get_delta_weight(self.name).to(folded.weight)
            _set(self.network, names[module], folded)
            self._twins[names[module]] = base
        if not keep_base:
            self._twins.clear()
        self._lora_layers = []
        self.folded, self.keeps_base = True, keep_base

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block the network computes exactly what the untouched base computes.

        peft's own switch (``disable_adapters``) also flips ``requires_grad`` of every adapter, which costs 25 ms a
        time and hides the trained parameters from anything that looks; the flag it reads is set directly instead.

        Raises:
            RuntimeError: the base was given up when folding.
        """
        if not self.keeps_base:
            raise RuntimeError("the base was not kept when the adapters were folded; only cached references work")
        tuned = {layer: _get(self.network, layer) for layer in self._twins}
        for module in self._lora_layers:
            module._disable_adapters = True
        for layer, twin in self._twins.items():
            _set(self.network, layer, twin.to(next(tuned[layer].parameters())))
        try:
            yield
        finally:
            for module in self._lora_layers:
                module._disable_adapters = False
            for layer, module in tuned.items():
                _set(self.network, layer, module)


def _get(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        known = [key for key, module in network.named_modules() if key and not list(module.children())]
        raise UserError("no such layer to train", where=name, fix=nearest(name, known)) from None


def _set(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, module)


def _frozen_copy(layer: nn.Module) -> nn.Module:
    return copy.deepcopy(layer).requires_grad_(False)
