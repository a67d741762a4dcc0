"""The cached-reference pass as an ONNX graph: encoder, UNet with the references' keys and values as inputs, decoder.

    lq              (B, 3, S, S)     degraded aligned face in [-1, 1]
    reference_key_i (B, R, N_i, C_i) of shared layer i, coarse to fine; reference_value_i likewise
    restored        (B, 3, S, S)     in [-1, 1]

B and R are free from 1 on (a graph without references would be another one), S is the model's size. LoRA is folded in;
the noise of the step is a constant of the graph, `fixed_noise` of one seed, so nothing in it is random. Keys and values
come from `lit_restore.models.reference_cache` or `write_references`; their pass stays in torch, once per person.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lit_restore.errors import UserError
from lit_restore.image import atomic_folder, atomic_path, to_tensor
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.models.tensor_file import write_safetensors

GRAPH = "restorer.onnx"
REFERENCES = "references.safetensors"
WEIGHTS = GRAPH + ".data"
"""A file of its own beside the graph: an ONNX file cannot exceed 2 GB."""


class CachedPass(nn.Module):
    """The generator with plain tensors for inputs, as graphs want them.

    Args:
        generator: in inference form, float32.
        seed: of the noise.
    """

    def __init__(self, generator: OneStepGenerator, seed: int = 0) -> None:
        super().__init__()
        self.generator = generator
        cells = generator.config.size_px // generator.vae_factor
        shape = torch.Size((1, generator.unet.config.in_channels, cells, cells))
        self.register_buffer("noise", fixed_noise(seed)("noise", shape))

    def forward(self, lq: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
        return self.generator(lq, ReferenceFeatures(keys, values), draw=self._draw)

    def _draw(self, name: str, shape: torch.Size) -> torch.Tensor:
        return self.noise.expand(shape)


def export_onnx(generator: OneStepGenerator, folder: str | Path, *, seed: int = 0) -> Path:
    """Write ``restorer.onnx`` and ``restorer.onnx.data`` into a folder, which appears as a whole.

    Args:
        generator: in inference form, on the CPU, float32; the base is not needed.
        folder: where to.
        seed: whose noise becomes part of the graph.

    Returns:
        The path of the graph.

    Raises:
        UserError: the packages for it are missing, the model takes no references, or the folder cannot be written.
    """
    require_packages()
    if not generator.config.use_references:
        raise UserError("this model takes no references", expected="a model with use_references: true")
    folder = Path(folder)
    examples = _example_inputs(generator)
    batch, references = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    layer = {0: batch, 1: references}
    layers = [layer] * len(generator.shared_layers)
    with atomic_folder(folder, ours=(GRAPH, WEIGHTS)) as temporary, torch.no_grad():
        torch.onnx.export(
            CachedPass(generator, seed).eval(),
            examples,
            temporary / GRAPH,
            input_names=input_names(generator),
            output_names=["restored"],
            dynamic_shapes=({0: batch}, layers, layers),
            dynamo=True,
            external_data=True,
            optimize=True,
            verbose=False,
        )
    return folder / GRAPH


def input_names(generator: OneStepGenerator) -> list[str]:
    """In the order of the graph. A short name like ``value_0`` could meet a constant that the exporter calls so."""
    layers = range(len(generator.shared_layers))
    return ["lq", *(f"reference_{kind}_{i}" for kind in ("key", "value") for i in layers)]


def write_references(
    generator: OneStepGenerator, faces: Sequence[np.ndarray], path: str | Path, *, seed: int = 0
) -> int:
    """Write the inputs of one person's aligned faces, uint8 (S, S, 3), with B = 1; returns bytes.

    Raises:
        UserError: the file cannot be written.
    """
    stacked = torch.stack([to_tensor(face) for face in faces])[None]
    with torch.inference_mode():
        features = generator.reference_features(stacked, draw=fixed_noise(seed))
    state = {name: array for name, array in onnx_inputs(stacked[:, 0], features).items() if name != "lq"}
    with atomic_path(path) as temporary:
        write_safetensors(temporary, {name: torch.from_numpy(array) for name, array in state.items()})
    return Path(path).stat().st_size


def onnx_inputs(lq: torch.Tensor, features: ReferenceFeatures) -> dict[str, np.ndarray]:
    """What to feed the graph: faces (B, 3, S, S) in [-1, 1] and one person's features, given to every face."""
    shared = {
        f"reference_{kind}_{i}": tensor.float().expand(len(lq), -1, -1, -1).cpu().numpy()
        for kind, tensors in (("key", features.keys), ("value", features.values))
        for i, tensor in enumerate(tensors)
    }
    return {"lq": lq.float().cpu().numpy(), **shared}


def require_packages() -> None:
    """Before anything large is read.

    Raises:
        UserError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "ONNX export needs packages that are not installed",
            found=f"no {error.name}",
            fix="Install them: pip install 'lit_restore[onnx]'",
        ) from None


def _example_inputs(generator: OneStepGenerator) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Inputs of the right shapes for tracing: two faces, three references each (1 would be taken for a constant)."""
    size = generator.config.size_px
    shapes = []
    for name in generator.shared_layers:
        block = int(name.split(".")[1])  # up_blocks.1 has the coarsest shared layers
        cells = size // generator.vae_factor // 2 ** (len(generator.unet.up_blocks) - 1 - block)
        shapes.append((2, 3, cells**2, generator.unet.get_submodule(name).to_k.out_features))
    lq = torch.zeros(2, 3, size, size)
    return lq, [torch.randn(shape) for shape in shapes], [torch.randn(shape) for shape in shapes]
