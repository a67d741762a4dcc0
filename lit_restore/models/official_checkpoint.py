"""The checkpoint format of the published InstantRestore code (spec: InstantRestore 15), read and understood.

A file of ``torch.save`` with

    state_dict   unet, vae                      tuned: X.base_layer.*, X.lora_A.NAME.weight, X.lora_B.NAME.weight,
                                                plain names where a layer has no LoRA; NAME is default and vae_skip
                 original_unet, original_vae    frozen copies of what the tuned ones started from
                 text_encoder                   frozen
    cfg          the training configuration, a nested dictionary of plain values
    optimizer    of the generator

Every name begins with ``net.``, after training on several GPUs with ``net.module.``; what was written on resuming may
lack either. What the format does not say: LoRA's alpha is ``rank // 2``, the UNet's ``conv_in`` is trained in full.

Our generator keeps one copy of the base for both roles, so a file fits it only if the tuned networks still contain the
frozen ones; `layers_trained_in_full` finds where they do not.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError
from lit_restore.models.tensor_file import State, read_torch_file

NETWORKS = ("unet", "original_unet", "vae", "original_vae", "text_encoder")
TUNED = {"unet": "default", "vae": "vae_skip"}
"""Tuned network -> name of its adapter."""

# What these switches do is not in our generator; the official code has them off.
UNSUPPORTED = {
    "condition_on_face_embeds": "cross attention to face embeddings",
    "use_shortcuts": "skip connections from the VAE's encoder to its decoder",
    "train_reference_networks": "LoRA on the reference networks",
    "concat_mask_and_landmarks": "masks and landmarks as further input channels",
}
_TRACES = {
    "condition_on_face_embeds": r"\.processor\.|face_embed",
    "use_shortcuts": r"\.skip_conv_\d",
    "train_reference_networks": r"^original_\w+\..*\.lora_[AB]\.",
}


@dataclass
class OfficialCheckpoint:
    """The content of a file; its tensors stay on disk until they are used."""

    path: Path
    networks: dict[str, State]
    """Of `NETWORKS`, those that are there; names as in diffusers, peft and transformers."""
    cfg: dict[str, Any]
    """Empty where the file has none."""
    prefix: str
    """What every name began with."""
    optimizer: dict[str, Any] | None

    @property
    def dtypes(self) -> Counter[torch.dtype]:
        return Counter(tensor.dtype for state in self.networks.values() for tensor in state.values())

    @property
    def ranks(self) -> dict[str, int]:
        """LoRA rank of the tuned networks, from the tensors; 0 = no LoRA."""
        return {part: _rank(self, part) for part in TUNED}


def read_official(path: str | Path) -> OfficialCheckpoint:
    """Read a checkpoint of the official code without running anything in it.

    Raises:
        UserError: no such file, not such a checkpoint, damaged, or made with an option that is not supported.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError("no such checkpoint", where=path, expected="a .pt file of the official InstantRestore code")
    content = read_torch_file(path, mapped=True)
    if not isinstance(content, dict):
        raise _other(path, type(content).__name__)
    if "lit_restore" in content:
        raise _other(path, "a training checkpoint of lit_restore", "Give the run folder or its model/ folder instead.")
    if "state_dict_unet" in content:
        raise _other(path, "a file of img2img-turbo")
    state = content.get("state_dict", content)
    tensors = isinstance(state, dict) and {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors or not any("lora_A" in name or "base_layer" in name for name in tensors):
        raise _other(path, f"entries {', '.join(sorted(map(str, content))[:5]) or 'none'}")
    cfg = content.get("cfg") or {}
    sections = [cfg.get(name, {}) for name in ("model", "data", "optim", "steps")] if isinstance(cfg, dict) else [None]
    if not all(isinstance(section, dict) for section in sections):
        raise _other(path, "a cfg of another form")
    prefix = re.match(r"(?:(?:net|module)\.)*", next(iter(tensors))).group()
    networks = _networks(tensors, path)
    checkpoint = OfficialCheckpoint(path, networks, cfg, prefix, content.get("optimizer"))
    _refuse_unsupported(checkpoint)
    for part in TUNED:
        if part not in networks:
            raise _other(path, f"no tensors of {part}")
    unknown = set(checkpoint.dtypes) - {torch.bfloat16, torch.float16, torch.float32, torch.int64}
    if unknown:
        raise UserError("unknown precision", where=path, expected="bfloat16, float16 or float32", found=unknown.pop())
    _check_ranks(checkpoint)
    return checkpoint


def _other(path: Path, found: str, fix: str | None = None) -> UserError:
    expected = "state_dict with net.unet.* and net.vae.*, and cfg"
    what = "not a checkpoint of the official InstantRestore code"
    return UserError(what, where=path, expected=expected, found=found, fix=fix)


def _networks(tensors: State, path: Path) -> dict[str, State]:
    networks: dict[str, State] = {}
    for full_name, tensor in tensors.items():
        name = re.sub(r"^(?:(?:net|module)\.)+", "", full_name)
        part, _, rest = name.partition(".")
        if part not in NETWORKS:
            raise _other(path, f"a tensor {full_name}")
        if rest in networks.setdefault(part, {}):
            raise UserError("the same tensor twice", where=path, found=full_name)
        networks[part][rest] = tensor
    return networks


def _refuse_unsupported(checkpoint: OfficialCheckpoint) -> None:
    model = checkpoint.cfg.get("model", {})
    names = [f"{part}.{name}" for part, state in checkpoint.networks.items() for name in state]
    for option, meaning in UNSUPPORTED.items():
        trace = _TRACES.get(option)
        tensor = next((name for name in names if trace and re.search(trace, name)), None)
        if model.get(option) or tensor:
            raise UserError(
                f"trained with {option}, which is not supported ({meaning})",
                where=checkpoint.path,
                found=tensor or f"cfg.model.{option} {model[option]}",
            )


def _rank(checkpoint: OfficialCheckpoint, part: str) -> int:
    ranks: Counter[int] = Counter()
    for name, tensor in checkpoint.networks[part].items():
        if ".lora_A." in name:
            ranks[tensor.shape[0]] += 1
        elif ".lora_B." in name:
            ranks[tensor.shape[1]] += 1
    if len(ranks) > 1:
        raise UserError("LoRA of several ranks", where=f"{checkpoint.path}, {part}", found=dict(ranks))
    return next(iter(ranks), 0)


def _check_ranks(checkpoint: OfficialCheckpoint) -> None:
    """cfg against tensors: a wrong rank would mean a wrong alpha, and that a wrong picture."""
    model = checkpoint.cfg.get("model", {})
    for part, rank in checkpoint.ranks.items():
        stated = model.get(f"lora_rank_{part}", rank)
        if part == "vae" and not model.get("train_vae", rank > 0):
            stated = 0
        if stated != rank:
            raise UserError(
                "cfg and tensors disagree about the LoRA rank",
                where=f"{checkpoint.path}, {part}",
                expected=f"rank {stated}" + (" (train_vae is off)" if part == "vae" and not stated else ""),
                found=f"rank {rank}",
                fix="The file has been put together from two models or damaged.",
            )
        if rank == 1:
            raise UserError("LoRA without effect", where=f"{checkpoint.path}, {part}", found="alpha = rank // 2 = 0")


def base_of_tuned(checkpoint: OfficialCheckpoint, part: str) -> State:
    """The tuned network without its LoRA, under the names of the untouched one."""
    state = checkpoint.networks[part]
    return {k.replace(".base_layer.", "."): v for k, v in state.items() if ".lora_A." not in k and ".lora_B." not in k}


def layers_trained_in_full(checkpoint: OfficialCheckpoint, part: str, frozen: State) -> list[str]:
    """Layers of the tuned network that are not those of the frozen one plus LoRA.

    The official code trains the UNet's ``conv_in`` so. A layer that has LoRA may also be in full, if its LoRA is zero.

    Raises:
        UserError: other names or shapes, or a layer is neither.
    """
    tuned, where = base_of_tuned(checkpoint, part), f"{checkpoint.path}, {part}"
    shapes, expected = ({k: tuple(v.shape) for k, v in state.items()} for state in (tuned, frozen))
    if shapes != expected:
        odd = min(dict(shapes.items() ^ expected.items()))
        raise UserError(
            "tuned and frozen network differ in shape",
            where=where,
            expected=f"{odd} {expected.get(odd, 'absent')}",
            found=shapes.get(odd, "no such tensor"),
        )
    full: dict[str, None] = {}
    for name, value in tuned.items():
        if equal_up_to_rounding(value, frozen[name]):
            continue
        layer = name.rpartition(".")[0]
        lora = checkpoint.networks[part].get(f"{layer}.lora_B.{TUNED[part]}.weight")
        if (part, layer) != ("unet", "conv_in") and (lora is None or bool(lora.any())):
            raise UserError(
                "the frozen weights below LoRA are not those of the reference network",
                where=f"{where}.{name}",
                expected="equal up to rounding, as the official code leaves them",
                found=f"differences up to {(value.float() - frozen[name].float()).abs().max().item():.2g}",
                fix="This model needs two bases; lit_restore shares one between both roles and would restore wrongly.",
            )
        full[layer] = None
    return list(full)


def equal_up_to_rounding(first: torch.Tensor, second: torch.Tensor, finest: float = 0.0) -> bool:
    """Whether two tensors can be copies of the same one in different precision.

    Args:
        finest: relative difference that is always allowed.
    """
    if first.dtype == second.dtype and torch.equal(first, second):
        return True
    first, second, eps = first.float(), second.float(), max(torch.finfo(t.dtype).eps for t in (first, second))
    smallest_half = 2.0**-24  # below it float16 knows only zero
    return bool(((first - second).abs() <= max(eps, finest) * second.abs() + smallest_half).all())


def own_keys_untouched(checkpoint: OfficialCheckpoint) -> bool | None:
    """Whether the LoRA of the keys in the decoder's self-attention never left its start, ``B = 0``.

    Without own keys (``train_input`` off) nothing trains it. None where there is no such LoRA.
    """
    pattern = re.compile(r"up_blocks\.\d+\..*\.attn1\.to_k\.lora_B\.")
    keys = [value for name, value in checkpoint.networks["unet"].items() if pattern.match(name)]
    return not any(bool(value.any()) for value in keys) if keys else None
