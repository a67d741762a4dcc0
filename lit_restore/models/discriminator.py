"""Vision-aided discriminator (Kumari et al. 2022): small trained heads on the features of a pretrained network.

    D(x) = sigmoid( heads( features( augment(x) ) ) )

Three levels are judged apart: two feature maps, patch by patch, and one vector for the whole image. The backbone is
DINOv2 (InstantRestore, section 3.2) or, for the embedded default, the bundled recognition network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

from lit_restore.errors import UserError
from lit_restore.models.base import fingerprint
from lit_restore.models.diff_augment import Operation, augment, draw_augmentation
from lit_restore.models.discriminator_features import load_features


@dataclass
class AdversarialConfig:
    """The adversarial game; the defaults are the paper's, except that it is off."""

    weight: float = 0.0
    """Of the generator's and the discriminator's loss; paper and official: 0.5. 0 = no game, nothing is loaded."""
    backbone: str = "facebook/dinov2-large"
    """Folder or hub id of a DINOv2 in transformers' layout, ``dinov2_vitl14_pretrain.pth`` as torch.hub keeps it, or a
    folder or ``bundled:NAME`` of a `SmallRecognizer`."""
    train_backbone: bool = True
    """Paper: DINOv2 is trained jointly. Official: frozen, only the heads are trained."""
    form: Literal["plain", "multilevel_sigmoid"] = "plain"
    """Paper: ``plain``. Official: ``multilevel_sigmoid``. See `lit_restore.losses.adversarial`."""
    augmentation: list[Operation] = field(default_factory=lambda: ["color", "translation", "cutout"])
    """DiffAugment operations on what the discriminator sees; official: all three, paper: not stated."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UserError("the adversarial loss needs a weight of at least 0", found=self.weight)


class Discriminator(nn.Module):
    """Augmentation, backbone and heads.

    The backbone stays in eval mode and, unless it is trained, is neither in `trained_parameters` nor in `state_dict`.

    Args:
        config: see `AdversarialConfig`.
        seed: of the heads' random start.

    Raises:
        UserError: the backbone's weights are not there or are others.
    """

    def __init__(self, config: AdversarialConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):  # building a network draws weights, also where a file replaces them
            self.backbone = load_features(config.backbone).requires_grad_(config.train_backbone)
            torch.default_generator.manual_seed(seed)
            self.heads = Heads(self.backbone.widths, hidden=max(self.backbone.widths) // 4)
        self.backbone_fingerprint = fingerprint(self.backbone)  # of the weights it starts from
        self.train()

    def forward(self, images: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> logits per level, float32: (B, h, w), (B, h', w'), (B, 1).

        Gradients flow to the images. ``generator`` draws the augmentation, afresh in every call.
        In training mode every call makes one step of spectral normalisation's power iteration.
        """
        draws = draw_augmentation(len(images), *images.shape[-2:], generator)
        features = self.backbone(augment(images.float(), draws, self.config.augmentation))
        # The heads are small; in float32 their spectral norms do not depend on the precision of the training.
        with torch.autocast(images.device.type, enabled=False):
            return self.heads([level.float() for level in features])

    def trained_parameters(self) -> list[nn.Parameter]:
        """What the discriminator's optimiser owns: the heads', and the backbone's if it is trained."""
        trained = [self.backbone, self.heads] if self.config.train_backbone else [self.heads]
        return [parameter for part in trained for parameter in part.parameters()]

    def train(self, mode: bool = True) -> Discriminator:
        """Only the heads change mode: the backbone keeps the batch statistics it came with."""
        super().train(mode)
        self.backbone.eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Only what is trained, with the ``u`` and ``v`` of spectral normalisation and the constant blur kernels."""
        state = super().state_dict(*args, **kwargs)
        if not self.config.train_backbone:
            prefix = kwargs.get("prefix", "") + "backbone."
            for name in [name for name in state if name.startswith(prefix)]:
                del state[name]
        return state

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load exactly what `state_dict` gives; a frozen backbone stays as it was loaded.

        Raises:
            UserError: names or shapes are those of another configuration.
        """
        own = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        given = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
        different = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        if different:
            name = different[0]
            raise UserError(
                "weights of another discriminator",
                where=name,
                expected=own.get(name, "no such tensor"),
                found=given.get(name, "no such tensor"),
                fix="Use the backbone and train_backbone the discriminator was trained with.",
            )
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class Heads(nn.Module):
    """Judges of three levels of features; parameter names are those of the official discriminator.

    Map (B, C, h, w): blur, 3x3 convolution of stride 2, LeakyReLU, blur, 1x1 convolution of stride 2 -> (B, h', w').
    Vector (B, C): linear, LeakyReLU, linear -> (B, 1). Every convolution and linear layer is divided by its largest
    singular value (spectral normalisation, Miyato et al. 2018).

    Args:
        widths: channels of the three levels.
        hidden: channels in between; official: 256 for 1,024.
    """

    def __init__(self, widths: tuple[int, int, int], hidden: int) -> None:
        super().__init__()
        first, second, vector = widths
        last = nn.Sequential(spectral_norm(nn.Linear(vector, hidden)), nn.LeakyReLU(0.2))
        self.decoder = nn.ModuleList([_map_head(first, hidden), _map_head(second, hidden), last])
        self.out = spectral_norm(nn.Linear(hidden, 1))

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        first, second, vector = (head(level) for head, level in zip(self.decoder, features, strict=True))
        return [first.squeeze(1), second.squeeze(1), self.out(vector)]


class Blur(nn.Module):
    """Every channel blurred by the outer product of [1, 3, 3, 1] / 8, so that the stride that follows aliases less."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("filt", torch.outer(taps, taps).expand(channels, 1, 4, 4).clone())
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.filt, padding=self.padding, groups=x.shape[1])


def _map_head(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        Blur(channels, padding=2),
        spectral_norm(nn.Conv2d(channels, hidden, 3, stride=2)),
        nn.LeakyReLU(0.2),
        Blur(hidden, padding=1),
        spectral_norm(nn.Conv2d(hidden, 1, 1, stride=2)),
    )
