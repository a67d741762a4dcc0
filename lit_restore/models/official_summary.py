"""What an official checkpoint holds, in words."""

from __future__ import annotations

import torch

from lit_restore.models.generator import GeneratorConfig
from lit_restore.models.official_checkpoint import NETWORKS, OfficialCheckpoint, own_keys_untouched

_LOSSES = {
    "lpips": "LPIPS", "ssim": "MS-SSIM", "l2": "L2", "l1": "L1", "id_loss": "identity", "gan": "adversarial",
    "landmark": "landmark attention",
}  # fmt: skip
_ABOUT_THE_WEIGHTS = (
    "lora_rank_unet", "lora_rank_vae", "train_vae", "use_shared_attention", "use_adain", "train_input",
)  # fmt: skip


def describe(checkpoint: OfficialCheckpoint, config: GeneratorConfig | None = None) -> str:
    """A table of networks and what ``cfg`` says; several lines.

    Args:
        config: the generator it becomes, where that is known.
    """
    size = checkpoint.path.stat().st_size / 1e6
    dtypes = checkpoint.dtypes
    total = sum(dtypes.values())
    precision = ", ".join(_dtype(dtype) if len(dtypes) == 1 else f"{n} {_dtype(dtype)}" for dtype, n in dtypes.items())
    lines = [
        f"{checkpoint.path}: official InstantRestore checkpoint, {size:,.1f} MB",
        f"  {total:,} tensors, {precision}, named {checkpoint.prefix}unet.* and so on",
    ]
    for part in NETWORKS:
        state = checkpoint.networks.get(part)
        if state is None:
            lines.append(f"  {part:14} not in the file")
            continue
        values = sum(tensor.numel() for tensor in state.values())
        lines.append(f"  {part:14} {len(state):5,} tensors, {values:13,} values{_lora(checkpoint, part)}")
    lines.append(f"  {'optimizer':14} {_optimizer(checkpoint)}")
    lines += _cfg_lines(checkpoint)
    if config is not None:
        full = [*(f"unet.{x}" for x in config.full_unet_layers), *(f"vae.{x}" for x in config.full_vae_layers)]
        lines.append(f"  {'in full':14} {', '.join(full) or 'no layer'}; what is below LoRA is as it was frozen")
        lines.append(f"  {'own keys':14} {_own_keys(checkpoint, config.keep_own_keys)}")
    return "\n".join(lines)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _lora(checkpoint: OfficialCheckpoint, part: str) -> str:
    rank = checkpoint.ranks.get(part)
    if rank is None:
        return ""
    layers = sum(".lora_A." in name for name in checkpoint.networks[part])
    return f", LoRA of rank {rank}, alpha {rank // 2}, on {layers} layers" if rank else ", no LoRA"


def _optimizer(checkpoint: OfficialCheckpoint) -> str:
    if not isinstance(checkpoint.optimizer, dict):
        return "not in the file"
    groups = checkpoint.optimizer.get("param_groups", [])
    count = sum(len(group.get("params", [])) for group in groups)
    return f"state of {len(checkpoint.optimizer.get('state', {})):,} of {count:,} tensors; not converted"


def _cfg_lines(checkpoint: OfficialCheckpoint) -> list[str]:
    cfg = checkpoint.cfg
    if not cfg:
        return [f"  {'cfg':14} not in the file"]
    model, optim, steps = (cfg.get(section, {}) for section in ("model", "optim", "steps"))
    said = ", ".join(f"{name} {model[name]}" if name in model else f"{name} not said" for name in _ABOUT_THE_WEIGHTS)
    losses = {text: optim.get(f"lambda_{key}") for key, text in _LOSSES.items()}
    weights = [f"{text} {value:g}" for text, value in losses.items() if isinstance(value, int | float) and value]
    lines = [f"  {'cfg.model':14} {said}"]
    if weights:
        lines.append(f"  {'cfg.optim':14} {', '.join(weights)}; learning rate {optim.get('learning_rate')}")
    if steps:
        lines.append(f"  {'cfg.steps':14} {steps.get('max_steps')} were planned; how many were done is not in the file")
    return lines


def _own_keys(checkpoint: OfficialCheckpoint, kept: bool) -> str:
    untouched = own_keys_untouched(checkpoint)
    if untouched is None:
        return "no LoRA on them"
    if untouched:
        return "LoRA never trained, " + ("although they are kept: is that right?" if kept else "as they are discarded")
    return "LoRA trained, " + ("as they are kept" if kept else "although they are discarded: is that right?")
