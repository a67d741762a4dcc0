"""Published face restorers as methods: GFPGAN, CodeFormer and RestoreFormer from their released checkpoints.

Architectures and loading are spandrel's (CodeFormer's, under a non-commercial licence, in spandrel_extra_arches); both
are optional. The networks are called directly: all three take and give RGB in [-1, 1], whereas the wrapper of spandrel
0.4 hands GFPGAN and CodeFormer pictures in [0, 1] and clips what comes back to that range.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from lit_restore.errors import UserError
from lit_restore.evaluation.methods import Outcome
from lit_restore.evaluation.protocol import Protocol, hash_files
from lit_restore.types import RestorationBatch

# Architecture -> the only side it works at, None = any multiple of 32; further arguments of its forward pass.
NETWORKS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "GFPGAN": (512, {}),
    "CodeFormer": (512, {"weight": 0.5}),  # fidelity weight of its own inference script
    "RestoreFormer": (None, {}),
}
MULTIPLE_PX = 32


class FaceNetwork:
    """One of `NETWORKS` from a checkpoint file.

    Args:
        path: ``.pth`` or ``.safetensors`` as its authors released it.
        size_px: side of the photos it will be given.
        seed: GFPGAN adds noise; every photo gets the same.

    Raises:
        UserError: spandrel is missing, the file cannot be used, or the network does not work at this size.
    """

    def __init__(self, path: str | Path, *, size_px: int, seed: int = 0) -> None:
        architecture, self.network = _load(Path(path))
        side, self.arguments = NETWORKS[architecture]
        if size_px != side if side else size_px % MULTIPLE_PX:
            raise UserError(
                f"{architecture} does not work at this size",
                expected=f"{side} px" if side else f"a multiple of {MULTIPLE_PX} px",
                found=f"{size_px} px",
            )
        self.name, self.seed = architecture, seed
        self.protocol: Protocol = {
            "kind": "network",
            "architecture": architecture,
            "weights_sha256": hash_files([path]),
            "arguments": self.arguments,
            "noise_seed": seed,
            "precision": "float32",
        }

    @torch.inference_mode()
    def __call__(self, batch: RestorationBatch) -> list[Outcome]:
        restored: list[Outcome] = []
        for lq in batch["lq"]:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                restored.append(self.network(lq[None], **self.arguments)[0][0].float().clamp(-1, 1))
        return restored

    def to(self, device: torch.device) -> FaceNetwork:
        self.network.to(device)
        return self


def _load(path: Path) -> tuple[str, torch.nn.Module]:
    try:
        import spandrel
    except ImportError:
        raise UserError(
            "published face restorers need the library spandrel",
            fix="pip install 'lit_restore[baselines]', for CodeFormer also 'lit_restore[baselines-noncommercial]'.",
        ) from None
    if not path.is_file():
        raise UserError("no such checkpoint of a face restorer", where=path, fix="Download it from its authors.")
    has_extra = importlib.util.find_spec("spandrel_extra_arches") is not None
    if has_extra:
        import spandrel_extra_arches

        spandrel_extra_arches.install(ignore_duplicates=True)
    try:
        model = spandrel.ModelLoader(torch.device("cpu")).load_from_file(path)
    except spandrel.UnsupportedModelError:
        fix = "" if has_extra else " CodeFormer needs 'lit_restore[baselines-noncommercial]'."
        raise UserError(
            "not a checkpoint of a known face restorer",
            where=path,
            expected=", ".join(NETWORKS),
            fix=f"Run other programs yourself and pass their pictures with --outputs.{fix}",
        ) from None
    except Exception as error:  # whatever a damaged file makes the readers below raise
        raise UserError("the checkpoint cannot be read", where=path, found=" ".join(str(error).split())[:120]) from None
    name = model.architecture.name
    if name not in NETWORKS:
        raise UserError(
            "not a face restorer", where=path, expected=", ".join(NETWORKS), found=name, fix="Use --outputs instead."
        )
    return name, model.model.requires_grad_(False).eval()
