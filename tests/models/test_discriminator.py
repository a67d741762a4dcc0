from __future__ import annotations

import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import for_each_math_file, normal, pictures
from safetensors.torch import load_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.losses.adversarial import discriminator_loss, generator_loss
from lit_restore.models.discriminator import AdversarialConfig, Discriminator, Heads
from lit_restore.models.discriminator_features import resampled_positions
from lit_restore.models.random_base import write_random_dinov2
from lit_restore.models.recognition import SmallRecognizer, load_recognizer

BUNDLED = "bundled:synthetic128/recognition"
STAGES = {"widths": (8, 12, 16), "embedding": 8, "size_px": 32}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for_each_math_file(metafunc, "adversarial.safetensors")


@pytest.fixture(scope="session")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(params=["recognizer", "dinov2"])
def backbone(request: pytest.FixtureRequest) -> str:
    return BUNDLED if request.param == "recognizer" else str(request.getfixturevalue("dinov2"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def discriminator(backbone: str, *, train_backbone: bool = False, seed: int = 0) -> Discriminator:
    return Discriminator(AdversarialConfig(backbone=backbone, train_backbone=train_backbone), seed=seed)


def trained(judge: Discriminator, updates: int = 3) -> torch.optim.Optimizer:
    """A few updates on noise, so that weights and spectral-norm vectors are no longer where they started."""
    optimizer = torch.optim.AdamW(judge.trained_parameters(), lr=1e-3)
    for update in range(updates):
        step(judge, optimizer, update)
    return optimizer


def step(judge: Discriminator, optimizer: torch.optim.Optimizer, seed: int) -> float:
    generator = seeded(seed)
    real, fake = (judge(pictures(seed + n, 2, 3, 32, 32), generator) for n in (0, 50))
    loss = discriminator_loss(real, fake, "multilevel_sigmoid")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def official_heads(math_file: Path) -> tuple[Heads, dict[str, torch.Tensor]]:
    stored = load_file(math_file)
    state = {name.removeprefix("disc.state."): value for name, value in stored.items() if name.startswith("disc.state")}
    hidden, width = state["decoder.0.1.weight_orig"].shape[:2]
    heads = Heads((width, width, width), hidden)
    heads.load_state_dict(state)  # strict: the official names and shapes
    return heads, stored


# The heads and their spectral normalisation


@torch.no_grad()
def test_parity_of_the_discriminator_heads(math_file: Path) -> None:
    heads, stored = official_heads(math_file)
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    logits = heads.eval()([stored[f"disc.feat{level}"] for level in range(3)])
    for level, found in enumerate(logits):
        torch.testing.assert_close(found, stored[f"disc.out{level}"], atol=1e-6, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in heads.state_dict().items())


@torch.no_grad()
def test_every_call_in_training_is_one_power_iteration(math_file: Path) -> None:
    """v = W'u / |W'u|, u = Wv / |Wv|, weight = W / (u' W v), in every layer, once per call."""
    heads, stored = official_heads(math_file)
    before = {name: value.clone() for name, value in heads.state_dict().items()}
    heads.train()([stored[f"disc.feat{level}"] for level in range(3)])
    layers = [name.removesuffix("weight_u") for name in before if name.endswith("weight_u")]
    assert len(layers) == 6
    for name in layers:
        weight = before[name + "weight_orig"].flatten(1)
        v = F.normalize(weight.T @ before[name + "weight_u"], dim=0)
        u = F.normalize(weight @ v, dim=0)
        after = heads.state_dict()
        torch.testing.assert_close(after[name + "weight_v"], v)
        torch.testing.assert_close(after[name + "weight_u"], u)
        used = heads.get_submodule(name.removesuffix(".")).weight
        torch.testing.assert_close(used.flatten(1), weight / (u @ weight @ v))


@torch.no_grad()
def test_spectral_norms_converge_to_one() -> None:
    with torch.random.fork_rng():  # how fast depends on how close the two largest singular values of the start are
        torch.manual_seed(0)
        heads = Heads((8, 8, 8), 4).train()
    for _ in range(200):
        heads([normal(0, 1, 8, 8, 8), normal(1, 1, 8, 8, 8), normal(2, 1, 8)])
    for layer in heads.modules():
        if hasattr(layer, "weight_orig"):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.01)


def test_full_size_heads_have_the_official_shapes_and_size() -> None:
    with torch.device("meta"):
        heads = Heads((1024,) * 3, 256)
        levels = [torch.empty(2, 1024, 16, 16), torch.empty(2, 1024, 16, 16), torch.empty(2, 1024)]
        assert [tuple(logits.shape) for logits in heads(levels)] == [(2, 4, 4), (2, 4, 4), (2, 1)]
    per_map = 1024 * 256 * 9 + 256 + 256 + 1
    assert sum(p.numel() for p in heads.parameters()) == 2 * per_map + (1024 * 256 + 256) + 257


# The backbones


def authors_dinov2(width: int = 128, blocks: int = 9, grid: int = 5) -> dict[str, torch.Tensor]:
    """A small random DINOv2 under its authors' names; ``grid`` patches along each side in its position embeddings."""
    shapes = {
        "cls_token": (1, 1, width), "mask_token": (1, width), "pos_embed": (1, 1 + grid * grid, width),
        "patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,),
        "norm.weight": (width,), "norm.bias": (width,),
    }  # fmt: skip
    for i in range(blocks):
        for name, shape in {
            "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
            "ls1.gamma": (width,), "ls2.gamma": (width,),
        }.items():  # fmt: skip
            shapes[f"blocks.{i}.{name}"] = shape
    state = {}
    for name, shape in shapes.items():
        scale = 0.3 / math.sqrt(shape[-1]) if len(shape) == 2 else 0.3
        state[name] = scale * normal(len(state), *shape) + (1 if "norm" in name and name.endswith("weight") else 0)
    return state


def authors_forward(state: dict[str, torch.Tensor], images: torch.Tensor) -> list[torch.Tensor]:
    """DINOv2 written down from its paper: every block's tokens, after the final norm. Images are normalised."""
    width = state["pos_embed"].shape[-1]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    patches = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
    x = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
    side, grid = patches.shape[-1], math.isqrt(state["pos_embed"].shape[1] - 1)
    cells = state["pos_embed"][:, 1:].reshape(1, grid, grid, width).permute(0, 3, 1, 2)
    cells = F.interpolate(cells, scale_factor=((side + 0.1) / grid,) * 2, mode="bicubic")
    x = x + torch.cat([state["pos_embed"][:, :1], cells.permute(0, 2, 3, 1).reshape(1, -1, width)], dim=1)
    outputs = []
    for i in range(len([name for name in state if name.endswith("ls1.gamma")])):
        block = f"blocks.{i}"
        q, k, v = (
            linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").unflatten(2, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        )
        mixed = torch.softmax(q @ k.mT / 8, dim=-1) @ v
        mixed = linear(mixed.permute(0, 2, 1, 3).flatten(2), f"{block}.attn.proj")
        x = x + state[f"{block}.ls1.gamma"] * mixed
        wide = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        wide = linear(0.5 * wide * (1 + torch.erf(wide / math.sqrt(2))), f"{block}.mlp.fc2")
        x = x + state[f"{block}.ls2.gamma"] * wide
        outputs.append(norm(x, "norm"))
    return outputs


@torch.no_grad()
def test_dinov2_features_from_the_authors_file_are_those_of_the_paper(tmp_path: Path) -> None:
    """Two blocks of 448 px are averaged, CLIP's mean, ImageNet's deviation, blocks 1, 5 and 8 of nine."""
    state = authors_dinov2()
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    features = discriminator(str(tmp_path / "dinov2_vits14_pretrain.pth")).backbone
    images = pictures(0, 2, 3, 448, 448)
    small = images.unflatten(2, (224, 2)).unflatten(4, (224, 2)).mean((3, 5))
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    blocks = authors_forward(state, ((small + 1) / 2 - mean) / std)
    early, middle, last = features(images)
    for found, block in ((early, 1), (middle, 5)):
        expected = blocks[block][:, 1:].mT.reshape(2, 128, 16, 16)
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(last, blocks[8][:, 0], atol=2e-4, rtol=1e-4)
    assert early.std() > 0.1


def test_position_embeddings_are_resampled_as_their_authors_do() -> None:
    """A ramp stays a ramp: cell i of 16 lies at (i + 0.5) 37 / 16.1 - 0.5 of 37, not at (i + 0.5) 37 / 16 - 0.5."""
    ramp = torch.arange(37.0).expand(37, 37)
    class_token = torch.full((1, 1, 2), 100.0)
    positions = torch.cat([class_token, torch.stack([ramp, ramp.T], dim=-1).reshape(1, -1, 2)], dim=1)
    found = resampled_positions(positions, 16)
    assert torch.equal(found[:, :1], class_token)
    across, down = found[0, 1:].reshape(16, 16, 2).unbind(-1)
    cells, inside = torch.arange(16) + 0.5, slice(1, 15)  # the kernel is cut at the border
    expected, without_the_tenth = cells * 37 / 16.1 - 0.5, cells * 37 / 16 - 0.5
    for found_cells in (across[3], down[:, 3]):
        # torch's bicubic kernel (a = -0.75) bends a ramp by up to 0.05.
        torch.testing.assert_close(found_cells[inside], expected[inside], atol=0.06, rtol=0)
        assert (found_cells - without_the_tenth)[14].abs() > 0.15
    assert torch.equal(resampled_positions(positions, 37), positions)


@torch.no_grad()
def test_the_authors_file_and_transformers_folder_are_one_network(dinov2: Path, tmp_path: Path) -> None:
    stored = load_file(dinov2 / "model.safetensors")
    renamed = {}
    for name, tensor in stored.items():
        for there, here in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"), ("layernorm", "norm"),
            ("embeddings.position_embeddings", "pos_embed"), ("embeddings.", ""), ("encoder.layer", "blocks"),
            ("attention.output.dense", "attn.proj"), ("layer_scale1.lambda1", "ls1.gamma"),
            ("layer_scale2.lambda1", "ls2.gamma"),
        ):  # fmt: skip
            name = name.replace(there, here)
        renamed[name] = tensor
    for name in [name for name in renamed if ".attention.attention.query." in name]:
        parts = [renamed.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        renamed[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    torch.save(renamed, tmp_path / "own.pth")
    one, other = discriminator(str(dinov2)), discriminator(str(tmp_path / "own.pth"))
    assert one.backbone_fingerprint == other.backbone_fingerprint
    images = pictures(1, 1, 3, 64, 64)
    for first, second in zip(one.backbone(images), other.backbone(images), strict=True):
        assert torch.equal(first, second)


@torch.no_grad()
def test_recognition_features_are_its_last_three_stages_at_full_size() -> None:
    network = load_recognizer(BUNDLED).network
    images = pictures(2, 2, 3, 128, 128)
    found = discriminator(BUNDLED).backbone(images)
    assert [tuple(level.shape) for level in found] == [(2, 32, 32, 32), (2, 64, 16, 16), (2, 128)]
    for level, stages in zip(found, (4, 6, 8), strict=True):
        expected = network.stages[:stages](images)
        torch.testing.assert_close(level, expected.mean((2, 3)) if stages == 8 else expected)


# The whole


@pytest.mark.parametrize(("side", "maps"), [(64, [(4, 4), (2, 2)]), (128, [(8, 8), (4, 4)])])
@torch.no_grad()
def test_logits_of_the_small_backbone_follow_the_image_size(side: int, maps: list[tuple[int, int]]) -> None:
    logits = discriminator(BUNDLED)(pictures(0, 2, 3, side, side), seeded(0))
    assert [tuple(level.shape) for level in logits] == [(2, *maps[0]), (2, *maps[1]), (2, 1)]


@torch.no_grad()
def test_logits_of_dinov2_do_not_depend_on_the_image_size(dinov2: Path) -> None:
    for side in (64, 300):
        logits = discriminator(str(dinov2))(pictures(0, 2, 3, side, side), seeded(0))
        assert [tuple(level.shape) for level in logits] == [(2, 4, 4), (2, 4, 4), (2, 1)]


@torch.no_grad()
def test_the_generator_decides_every_draw(backbone: str) -> None:
    judge, images = discriminator(backbone).eval(), pictures(3, 2, 3, 64, 64)
    generator = seeded(1)
    first, second = judge(images, generator), judge(images, generator)
    again = judge(images, seeded(1))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0])
    plain = Discriminator(AdversarialConfig(backbone=backbone, augmentation=[])).eval()
    assert all(torch.equal(a, b) for a, b in zip(plain(images, seeded(1)), plain(images, seeded(2)), strict=True))


def test_a_frozen_backbone_gets_no_gradient_and_the_images_do(backbone: str) -> None:
    judge = discriminator(backbone)
    images = pictures(4, 2, 3, 64, 64).requires_grad_()
    before = {name: tensor.clone() for name, tensor in judge.backbone.state_dict().items()}
    generator_loss(judge(images, seeded(0)), "plain").backward()
    assert (images.grad.abs().amax(1) > 0).float().mean() > 0.99  # also where pixels are hidden: they enter the means
    assert all(p.grad is None for p in judge.backbone.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.trained_parameters())
    assert {id(p) for p in judge.trained_parameters()} == {id(p) for p in judge.heads.parameters()}
    trained(judge)
    assert all(torch.equal(tensor, before[name]) for name, tensor in judge.backbone.state_dict().items())


def test_a_trained_backbone_belongs_to_the_optimiser_in_full(backbone: str) -> None:
    """Every parameter gets a gradient: one that does not would stop training on several processes."""
    judge = discriminator(backbone, train_backbone=True)
    before = {name: tensor.clone() for name, tensor in judge.backbone.state_dict().items()}
    generator_loss(judge(pictures(4, 2, 3, 64, 64), seeded(0)), "plain").backward()
    assert {id(p) for p in judge.trained_parameters()} == {id(p) for p in judge.parameters()}
    assert [name for name, p in judge.named_parameters() if p.grad is None] == []
    trained(judge)
    moved = [name for name, tensor in judge.backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert moved == [name for name, _ in judge.backbone.named_parameters()]  # parameters, not batch statistics


def test_freezing_for_the_generators_turn_does_not_change_who_owns_what() -> None:
    judge = discriminator(BUNDLED)
    owned = [id(p) for p in judge.trained_parameters()]
    judge.requires_grad_(False)
    images = pictures(0, 1, 3, 32, 32).requires_grad_()
    generator_loss(judge(images, seeded(0)), "plain").backward()
    assert images.grad.abs().sum() > 0
    assert [id(p) for p in judge.trained_parameters()] == owned
    assert all(p.grad is None for p in judge.parameters())


def test_train_mode_is_for_the_heads_only() -> None:
    judge = discriminator(BUNDLED, train_backbone=True).train()
    assert judge.training
    assert judge.heads.training
    assert not any(module.training for module in judge.backbone.modules())
    assert not judge.eval().heads.training


def test_bf16_autocast_leaves_logits_and_spectral_norms_in_float32(backbone: str) -> None:
    exact, mixed = discriminator(backbone), discriminator(backbone)
    images = pictures(5, 2, 3, 64, 64)
    reference = exact(images, seeded(0))
    coarse = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        logits = mixed(coarse, seeded(0))
        generator_loss(logits, "multilevel_sigmoid").backward()
    for found, expected in zip(logits, reference, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    assert torch.isfinite(coarse.grad).all()
    for name, buffer in mixed.heads.named_buffers():
        assert torch.equal(buffer, exact.heads.get_buffer(name))


def test_heads_start_from_their_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    one = discriminator(BUNDLED, seed=4)
    assert torch.equal(torch.rand(1), expected)
    same, other = discriminator(BUNDLED, seed=4), discriminator(BUNDLED, seed=5)
    states = [judge.state_dict() for judge in (one, same, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["heads.out.weight_orig"], states[2]["heads.out.weight_orig"])


def test_it_learns_to_tell_sharp_from_blurred() -> None:
    judge = discriminator(BUNDLED, train_backbone=True)
    optimizer, generator = torch.optim.AdamW(judge.trained_parameters(), lr=2e-3), seeded(0)
    losses = []
    for update in range(50):
        sharp = pictures(update, 4, 3, 32, 32)
        blurred = F.interpolate(F.avg_pool2d(pictures(100 + update, 4, 3, 32, 32), 4), (32, 32))
        loss = discriminator_loss(judge(sharp, generator), judge(blurred, generator), "plain")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.8
    assert sum(losses[-5:]) / 5 < 0.5


# Checkpoints


@pytest.mark.parametrize("train_backbone", [False, True])
def test_a_resumed_discriminator_continues_bit_for_bit(backbone: str, train_backbone: bool) -> None:
    judge = discriminator(backbone, train_backbone=train_backbone)
    optimizer = trained(judge)
    file = io.BytesIO()
    torch.save({"judge": judge.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = discriminator(backbone, train_backbone=train_backbone, seed=9)
    resumed.load_state_dict(saved["judge"])
    other = torch.optim.AdamW(resumed.trained_parameters(), lr=1e-3)
    other.load_state_dict(saved["optimizer"])
    for update in (10, 11):
        assert step(judge, optimizer, update) == step(resumed, other, update)
    ours, theirs = judge.state_dict(), resumed.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_checkpoints_hold_only_what_is_trained(backbone: str) -> None:
    frozen = discriminator(backbone).state_dict()
    assert all(name.startswith("heads.") for name in frozen)
    vectors = [name for name in frozen if name.endswith(("weight_u", "weight_v"))]
    assert len(vectors) == 12
    everything = discriminator(backbone, train_backbone=True).state_dict()
    assert set(frozen) < set(everything)
    assert any(name.startswith("backbone.") for name in everything)
    # Inside another module as well.
    nested = nn.ModuleDict({"judge": discriminator(backbone), "other": nn.Linear(1, 1)}).state_dict()
    assert {name for name in nested if name.startswith("judge.")} == {f"judge.{name}" for name in frozen}
    assert "other.weight" in nested


def test_weights_of_another_discriminator_are_refused(dinov2: Path) -> None:
    small, large = discriminator(BUNDLED), discriminator(str(dinov2))
    with pytest.raises(UserError, match="weights of another discriminator: heads") as error:
        small.load_state_dict(large.state_dict())
    assert "(32, 1, 4, 4); found (128, 1, 4, 4)" in str(error.value)
    with pytest.raises(UserError, match=r"backbone.*expected no such tensor"):
        small.load_state_dict(discriminator(BUNDLED, train_backbone=True).state_dict())
    state = small.state_dict()
    del state["heads.out.weight_u"]
    with pytest.raises(UserError, match=r"heads\.out\.weight_u.*found no such tensor"):
        small.load_state_dict(state)


# What a user can do wrong


def refused(source: Path | str) -> str:
    with pytest.raises(UserError) as error:
        discriminator(str(source))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_weights_name_the_file_its_size_checksum_and_source() -> None:
    for source in ("/no/such/dinov2_vitl14_pretrain.pth", "weights/dino/large", "bundled:nothing"):
        message = refused(source)
        assert message.startswith("no such discriminator backbone: ")
        assert source.removeprefix("bundled:") in message
        for part in (
            "nothing there", "dinov2_vitl14_pretrain.pth", "1,217,586,395 bytes", "sha256 d5383ea8f4877b24",
            "https://dl.fbaipublicfiles.com/", "hf download facebook/dinov2-large", "bundled:synthetic128/recognition",
        ):  # fmt: skip
            assert part in message


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_damaged_authors_file_states_both_sizes(tmp_path: Path) -> None:
    file = tmp_path / "dinov2_vitl14_pretrain.pth"
    torch.save(authors_dinov2(), file)
    truncated(file)
    message = refused(file)
    assert f"({file.stat().st_size:,} bytes)" in message
    assert "expected dinov2_vitl14_pretrain.pth (1,217,586,395 bytes, sha256" in message


def without_a_tensor(state: dict[str, torch.Tensor]) -> None:
    del state["blocks.4.ls1.gamma"]


def with_registers(state: dict[str, torch.Tensor]) -> None:
    state["register_tokens"] = torch.zeros(1, 4, 128)


def with_another_shape(state: dict[str, torch.Tensor]) -> None:
    state["blocks.3.mlp.fc2.bias"] = torch.zeros(7)


def of_another_network(state: dict[str, torch.Tensor]) -> None:
    state.clear()
    state["conv1.weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (without_a_tensor, "no tensor encoder.layer.4.layer_scale1.lambda1"),
        (with_registers, "an unknown tensor register_tokens"),
        (with_another_shape, "another shape of encoder.layer.3.mlp.fc2.bias"),
        (of_another_network, "not a DINOv2 ViT-S, B or L"),
    ],
)
def test_authors_files_of_other_networks_are_refused(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], part: str
) -> None:
    state = authors_dinov2()
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    message = refused(tmp_path / "weights.pth")
    assert part in message
    assert message.startswith("the discriminator's backbone cannot be read")


def test_a_file_that_is_no_weights_and_one_with_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    assert "cannot be read" in refused(tmp_path / "text.pth")
    torch.save({"pos_embed": Path("x")}, tmp_path / "code.pth")
    assert "cannot be read" in refused(tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "not a DINOv2" in refused(tmp_path / "list.pth")


def test_folders_that_are_not_whole_or_not_a_backbone_are_refused(dinov2: Path, tmp_path: Path) -> None:
    assert "config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2_with_registers"}))
    assert 'expected "model_type": "dinov2"' in refused(tmp_path)
    assert "found dinov2_with_registers" in refused(tmp_path)
    (tmp_path / "config.json").write_text((dinov2 / "config.json").read_text())
    assert "the discriminator's backbone cannot be read" in refused(tmp_path)  # no weights
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((dinov2 / "model.safetensors").read_bytes())
    truncated(weights)
    assert "the discriminator's backbone cannot be read" in refused(tmp_path)


def test_backbones_with_too_few_levels_are_refused(tmp_path: Path) -> None:
    torch.save(authors_dinov2(blocks=7), tmp_path / "shallow.pth")
    assert "expected at least 8 blocks; found 7" in refused(tmp_path / "shallow.pth")
    SmallRecognizer((4, 8), 8, 32).save(tmp_path / "two")
    assert "expected 3 stages; found 2" in refused(tmp_path / "two")
    SmallRecognizer(**STAGES).save(tmp_path / "three")
    judge = discriminator(str(tmp_path / "three"))
    assert [tuple(level.shape) for level in judge(pictures(0, 1, 3, 64, 64), seeded(0))] == [
        (1, 8, 8),
        (1, 4, 4),
        (1, 1),
    ]


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match=r"at least 0; found -0\.5"):
        AdversarialConfig(weight=-0.5)


def test_offline_the_hub_is_one_clear_error_and_its_cache_is_used(dinov2: Path, tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its settings once."""
    cached = tmp_path / "hub" / "models--facebook--dinov2-small"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(dinov2, cached / "snapshots" / ("0" * 40))
    code = (
        "from lit_restore.models.discriminator_features import load_features as load;"
        "print(load('facebook/dinov2-small').widths); load('facebook/dinov2-large')"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == ["(128, 128, 128)"]
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "the discriminator's backbone is not on this machine and the model hub cannot be reached" in last
    assert f"facebook/dinov2-large; found no copy in {tmp_path / 'hub'}" in last
    assert "1,217,586,395 bytes" in last
