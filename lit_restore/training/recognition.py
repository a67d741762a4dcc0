"""Recipe of the bundled recognition network, the stand-in for CurricularFace on synthetic people."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lit_restore.models.recognition import SmallRecognizer
from lit_restore.training.optim import OptimizerConfig
from lit_restore.training.pretraining import PretrainingModule, all_faces
from lit_restore.types import RestorationBatch


def margin_logits(cosine: torch.Tensor, labels: torch.Tensor, margin: float, scale: float) -> torch.Tensor:
    """Additive angular margin (ArcFace, Deng et al. 2019, eq. 3): scale * cos(theta + margin) at the true class.

    Args:
        cosine: (B, classes) between faces and class centres.
        labels: (B,) true class.
    """
    true = cosine.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    shifted = torch.cos(torch.acos(true) + margin)
    return scale * cosine.scatter(1, labels[:, None], shifted.to(cosine.dtype))


class RecognitionModule(PretrainingModule):
    """Train a `SmallRecognizer` to tell the training people apart.

    Args:
        output: folder for the trained network.
        margin: additive angular margin, raised from 0 over the first fifth of the training.
        scale: of the cosines before the softmax.
    """

    def __init__(
        self,
        output: str,
        widths: list[int] = [16, 32, 64, 128],
        embedding: int = 128,
        size_px: int = 64,
        margin: float = 0.3,
        scale: float = 24.0,
        optimizer: OptimizerConfig = OptimizerConfig(
            learning_rate=2e-3, weight_decay=5e-2, schedule="cosine", warmup_iterations=200
        ),
        max_iterations: int = 6000,
        ema_decay: float = 0.998,
    ) -> None:
        super().__init__(output, optimizer, max_iterations, ema_decay)
        self.margin, self.scale = margin, scale
        self.track(SmallRecognizer(tuple(widths), embedding, size_px))
        self.centres: nn.Parameter | None = None
        self.embedding = embedding

    def setup(self, stage: str) -> None:
        dataset = self.trainer.datamodule.datasets["train"]
        people = sorted({photo.identity for photo in dataset.targets})
        self.labels = {name: index for index, name in enumerate(people)}
        if self.centres is None:
            self.centres = nn.Parameter(torch.randn(len(people), self.embedding) * 0.1)

    def loss(self, batch: RestorationBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        targets = torch.tensor([self.labels[name] for name in batch["identity"]], device=self.device)
        counts = batch["reference_mask"].sum(1)
        labels = torch.cat([targets, targets.repeat_interleave(counts)])
        faces = all_faces(batch).contiguous(memory_format=torch.channels_last)
        cosine = self.network(faces) @ F.normalize(self.centres.float(), dim=1).T
        ramp = min(1.0, self.iteration / (0.2 * self.max_iterations))
        value = F.cross_entropy(margin_logits(cosine, labels, self.margin * ramp, self.scale), labels)
        accuracy = (cosine.argmax(1) == labels).float().mean()
        return value, {"loss": value.detach(), "accuracy": accuracy}

    def export(self, network: SmallRecognizer, folder: Path) -> None:
        network.save(folder)
