from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lit_restore.errors import UserError
from lit_restore.models import base as base_file
from lit_restore.models.base import PROMPT, fingerprint, load_base, resolve
from lit_restore.models.random_base import SCHEDULER, write_random_base

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base that may be damaged."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def change_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def test_a_base_is_float32_frozen_and_in_eval_mode(tiny_base: Path) -> None:
    base = load_base(str(tiny_base))
    for network in (base.unet, base.vae):
        assert not network.training
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        assert not any(p.requires_grad for p in network.parameters())
    torch.testing.assert_close(
        base.prompt_embedding, load_file(tiny_base / "prompt" / "embedding.safetensors")["embedding"]
    )
    assert base.schedule.alpha_bar[249].item() == pytest.approx(0.6754320859909058, rel=1e-6)


def test_the_same_seed_writes_the_same_base(tiny_base: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    again, other = write_random_base(tmp_path / "again"), write_random_base(tmp_path / "other", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    prints = [load_base(str(path)).fingerprint for path in (tiny_base, again, other)]
    assert prints[0] == prints[1] != prints[2]


def test_the_vae_may_come_from_elsewhere(tiny_base: Path, tmp_path: Path) -> None:
    other = write_random_base(tmp_path / "other", seed=1)
    expected = load_base(str(other)).vae.state_dict()
    for source in (other, other / "vae"):  # a whole base, or a folder with nothing but the VAE
        mixed = load_base(str(tiny_base), vae=str(source)).vae.state_dict()
        assert all(torch.equal(mixed[name], tensor) for name, tensor in expected.items())


def test_fingerprint_sees_a_change_of_any_tensor(tiny_base: Path) -> None:
    base = load_base(str(tiny_base))
    known = {fingerprint(base.unet, base.vae)}
    for name, tensor in list(base.unet.named_parameters())[::40] + list(base.vae.named_parameters())[::30]:
        tensor.data += 1e-3
        known.add(fingerprint(base.unet, base.vae))
        tensor.data -= 1e-3
        assert name
    assert len(known) == 1 + len(list(base.unet.named_parameters())[::40]) + len(
        list(base.vae.named_parameters())[::30]
    )


def test_fingerprint_is_of_the_values_not_of_their_storage(folder: Path) -> None:
    def to_bf16(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    def to_float(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.float() for name, tensor in tensors.items()})

    prints = []
    for change in (to_bf16, to_float):  # the second widens the very values the first wrote
        for part in ("unet", "vae"):
            change_weights(folder / part / WEIGHTS, change)
        prints.append(load_base(str(folder)).fingerprint)
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("unet", "unet"),
        ("vae/config.json", "vae"),
        ("scheduler", "scheduler_config.json"),
        ("prompt", "text_encoder"),
        (f"unet/{WEIGHTS}", "unet"),
    ],
)
def test_an_incomplete_folder_is_named(folder: Path, missing: str, named: str) -> None:
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=named):
        load_base(str(folder))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "file",
    [
        f"unet/{WEIGHTS}",
        f"vae/{WEIGHTS}",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "prompt/embedding.safetensors",
    ],
)
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b"")], ids=["cut", "empty"])
def test_a_damaged_file_is_one_clear_error(folder: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(folder / file)
    with pytest.raises(UserError, match=file.split("/")[0]) as error:
        load_base(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [lambda t: t.pop("conv_in.weight"), lambda t: t.update({"conv_in.weight": torch.zeros(16, 4, 1, 1)})],
    ids=["a tensor missing", "a tensor of another shape"],
)
def test_weights_that_do_not_fit_the_network_are_refused(folder: Path, change: Callable) -> None:
    change_weights(folder / "unet" / WEIGHTS, change)
    with pytest.raises(UserError, match="unet"):
        load_base(str(folder))


def test_another_prediction_type_is_refused(folder: Path) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(SCHEDULER | {"prediction_type": "v_prediction"}))
    with pytest.raises(UserError, match="epsilon; found v_prediction"):
        load_base(str(folder))


@pytest.fixture
def text_encoder(folder: Path) -> Path:
    """The base with a tiny CLIP text encoder and a word list instead of a stored embedding."""
    shutil.rmtree(folder / "prompt")
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "photo</w>", "b", "c", "b</w>", "c</w>"]
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 12, "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"})
    )
    return folder


@torch.no_grad()
def test_the_prompt_is_encoded_by_the_text_encoder_padded_to_its_length(text_encoder: Path) -> None:
    embedding = load_base(str(text_encoder), prompt="b c").prompt_embedding
    encoder = CLIPTextModel.from_pretrained(text_encoder / "text_encoder")
    ids = torch.tensor([[0, 6, 7] + [1] * 9])  # start, b, c, end and padding with end
    torch.testing.assert_close(embedding, encoder(ids).last_hidden_state)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_broken_text_encoder_is_one_clear_error(text_encoder: Path, part: str) -> None:
    file = {"text_encoder": "model.safetensors", "tokenizer": "vocab.json"}[part]
    cut(text_encoder / part / file)
    with pytest.raises(UserError, match=part) as error:
        load_base(str(text_encoder), prompt=PROMPT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["/no/such/folder", "./base", "base", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(UserError, match="no such base folder"):
        resolve(source)


def test_an_unknown_bundled_base_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    monkeypatch.setattr(base_file, "BUNDLED", tmp_path)
    assert resolve("bundled:faces") == tmp_path / "faces"
    with pytest.raises(UserError, match="bundled:face; expected faces"):
        resolve("bundled:face")


def test_a_hub_id_is_not_a_path_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="my folder/base"):
        resolve("my folder/base")


def test_offline_the_hub_is_one_clear_error(tmp_path: Path) -> None:
    """In a process of its own: the hub's client reads its settings once."""
    code = "from lit_restore.models.base import load_base; load_base('stabilityai/sd-turbo')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert (
        "UserError: the base is not on this machine and the model hub cannot be reached: stabilityai/sd-turbo" in last
    )
    assert "hf download stabilityai/sd-turbo --local-dir" in last
    assert "During handling" not in result.stderr
