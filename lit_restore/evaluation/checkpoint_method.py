"""A trained restorer as a method."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
import yaml

from lit_restore.errors import UserError
from lit_restore.evaluation.methods import Outcome
from lit_restore.evaluation.protocol import Protocol
from lit_restore.models.artifact import load_generator
from lit_restore.models.attention_probe import AttentionProbe
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.recognition import PUBLIC
from lit_restore.models.reference_attention import ReferenceFeatures
from lit_restore.types import RestorationBatch

Precision = Literal["float32", "bfloat16", "float16"]


class Checkpoint:
    """A run folder, model folder or ``.ckpt`` of `lit_restore.training.restoration`.

    Args:
        source: as for `lit_restore.models.artifact.load_generator`.
        size_px: side of the photos it will be given.
        base: where the base is, if not where the checkpoint says.
        noise_seed: of the one noise field that all photos share.
        precision: of the networks; metrics are always computed in float32.
        name: None = the file's or folder's.

    Raises:
        UserError: it cannot be loaded, or not be used at this size.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        size_px: int,
        base: str | None = None,
        noise_seed: int = 0,
        precision: Precision = "float32",
        name: str | None = None,
    ) -> None:
        self.generator = load_generator(source, base=base)
        if size_px % self.generator.side_multiple:
            raise UserError(
                "the checkpoint cannot work at this size",
                where=source,
                expected=f"a multiple of {self.generator.side_multiple}, it was trained at "
                f"{self.generator.config.size_px}",
                found=size_px,
                fix=f"Use --size {self.generator.config.size_px}.",
            )
        self.noise_seed = noise_seed
        self.precision: Precision = precision
        self.device = torch.device("cpu")
        self.name = name or Path(source).absolute().name
        config = {key: value for key, value in asdict(self.generator.config).items() if key not in ("base", "vae")}
        self.protocol: Protocol = {
            "kind": "checkpoint",
            "weights_sha256": _hash_weights(self.generator),
            "base_fingerprint": self.generator.base_fingerprint,
            "generator": config,
            "noise_seed": noise_seed,
            "precision": precision,
            "trained_to_please": _identity_network(Path(source)),
        }

    @torch.inference_mode()
    def __call__(
        self, batch: RestorationBatch, features: ReferenceFeatures | None = None, *, cached: bool = False
    ) -> list[Outcome]:
        """Restore; ``cached`` takes ``features`` of an earlier look at the references instead of looking again."""
        references = features if cached else batch["references"]
        with self._autocast():
            restored = self.generator(
                batch["lq"],
                references,
                None if cached else batch["reference_mask"],
                draw=fixed_noise(self.noise_seed, self.device),
            )
        return list(restored.float())

    @torch.inference_mode()
    def attention(self, batch: RestorationBatch) -> AttentionProbe:
        """What the shared attention sees while the photos are restored; empty without references."""
        probe = AttentionProbe(range(len(self.generator.shared_layers)))
        with self._autocast():
            self.generator(
                batch["lq"],
                batch["references"],
                batch["reference_mask"],
                draw=fixed_noise(self.noise_seed, self.device),
                probe=probe,
            )
        return probe

    @torch.inference_mode()
    def look_at_references(self, batch: RestorationBatch) -> ReferenceFeatures | None:
        """What the network keeps of the references; None without any."""
        with self._autocast():
            return self.generator.reference_features(
                batch["references"], batch["reference_mask"], draw=fixed_noise(self.noise_seed, self.device)
            )

    def _autocast(self) -> AbstractContextManager:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def to(self, device: torch.device) -> Checkpoint:
        self.generator.to(device)
        self.device = device
        return self


def _identity_network(source: Path) -> str | None:
    """The recognition network in the identity loss, as the run's ``config.yaml`` says; None = none or unknown."""
    for folder in (source, *source.absolute().parents[:2]):
        try:
            content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            identity = content["model"]["init_args"]["losses"]["identity"]
            network = identity["network"] if identity["weight"] else None
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            continue
        return PUBLIC[network].name if network in PUBLIC else network
    return None


def _hash_weights(generator: OneStepGenerator) -> str:
    """16 hex digits over every trained tensor."""
    digest = hashlib.sha256()
    for part, adaptation in generator.adaptations.items():
        for name, tensor in sorted(adaptation.state_dict().items()):
            digest.update(f"{part}.{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
