"""What the tests of models, losses and training share: a tiny generator, pictures, noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_restore.models.adaptation import Adaptation
from lit_restore.models.generator import GeneratorConfig, OneStepGenerator, fixed_noise

NOISE = fixed_noise(3)
FIXTURES = Path(__file__).resolve().parent / "fixtures"


def for_each_math_file(metafunc: pytest.Metafunc, own: str) -> None:
    """Let ``math_file`` be our copy of the official numbers, or those of the folders given as --parity-fixtures."""
    if "math_file" in metafunc.fixturenames:
        folders = metafunc.config.getoption("--parity-fixtures")
        files = [folder / "math.safetensors" for folder in folders or ()] or [FIXTURES / "instantrestore_math" / own]
        metafunc.parametrize("math_file", files, ids=lambda file: file.parent.name)


def tiny_config(base: Path, **changes: Any) -> GeneratorConfig:
    """A generator of 64 px on the tiny random base."""
    values = {"size_px": 64, "lora_rank_unet": 4, "lora_rank_vae": 4, "train_timesteps": [249]}
    return GeneratorConfig(base=str(base), **(values | changes))


def tiny_generator(base: Path, *, trained: bool = True, **changes: Any) -> OneStepGenerator:
    """The generator; ``trained`` moves its trained parameters away from where they start."""
    generator = OneStepGenerator(tiny_config(base, **changes)).eval()
    if trained:
        for adaptation in generator.adaptations.values():
            disturb(adaptation)
    return generator


def disturb(adaptation: Adaptation, scale: float = 0.1, seed: int = 1) -> None:
    """Add noise to every trained tensor: stands for training."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adaptation.state_dict().values():
            tensor += scale * torch.randn(tensor.shape, generator=random)


def normal(seed: int, *shape: int) -> torch.Tensor:
    """Standard-normal values that depend on nothing but ``seed`` and shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(seed: int, *shape: int) -> torch.Tensor:
    """Uniform pixels in [-1, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
