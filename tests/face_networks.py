"""Weight files of the public recognition networks, made here: right names and sizes, random values.

The lists of names and sizes are written from the architectures' descriptions, independently of `lit_restore.models`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

Shapes = dict[str, tuple[int, ...]]
State = dict[str, torch.Tensor]


def batch_norm(name: str, width: int, affine: bool = True) -> Shapes:
    shapes = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return shapes | ({f"{name}.weight": (width,), f"{name}.bias": (width,)} if affine else {})


def iresnet_shapes(stages: tuple[int, ...], kind: str) -> Shapes:
    """``kind``: arcface, curricularface or adaface; ``stages``: units of 64, 128, 256 and 512 channels."""
    shapes = {"input_layer.0.weight": (64, 3, 3, 3), **batch_norm("input_layer.1", 64), "input_layer.2.weight": (64,)}
    number, before = 0, 64
    for width, count in zip((64, 128, 256, 512), stages, strict=True):
        for _ in range(count):
            unit, later = f"body.{number}.res_layer", 1 if kind == "adaface" else 0
            if before != width:
                shapes[f"body.{number}.shortcut_layer.0.weight"] = (width, before, 1, 1)
                shapes |= batch_norm(f"body.{number}.shortcut_layer.1", width)
            shapes |= batch_norm(f"{unit}.0", before)
            shapes[f"{unit}.1.weight"] = (width, before, 3, 3)
            if kind == "adaface":
                shapes |= batch_norm(f"{unit}.2", width)
            shapes[f"{unit}.{2 + later}.weight"] = (width,)
            shapes[f"{unit}.{3 + later}.weight"] = (width, width, 3, 3)
            shapes |= batch_norm(f"{unit}.{4 + later}", width)
            if kind == "arcface":
                shapes[f"{unit}.5.fc1.weight"] = (width // 16, width, 1, 1)
                shapes[f"{unit}.5.fc2.weight"] = (width, width // 16, 1, 1)
            number, before = number + 1, width
    shapes |= batch_norm("output_layer.0", 512)
    shapes |= {"output_layer.3.weight": (512, 512 * 49), "output_layer.3.bias": (512,)}
    return shapes | batch_norm("output_layer.4", 512, affine=kind == "arcface")


DEPTHS = {"arcface": (3, 4, 14, 3), "curricularface": (3, 13, 30, 3), "adaface": (3, 13, 30, 3)}

# expanded and projected channels of the blocks of face-reidentification-retail-0095
REID_BLOCKS = [(128, 64)] * 5 + [(256, 128)] * 7 + [(512, 128)] + [(256, 128)] * 2


def reid_shapes() -> Shapes:
    def conv(name: str, *shape: int, prelu: bool = True) -> Shapes:
        shapes: Shapes = {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return shapes | ({f"{name}.prelu": (1,)} if prelu else {})

    shapes: Shapes = {"input.scale": (3,), "input.offset": (3,)}
    shapes |= conv("stem.conv", 64, 3, 3, 3) | conv("stem.dw", 64, 1, 3, 3)
    before = 64
    for number, (wide, narrow) in enumerate(REID_BLOCKS):
        block = f"blocks.{number}"
        shapes |= conv(f"{block}.expand", wide, before, 1, 1) | conv(f"{block}.dw", wide, 1, 3, 3)
        shapes |= conv(f"{block}.project", narrow, wide, 1, 1, prelu=False)
        shapes |= conv(f"{block}.se_down", narrow // 8, narrow, 1, 1)
        shapes |= conv(f"{block}.se_up", narrow, narrow // 8, 1, 1, prelu=False)
        before = narrow
    shapes |= conv("head.pw", 512, 128, 1, 1) | conv("head.gdc", 512, 1, 8, 8, prelu=False)
    return shapes | {"head.embed.weight": (256, 512, 1, 1)}


def random_state(shapes: Shapes, seed: int = 0) -> State:
    """Values that keep the size of the signal: weights by fan-in, variances and slopes positive."""
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random)
        if name.endswith("num_batches_tracked"):
            values = torch.tensor(1000)
        elif name == "input.scale":
            values = torch.full(shape, 1 / 127.5)
        elif name.endswith(("running_var", "prelu")):
            values = 0.25 + 0.5 * values.abs()
        elif len(shape) > 1:
            values *= (2 / values[0].numel()) ** 0.5
        elif name.endswith("weight"):
            values = 1 + 0.1 * values  # of a batch normalisation, or slopes of a PReLU
        else:
            values *= 0.1
        state[name] = values
    return state


def thin_state(shapes: Shapes) -> State:
    """Tensors of full size that hold one number each: small files, quickly written."""
    return {name: torch.full((1,), 0.01).expand(shape) if shape else torch.tensor(1) for name, shape in shapes.items()}


def write_reid(path: Path, seed: int = 0) -> str:
    """A small network of the kind that needs its faces cut out, with residual branches as mild as a trained one's."""
    state = random_state(reid_shapes(), seed)
    save_file({name: (0.4 * v if "project" in name else v).half() for name, v in state.items()}, path)
    return str(path)
