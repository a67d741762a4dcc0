from __future__ import annotations

import errno
import json
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from helpers import NOISE, disturb, normal, pictures, tiny_generator
from peft import PeftModel
from safetensors.torch import load_file, save_file

from lit_restore.errors import UserError
from lit_restore.models import artifact
from lit_restore.models.artifact import PARTS, generator_config, load_generator, load_weights, save_generator
from lit_restore.models.generator import FreeU, GeneratorConfig, OneStepGenerator
from lit_restore.models.random_base import write_random_base

OPTIONS = {
    "full_unet_layers": ["conv_in"],
    "freeu": FreeU(b1=1.2),
    "keep_own_keys": True,
    "train_timesteps": [249, 499],
}
FILES = {"config.json", *(f"{part}/adapter_{file}" for part in PARTS for file in ("config.json", "model.safetensors"))}


@pytest.fixture(scope="module")
def generator(tiny_base: Path) -> OneStepGenerator:
    return tiny_generator(tiny_base, **OPTIONS)


@pytest.fixture
def saved(generator: OneStepGenerator, tmp_path: Path) -> Path:
    save_generator(generator, tmp_path / "run" / "model", iteration=12)
    return tmp_path / "run" / "model"


@pytest.fixture
def checkpoint(generator: OneStepGenerator, tmp_path: Path) -> Path:
    """What Lightning writes, as far as `load_generator` reads it."""
    adaptations = generator.adaptations.items()
    state = {f"{part}.{name}": value for part, owner in adaptations for name, value in owner.state_dict().items()}
    extra = {"iteration": 12, "generator": asdict(generator.config), "base_fingerprint": generator.base_fingerprint}
    torch.save({"state_dict": state, "lit_restore": extra}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


@torch.no_grad()
def restore(generator: OneStepGenerator) -> torch.Tensor:
    return generator(pictures(0, 1, 3, 64, 64), pictures(1, 1, 2, 3, 64, 64), draw=NOISE)


def test_what_is_loaded_computes_the_same_bits(generator: OneStepGenerator, saved: Path, checkpoint: Path) -> None:
    expected = restore(generator)
    for source in (saved, saved.parent, checkpoint, str(saved)):  # model folder, run folder, checkpoint, str
        loaded = load_generator(source)
        assert torch.equal(restore(loaded), expected)
        assert loaded.config == generator.config
        assert not loaded.training
        assert not any(p.requires_grad for p in loaded.parameters())


def test_the_folder_holds_what_was_trained_and_nothing_else(generator: OneStepGenerator, saved: Path) -> None:
    assert {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()} == FILES
    for part, adaptation in generator.adaptations.items():
        stored = load_file(saved / part / "adapter_model.safetensors")
        assert {name: tuple(value.shape) for name, value in stored.items()} == {
            f"base_model.model.{name.replace(f'.{adaptation.name}.weight', '.weight')}": tuple(value.shape)
            for name, value in adaptation.state_dict().items()
        }
    config = json.loads((saved / "config.json").read_text())
    assert (config["format"], config["iteration"], config["generator"]["freeu"]["b1"]) == (2, 12, 1.2)


@pytest.mark.parametrize("changes", [{}, {"full_vae_layers": []}, {"lora_rank_unet": 5, "lora_rank_vae": 7}], ids=str)
@torch.no_grad()
def test_diffusers_and_peft_load_the_adapters_by_themselves(
    tiny_base: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """With their own loaders, into the plain networks of the base; they then compute what ours compute."""
    ours = tiny_generator(tiny_base, **(OPTIONS | {"freeu": None} | changes))
    save_generator(ours, tmp_path / "model", iteration=1)
    latent, prompt, image = normal(0, 1, 4, 8, 8), normal(1, 1, 77, 16), pictures(2, 1, 3, 64, 64)
    networks = {"unet": (UNet2DConditionModel, lambda unet: unet(latent, 249, prompt).sample)}
    networks["vae"] = (AutoencoderKL, lambda vae: vae.decode(vae.encode(image).latent_dist.mean).sample)
    for part, (kind, run) in networks.items():
        adaptation = ours.adaptations[part]
        expected = run(adaptation.network)
        with adaptation.off():
            untouched = run(adaptation.network)
        assert (expected - untouched).abs().max() > 0.05

        loaded = kind.from_pretrained(tiny_base / part)
        options = {"weight_name": "adapter_model.safetensors", "prefix": "base_model.model"}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You have passed exclude_modules")
            loaded.load_lora_adapter(tmp_path / "model", subfolder=part, **options)
        torch.testing.assert_close(run(loaded), expected, atol=1e-5, rtol=0)

        loaded = PeftModel.from_pretrained(kind.from_pretrained(tiny_base / part), tmp_path / "model", subfolder=part)
        torch.testing.assert_close(run(loaded), expected, atol=1e-5, rtol=0)
        with loaded.disable_adapter():
            torch.testing.assert_close(run(loaded), untouched, atol=1e-5, rtol=0)


def test_without_lora_there_is_no_adapter_to_describe(tiny_base: Path, tmp_path: Path) -> None:
    generator = tiny_generator(tiny_base, lora_rank_vae=0, full_vae_layers=[])
    save_generator(generator, tmp_path / "model", iteration=1)
    assert not (tmp_path / "model/vae/adapter_config.json").exists()
    assert torch.equal(restore(load_generator(tmp_path / "model")), restore(generator))


def test_saving_again_replaces_the_old_model(generator: OneStepGenerator, tiny_base: Path, saved: Path) -> None:
    other = tiny_generator(tiny_base, **OPTIONS)
    disturb(other.unet_adaptation, seed=5)
    save_generator(other, saved, iteration=13)
    assert torch.equal(restore(load_generator(saved)), restore(other))


def test_the_base_may_have_moved(generator: OneStepGenerator, saved: Path, tiny_base: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_base, tmp_path / "moved")
    assert torch.equal(restore(load_generator(saved, base=str(moved))), restore(generator))
    config = json.loads((saved / "config.json").read_text())
    config["generator"]["base"] = str(tmp_path / "gone")
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="no such base folder"):
        load_generator(saved)


def test_another_base_is_refused(saved: Path, checkpoint: Path, tmp_path: Path) -> None:
    other = write_random_base(tmp_path / "other", seed=1)
    for source in (saved, checkpoint):
        with pytest.raises(UserError, match=r"another base.*fingerprint.*Pass the folder of the base"):
            load_generator(source, base=str(other))


def test_a_failed_save_leaves_the_old_model_whole(
    generator: OneStepGenerator, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the UNet: the folder is still the old one, and nothing is left lying about."""
    before, write = {path: path.read_bytes() for path in saved.rglob("*.*")}, artifact.write_safetensors

    def write_until_full(path: Path, *arguments: Any) -> None:
        if "vae" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *arguments)

    monkeypatch.setattr(artifact, "write_safetensors", write_until_full)
    with pytest.raises(UserError, match=r"cannot write.*no space left"):
        save_generator(generator, saved, iteration=13)
    assert {path: path.read_bytes() for path in saved.rglob("*.*")} == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
def test_saving_keeps_what_is_not_ours_and_nothing_stale(
    generator: OneStepGenerator, saved: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:  # as on systems that cannot swap two folders
        monkeypatch.setattr("lit_restore.image._exchange", lambda first, second: False)
    (saved / "notes.txt").write_text("mine")
    (saved / "vae" / "stale.json").write_text("{}")
    save_generator(generator, saved, iteration=13)
    assert {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()} == FILES | {"notes.txt"}
    assert json.loads((saved / "config.json").read_text())["iteration"] == 13
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("when", [0, 1, 2], ids=["before the parts", "between them", "after them"])
def test_what_is_read_while_it_is_saved_again_belongs_together(
    when: int, generator: OneStepGenerator, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process restores with a model that is being trained."""
    states = {part: adaptation.state_dict() for part, adaptation in generator.adaptations.items()}
    names = {part: next(iter(state)) for part, state in states.items()}

    def train(iteration: int) -> None:
        marked = {p: state | {names[p]: torch.full_like(state[names[p]], iteration)} for p, state in states.items()}
        artifact.write_model(saved, generator, marked, iteration=iteration)

    load_file, loaded = artifact.load_file, []

    def load(path: Path) -> dict[str, torch.Tensor]:
        if len(loaded) == when:
            train(100)
        loaded.append(path)
        state = load_file(path)
        if when == len(loaded) == 2:
            train(100)
            loaded.append(path)  # once
        return state

    monkeypatch.setattr(artifact, "load_file", load)
    config, found = artifact.read_model(saved)
    assert config["iteration"] == 100
    assert {float(state[f"base_model.model.{_portable(names[p])}"].mean()) for p, state in found.items()} == {100}


def _portable(name: str) -> str:
    return name.replace(".default.weight", ".weight").replace(".vae_skip.weight", ".weight")


def test_a_file_in_the_way_of_the_folder_is_not_touched(generator: OneStepGenerator, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        save_generator(generator, tmp_path / "model", iteration=1)
    assert (tmp_path / "model").read_text() == "mine"


def test_weights_are_a_start_for_another_configuration(
    generator: OneStepGenerator, saved: Path, tiny_base: Path
) -> None:
    other = tiny_generator(tiny_base, trained=False, **(OPTIONS | {"keep_own_keys": False, "freeu": None}))
    load_weights(other, saved)
    for part, adaptation in other.adaptations.items():
        expected = generator.adaptations[part].state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in adaptation.state_dict().items())
    assert not other.config.keep_own_keys
    assert any(p.requires_grad for p in other.parameters())
    for changes, message in (
        ({"lora_rank_unet": 2}, "weights of another shape"),
        ({"full_unet_layers": []}, "weights of another model"),
        ({"lora_alpha_ratio": 1.0}, r"another LoRA alpha.*expected lora_alpha_ratio 1.0; found 0.5"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(tiny_generator(tiny_base, **(OPTIONS | changes)), saved)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("file", sorted(FILES - {f"{part}/adapter_config.json" for part in PARTS}))
def test_a_file_cut_in_half_or_missing_is_one_clear_error(saved: Path, file: str) -> None:
    cut(saved / file)
    with pytest.raises(UserError, match="damaged checkpoint"):
        load_generator(saved)
    (saved / file).unlink()
    with pytest.raises(UserError, match=f"not a model folder.*no {file}"):
        load_generator(saved)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_in_half_is_one_clear_error(checkpoint: Path, share: float) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[: int(checkpoint.stat().st_size * share)])
    with pytest.raises(UserError, match=r"damaged checkpoint.*last.ckpt.*bytes") as error:
        load_generator(checkpoint)
    assert "\n" not in str(error.value)


def write_foreign(path: Path, kind: str) -> Path:
    if kind == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    elif kind == "safetensors":
        save_file({"x": torch.zeros(3)}, path)
    else:
        content = {"official": {"state_dict": {}, "cfg": {}}, "tensor": torch.zeros(3), "list": [1, 2]}
        torch.save(content[kind], path)
    return path


@pytest.mark.parametrize("kind", ["picture", "safetensors", "official", "tensor", "list"])
def test_a_file_that_is_no_checkpoint_of_ours_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = write_foreign(tmp_path / "foreign", kind)
    with pytest.raises(UserError, match=r"checkpoint.*foreign") as error:
        load_generator(path)
    assert "\n" not in str(error.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"state_dict": {}, "lit_restore": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(UserError, match="checkpoint"):
        load_generator(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"widths": [16, 32]}', '"text"'])
def test_a_folder_with_another_config_is_not_a_model_folder(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(UserError, match="not a model folder"):
        load_generator(saved)


def test_a_base_is_not_a_trained_model(tiny_base: Path) -> None:
    for folder in (tiny_base, tiny_base / "unet"):
        with pytest.raises(UserError, match="not a model folder"):
            load_generator(folder)


def test_another_format_is_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(UserError, match=r"another version.*expected 2; found 1.*last.ckpt"):
        load_generator(saved)


def test_nothing_there_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such checkpoint.*lit_restore fit"):
        load_generator(tmp_path / "none")


def test_unknown_options_are_refused_not_dropped() -> None:
    known = asdict(GeneratorConfig(freeu=FreeU()))
    assert generator_config(known, where="here") == GeneratorConfig(freeu=FreeU())
    with pytest.raises(UserError, match=r"'use_adian'.*here.*'use_adain'"):
        generator_config(known | {"use_adian": True}, where="here")
    with pytest.raises(UserError, match="'b3'"):
        generator_config(known | {"freeu": {"b3": 1.0}}, where="here")


def test_an_unwritable_place_is_one_clear_error(generator: OneStepGenerator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_generator(generator, tmp_path / "file" / "model", iteration=1)
