"""Official checkpoints: read safely, understood, converted without loss in both directions."""

from __future__ import annotations

import hashlib
import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import normal, tiny_generator
from official_files import PARITY, Content, cast, changed, official_content, renamed, write_official
from safetensors.torch import load_file

from lit_restore.errors import UserError
from lit_restore.inference import Restorer
from lit_restore.models.adaptation import UNET_LORA_TARGETS, VAE_LORA_TARGETS, Adaptation
from lit_restore.models.artifact import load_generator, read_model, save_generator
from lit_restore.models.base import load_base, load_vae
from lit_restore.models.generator import FreeU, OneStepGenerator
from lit_restore.models.official_base import PROMPT_TOKENS, TEXT_ENCODER, write_base
from lit_restore.models.official_checkpoint import equal_up_to_rounding, read_official
from lit_restore.models.official_export import export_official
from lit_restore.models.official_import import Answers, configuration, find_base, import_official
from lit_restore.models.official_summary import describe
from lit_restore.models.random_base import build_unet, build_vae

# sha256 of the lines "name shape" of the complete file that the official code wrote, sorted.
OFFICIAL_KEYS = "c87341e3abeac2b9becfdc0cf40eab109aec22604ed3aff677c2261e2aae0b5a"

LORA_B = "net.unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k.lora_B.default.weight"
BELOW = "net.unet.mid_block.attentions.0.proj_in.base_layer.weight"
NORM = "net.unet.down_blocks.0.resnets.0.norm1.weight"
BELOW_VAE = "net.vae.decoder.mid_block.attentions.0.to_q.base_layer.weight"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has downloaded before."""

    def unreachable(hub_id: str, *_: object, **__: object) -> None:
        raise UserError("not on this machine and the model hub cannot be reached", where=hub_id)

    monkeypatch.setattr("lit_restore.models.base.download", unreachable)


@pytest.fixture(scope="module")
def content() -> Content:
    return official_content()


def convert(path: Path, folder: Path, *, base: Path = PARITY / "base", **answers: Any) -> Path:
    checkpoint = read_official(path)
    config = configuration(checkpoint, Answers(**({"size_px": 128} | answers)))
    config.base, config.vae = find_base(checkpoint, str(base), None)
    import_official(checkpoint, folder, config)
    return folder


# --- parity -------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Also on other folders of the same format: ``--parity-fixtures DIR``."""
    if "parity" in metafunc.fixturenames:
        folders = metafunc.config.getoption("--parity-fixtures") or [PARITY]
        metafunc.parametrize("parity", folders, ids=lambda folder: folder.name)


def test_parity_of_the_checkpoint_that_is_converted(parity: Path) -> None:
    """The tests' checkpoint has the tensors of the one that the official code wrote."""
    shapes = {name: list(value.shape) for name, value in official_content(parity)["state_dict"].items()}
    if (parity / "checkpoint_keys.json").is_file():
        stored = json.loads((parity / "checkpoint_keys.json").read_text())
        assert shapes == {name: shape for name, (shape, _) in stored.items()}
    if parity == PARITY:
        lines = "\n".join(sorted(f"{name} {shape}" for name, shape in shapes.items()))
        assert len(shapes) == 2540
        assert hashlib.sha256(lines.encode()).hexdigest() == OFFICIAL_KEYS


@cache
def converted(parity: Path, folder: Path, **switches: bool) -> OneStepGenerator:
    """Through everything a user's file goes through: a file, a folder, the restorer."""
    path = write_official(folder / "official.pt", official_content(parity), **switches)
    return Restorer.from_pretrained(convert(path, folder / "model", base=parity / "base"), device="cpu").generator


@torch.no_grad()
def test_parity_after_conversion(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each case on the checkpoint with the case's switches in its cfg."""
    inputs, folders = load_file(parity / "inputs.safetensors"), {}
    cases = [case for case in json.loads((parity / "manifest.json").read_text())["cases"] if case["freeu"]]
    checked = 0
    for case in cases:
        side, batch, count = case["image_size"], case["batch"], case["num_refs"]
        if any(valid < count for valid in case["valid_indices"] or []):
            continue  # zeroed keys, a defect that no checkpoint asks for
        switches = {name: case[name] for name in ("use_shared_attention", "use_adain", "train_input")}
        folder = folders.setdefault(str(switches), tmp_path_factory.mktemp("case"))
        draws = {
            "posterior": inputs[f"noise_post_input_{side}"][:batch],
            "noise": inputs[f"noise_t_input_{side}"][:batch],
            "reference_posterior": inputs[f"noise_post_refs_{side}"][:batch, :count],
            "reference_noise": inputs[f"noise_t1_refs_{side}"][:batch, :count],
        }
        output = converted(parity, folder, **switches)(
            inputs[f"image_{side}_u8"][:batch] / 127.5 - 1,
            inputs[f"refs_{side}_u8"][:batch, :count] / 127.5 - 1 if count else None,
            timestep=case["t"],
            draw=lambda name, shape, draws=draws: draws[name].reshape(shape),
            sample_posterior=True,
        )
        stored = load_file(parity / case["file"])
        expected = stored.get("output", stored.get("output_stride2"))
        step = output.shape[-1] // expected.shape[-1]
        torch.testing.assert_close(output[..., ::step, ::step], expected, atol=2e-4, rtol=0, msg=case["name"])
        checked += 1
    assert checked >= 1


def test_parity_of_a_round_trip(parity: Path, tmp_path: Path) -> None:
    """Official -> ours -> official: every tensor equal, in the same precision, and the same cfg."""
    original = official_content(parity)
    folder = convert(write_official(tmp_path / "official.pt", original), tmp_path / "model", base=parity / "base")
    export_official(folder, tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert set(back) == {"state_dict", "cfg", "optimizer"}
    assert back["cfg"] == original["cfg"]
    expected = renamed(original, "net.")["state_dict"]
    expected = {name.replace("net.module.", "net."): value for name, value in expected.items()}
    assert set(back["state_dict"]) == set(expected)
    for name, value in expected.items():
        assert back["state_dict"][name].dtype == value.dtype
        assert torch.equal(back["state_dict"][name], value), name
    (group,) = back["optimizer"]["param_groups"]
    assert len(group["params"]) == len(original["optimizer"]["param_groups"][0]["params"])


# --- variants of the file -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(content: Content, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Tensor]]:
    """What the ordinary file converts to."""
    folder = tmp_path_factory.mktemp("ordinary")
    return read_model(convert(write_official(folder / "official.pt", content), folder / "model"))[1]


@pytest.mark.parametrize("prefix", ["net.module.", "module.", "module.net.", ""])
def test_every_way_names_may_begin(content: Content, tmp_path: Path, prefix: str) -> None:
    usual = read_official(write_official(tmp_path / "usual.pt", content))
    found = read_official(write_official(tmp_path / "official.pt", renamed(content, prefix)))
    assert (usual.prefix, found.prefix) == ("net.", prefix)
    assert {part: set(state) for part, state in found.networks.items()} == {
        part: set(state) for part, state in usual.networks.items()
    }
    for part, state in usual.networks.items():
        assert all(torch.equal(found.networks[part][name], value) for name, value in state.items())
    assert configuration(found, Answers()) == configuration(usual, Answers())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_precision(content: Content, trained: dict, tmp_path: Path, dtype: torch.dtype) -> None:
    """Stored as it comes; from bfloat16 to these and back nothing is lost, so the numbers are the same."""
    path = write_official(tmp_path / "official.pt", cast(content, dtype))
    folder = convert(path, tmp_path / "model")
    for part, state in read_model(folder)[1].items():
        assert {value.dtype for value in state.values()} == {dtype}
        for name, value in state.items():
            torch.testing.assert_close(value.float(), trained[part][name].float(), atol=6e-8, rtol=0)
    export_official(folder, tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(back[name], value.to(dtype)) for name, value in content["state_dict"].items())


def test_without_frozen_copies_and_optimizer_the_base_is_the_witness(
    content: Content, trained: dict, tmp_path: Path
) -> None:
    tuned = {name: value for name, value in content["state_dict"].items() if name.startswith(("net.unet", "net.vae"))}
    path = write_official(tmp_path / "official.pt", {"state_dict": tuned, "cfg": content["cfg"]})
    assert len(tuned) == 1576
    found = read_model(convert(path, tmp_path / "model"))[1]
    for part, state in trained.items():
        assert all(torch.equal(found[part][name], value) for name, value in state.items())
    with pytest.raises(UserError, match=r"does not contain its base.*--base"):
        write_base(read_official(path), tmp_path / "base")
    for name, message in (
        (BELOW, r"trained on another base.*other values of mid_block"),
        (BELOW_VAE, "VAE is not that of"),
    ):
        wrong = {"state_dict": tuned | {name: tuned[name] * 1.05}, "cfg": content["cfg"]}
        with pytest.raises(UserError, match=message):
            convert(write_official(tmp_path / "wrong.pt", wrong), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_the_file_does_not_say_is_asked_for(content: Content, tmp_path: Path) -> None:
    path = write_official(tmp_path / "a.pt", content, train_input=...)
    with pytest.raises(UserError, match=r"train_input: .*a.pt; .*--keep-own-keys yes or --keep-own-keys no"):
        configuration(read_official(path), Answers())
    assert configuration(read_official(path), Answers(keep_own_keys=True)).keep_own_keys
    bare = write_official(tmp_path / "b.pt", content | {"cfg": None})
    with pytest.raises(UserError, match=r"use_shared_attention.*no cfg.*--use-references"):
        configuration(read_official(bare), Answers(keep_own_keys=False))
    answers = Answers(use_references=True, use_adain=False, keep_own_keys=False)
    config = configuration(read_official(bare), answers)
    assert (config.lora_rank_unet, config.lora_rank_vae, config.size_px) == (4, 5, 512)  # from the tensors
    assert (config.use_references, config.use_adain, config.keep_own_keys) == (True, False, False)
    state_only = write_official(tmp_path / "c.pt", content["state_dict"])
    assert configuration(read_official(state_only), answers) == config
    with pytest.raises(UserError, match="the file says use_adain True"):
        configuration(read_official(write_official(tmp_path / "d.pt", content)), Answers(use_adain=False))


def test_what_the_official_code_does_without_saying(content: Content, tmp_path: Path) -> None:
    config = configuration(read_official(write_official(tmp_path / "official.pt", content)), Answers())
    assert (config.freeu, config.reference_noise, config.reference_timestep) == (FreeU(0.9, 0.2, 1.4, 1.6), True, 1)
    assert (config.full_unet_layers, config.full_vae_layers, config.lora_alpha_ratio) == (["conv_in"], [], 0.5)
    assert (config.size_px, config.inference_timestep) == (512, 249)


def test_an_untrained_vae(content: Content, tmp_path: Path) -> None:
    """train_vae off: the official code then attaches no LoRA to it."""
    state = {}
    for name, value in content["state_dict"].items():
        if not name.startswith("net.vae."):
            state[name] = value
        elif ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = value
    path = write_official(tmp_path / "official.pt", content | {"state_dict": state}, train_vae=False)
    folder = convert(path, tmp_path / "model")
    assert load_generator(folder).config.lora_rank_vae == 0
    export_official(folder, tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert set(back["state_dict"]) == set(state)
    assert (back["cfg"]["model"]["train_vae"], back["cfg"]["model"]["lora_rank_vae"]) == (False, 5)


# --- files that are refused ---------------------------------------------------------------------------------------

REFUSED = {
    "face embeddings": (
        {"model": {"condition_on_face_embeds": True}},
        "trained with condition_on_face_embeds, which is not supported",
    ),
    "face embeddings in the tensors": (
        {"tensors": {"net.unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.face_projection.weight": 4}},
        "condition_on_face_embeds.*face_projection",
    ),
    "shortcuts": ({"model": {"use_shortcuts": True}}, "trained with use_shortcuts"),
    "shortcuts in the tensors": ({"tensors": {"net.vae.decoder.skip_conv_1.weight": 4}}, "use_shortcuts.*skip_conv_1"),
    "trained references": ({"model": {"train_reference_networks": True}}, "trained with train_reference_networks"),
    "trained references in the tensors": (
        {"tensors": {"net.original_unet.conv_out.lora_A.default.weight": 4}},
        "train_reference_networks.*original_unet.conv_out.lora_A",
    ),
    "another rank": (
        {"model": {"lora_rank_unet": 32}},
        "disagree about the LoRA rank.*unet; expected rank 32; found rank 4",
    ),
    "a VAE that should be untrained": (
        {"model": {"train_vae": False}},
        "vae; expected rank 0 .train_vae is off.*rank 5",
    ),
    "two ranks": ({"tensors": {LORA_B: 7}}, "LoRA of several ranks.*unet"),
    "another part": ({"tensors": {"net.discriminator.weight": 4}}, "found a tensor net.discriminator.weight"),
    "a value that is no switch": ({"model": {"use_adain": "maybe"}}, "bad value in cfg.*use_adain; found maybe"),
    "trained below LoRA": ({"scale": {BELOW: 1.1}}, "frozen weights below LoRA.*proj_in.*differences up to"),
    "a trained norm": ({"scale": {NORM: 1.1}}, "frozen weights below LoRA.*norm1.weight"),
    "no number": ({"scale": {LORA_B: float("nan")}}, "not finite.*unet.up_blocks.1.*to_k.lora_B"),
    "a size that is none": ({"cfg": {"data": {"resolution": "512"}}}, "bad value in cfg.*resolution; found 512"),
    "a cfg of another form": ({"cfg": {"data": [512]}}, "found a cfg of another form"),
    "a precision nobody uses": ({"dtype": {LORA_B: torch.float64}}, "unknown precision.*found torch.float64"),
    "a missing tensor": ({"remove": [LORA_B]}, "tensors of another model.*unet; expected 1196 tensors, among them"),
    "a tensor too many": ({"tensors": {"net.unet.conv_out.lora_C.weight": 4}}, "tuned and frozen network differ"),
    "a missing frozen tensor": ({"remove": ["net.original_vae.quant_conv.bias"]}, "differ in shape.*quant_conv.bias"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(content: Content, tmp_path: Path, case: str) -> None:
    edit, message = REFUSED[case]
    changes: dict[str, torch.Tensor | None] = {name: normal(0, 3, n) for name, n in edit.get("tensors", {}).items()}
    changes |= {name: content["state_dict"][name] * factor for name, factor in edit.get("scale", {}).items()}
    changes |= {name: content["state_dict"][name].to(dtype) for name, dtype in edit.get("dtype", {}).items()}
    changes |= dict.fromkeys(edit.get("remove", []))
    edited = changed(content | {"cfg": content["cfg"] | edit.get("cfg", {})}, changes)
    path = write_official(tmp_path / "official.pt", edited, **edit.get("model", {}))
    with pytest.raises(UserError, match=message) as error:
        convert(path, tmp_path / "model", size_px=None)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["official.pt"]


@pytest.mark.parametrize("mapped", ["whole file", "without the zip around"])
def test_nothing_in_a_file_is_executed(content: Content, tmp_path: Path, mapped: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (tmp_path.joinpath("sprung").touch, ())

    trap = content | {"cfg": {"model": Trap()}}
    if mapped == "whole file":
        torch.save(trap, tmp_path / "official.pt")
    else:
        (tmp_path / "official.pt").write_bytes(pickle.dumps(trap))
    with pytest.raises(UserError, match=r"wants to run code.*getattr|damaged checkpoint") as error:
        read_official(tmp_path / "official.pt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sprung").exists()


def test_a_path_object_in_cfg_is_named(content: Content, tmp_path: Path) -> None:
    """Other code bases store them; torch's restricted reader does not read them, and says only that at length."""
    torch.save(content | {"cfg": {"model": {"checkpoint_path": Path("x")}}}, tmp_path / "official.pt")
    with pytest.raises(UserError, match=r"expected a checkpoint of tensors and plain values; found pathlib\.\w*Path"):
        read_official(tmp_path / "official.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_that_was_cut_off(content: Content, tmp_path: Path, share: float) -> None:
    path = write_official(tmp_path / "official.pt", content)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=r"damaged checkpoint.*bytes"):
        read_official(path)


FOREIGN = {
    "our own": ({"lit_restore": {}, "state_dict": {}}, "training checkpoint of lit_restore.*run folder"),
    "img2img-turbo": ({"state_dict_unet": {}, "rank_unet": 8}, "a file of img2img-turbo"),
    "an ordinary network": ({"state_dict": {"layer.weight": torch.zeros(3)}}, "found entries state_dict"),
    "something else": ({"epoch": 3}, "found entries epoch"),
    "a list": ([1, 2], "found list"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files_are_named(tmp_path: Path, kind: str) -> None:
    value, message = FOREIGN[kind]
    torch.save(value, tmp_path / "other.pt")
    with pytest.raises(UserError, match=f"not a checkpoint of the official InstantRestore code.*{message}"):
        read_official(tmp_path / "other.pt")


# --- the base -----------------------------------------------------------------------------------------------------


def test_the_base_is_recognised_in_any_precision(content: Content, tmp_path: Path) -> None:
    """A float32 base whose weights are not bfloat16 numbers; the file holds them rounded."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, value in content["state_dict"].items():
        noise = 1 + 0.001 * torch.rand(value.shape, generator=random)
        state[name] = value.float() if ".lora_" in name else value.float() * noise
    for name in [name for name in state if name.startswith(("net.original", "net.text"))]:
        for tuned in (name.replace("original_", ""), *_adapted(name)):
            if tuned in state and not tuned.startswith("net.unet.conv_in"):
                state[tuned] = state[name]
    exact = content | {"state_dict": state}
    path = write_official(tmp_path / "exact.pt", exact)
    write_base(read_official(path), tmp_path / "base", PARITY / "base")
    for dtype in (torch.bfloat16, torch.float16):
        rounded = write_official(tmp_path / "rounded.pt", cast(exact, dtype))
        convert(rounded, tmp_path / f"{dtype}", base=tmp_path / "base")
    with pytest.raises(UserError, match="VAE is not that of"):
        convert(path, tmp_path / "other", base=PARITY / "base")


def _adapted(name: str) -> tuple[str, ...]:
    layer, _, kind = name.replace("original_", "").rpartition(".")
    return (f"{layer}.base_layer.{kind}",)


def test_rounding_is_told_from_training() -> None:
    value = normal(0, 1000)
    assert equal_up_to_rounding(value.bfloat16(), value)
    assert equal_up_to_rounding(value.half(), value)
    assert equal_up_to_rounding(value.bfloat16(), value.half())
    assert not equal_up_to_rounding(value * 1.001, value)
    assert not equal_up_to_rounding((value * 1.01).bfloat16(), value.bfloat16())
    one_ulp = value.bfloat16().view(torch.int16) + 1
    assert equal_up_to_rounding(one_ulp.view(torch.bfloat16), value.bfloat16())


def test_the_base_comes_out_of_the_checkpoint(content: Content, tmp_path: Path) -> None:
    """Configurations and tokenizer from a folder without a weight; the rest from the file."""
    small = tmp_path / "small"
    for file in (PARITY / "base").rglob("*.*"):
        if file.suffix != ".safetensors" and file.is_file():
            target = small / file.relative_to(PARITY / "base")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    path = write_official(tmp_path / "official.pt", content)
    write_base(read_official(path), tmp_path / "base", small)
    written, expected = load_base(str(tmp_path / "base")), load_base(str(PARITY / "base"))
    assert written.fingerprint == expected.fingerprint
    assert torch.equal(written.prompt_embedding, expected.prompt_embedding)
    assert torch.equal(written.schedule.alpha_bar, expected.schedule.alpha_bar)
    with pytest.raises(UserError, match=r"another shape than its configuration.*as in SD-Turbo; found"):
        write_base(read_official(path), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_vae_is_found_out_and_can_be_named(content: Content, tmp_path: Path) -> None:
    """As in the official files: the UNet of one base, the VAE of another."""
    state = dict(content["state_dict"])
    for name in [name for name in state if name.startswith("net.original_vae.")]:
        state[name] = state[name] * 1.5
        for tuned in (name.replace("original_", ""), *_adapted(name)):
            if tuned in state:
                state[tuned] = state[name]
    path = write_official(tmp_path / "official.pt", content | {"state_dict": state})
    write_base(read_official(path), tmp_path / "full", PARITY / "base")
    checkpoint = read_official(path)
    vae = str(tmp_path / "full" / "vae")
    assert find_base(checkpoint, str(PARITY / "base"), vae) == (str(PARITY / "base"), vae)
    with pytest.raises(UserError, match=r"trained on another VAE.*--vae"):
        find_base(checkpoint, str(PARITY / "base"), str(PARITY / "base"))
    config = configuration(checkpoint, Answers(size_px=128))
    config.base, config.vae = str(PARITY / "base"), vae
    folder = tmp_path / "model"
    import_official(checkpoint, folder, config)
    assert torch.equal(load_generator(folder).vae.quant_conv.weight, load_vae(str(tmp_path / "full")).quant_conv.weight)


def test_the_facts_about_sd_turbo() -> None:
    """Parameters of the published networks: UNet and VAE (spec: InstantRestore 1), OpenCLIP ViT-H in 23 layers."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        networks = build_unet("sd-turbo"), build_vae("sd-turbo"), CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [865_910_724, 83_653_863, 340_387_840]
    assert networks[1].config.scaling_factor == 0.18215
    assert len(PROMPT_TOKENS) == 77
    assert PROMPT_TOKENS.index(49407) == 14  # after start and 13 tokens: a high - quality photo of a person ; ...


@pytest.mark.slow
def test_a_file_of_full_size_needs_nothing_else(tmp_path: Path) -> None:
    """SD-Turbo's shape, zeros: configurations, scheduler and the tokens of the prompt are known here."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        networks = {"original_unet": build_unet("sd-turbo"), "original_vae": build_vae("sd-turbo")}
        networks["text_encoder"] = CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))
        for part, targets in (("unet", UNET_LORA_TARGETS), ("vae", VAE_LORA_TARGETS)):
            network = {"unet": build_unet, "vae": build_vae}[part]("sd-turbo")
            options = {"rank": 32, "alpha": 16, "name": {"unet": "default", "vae": "vae_skip"}[part]}
            networks[part] = Adaptation(network, targets=targets, **options).network
    zero = torch.zeros((), dtype=torch.bfloat16)  # one number in the file for each tensor
    state = {
        f"net.{part}.{n}": zero.expand(t.shape) for part, net in networks.items() for n, t in net.state_dict().items()
    }
    assert len(state) == 2894  # spec: InstantRestore 15
    fields = {"lora_rank_unet": 32, "lora_rank_vae": 32}
    path = write_official(tmp_path / "official.pt", official_content() | {"state_dict": state}, **fields)
    write_base(read_official(path), tmp_path / "base")
    folder = convert(path, tmp_path / "model", base=tmp_path / "base", size_px=None)
    states = read_model(folder)[1]
    assert {part: len(state) for part, state in states.items()} == {"unet": 516, "vae": 140}
    assert sum(value.numel() for state in states.values() for value in state.values()) == 39_501_824
    assert load_file(tmp_path / "base/prompt/embedding.safetensors")["embedding"].shape == (1, 77, 1024)


# --- the way back -------------------------------------------------------------------------------------------------


def test_a_model_trained_here_goes_there_and_back(tmp_path: Path) -> None:
    """With this package's default of what is trained: the VAE's first convolution in full, conv_in of the UNet not."""
    config = {"lora_rank_unet": 5, "full_vae_layers": ["encoder.conv_in"], "freeu": FreeU(), "reference_noise": True}
    ours = tiny_generator(PARITY / "base", **config)
    save_generator(ours, tmp_path / "model", iteration=9)
    cfg = export_official(tmp_path / "model", tmp_path / "official.pt", dtype=torch.float32)
    assert cfg["model"]["lora_rank_unet"] == 5
    assert cfg["data"]["resolution"] == 64
    exported = read_official(tmp_path / "official.pt")
    assert {part: set(state) for part, state in exported.networks.items() if "original" in part or part == "vae"} == {
        part: set(state)
        for part, state in read_official(write_official(tmp_path / "x.pt")).networks.items()
        if "original" in part or part == "vae"
    }
    assert not exported.networks["vae"]["encoder.conv_in.lora_B.vae_skip.weight"].any()
    assert set(exported.cfg) == set(official_content()["cfg"])
    for section, values in official_content()["cfg"].items():
        assert set(exported.cfg[section]) == set(values)
    back = convert(tmp_path / "official.pt", tmp_path / "back", size_px=None)
    generator = load_generator(back)
    assert generator.config.full_vae_layers == ["encoder.conv_in"]
    assert generator.config.full_unet_layers == []
    for part, adaptation in generator.adaptations.items():
        expected = ours.adaptations[part].state_dict()
        assert set(expected) == set(adaptation.names)
        assert all(torch.equal(value, expected[name]) for name, value in adaptation.state_dict().items())


def test_precision_is_a_choice_and_copies_are_stored_once(content: Content, tmp_path: Path) -> None:
    folder = convert(write_official(tmp_path / "official.pt", content), tmp_path / "model")
    sizes = {}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        export_official(folder, tmp_path / "back.pt", dtype=dtype)
        sizes[dtype] = (tmp_path / "back.pt").stat().st_size
        state = torch.load(tmp_path / "back.pt", weights_only=True)["state_dict"]
        assert {value.dtype for value in state.values()} == {dtype}
        assert all(torch.equal(state[name], value.to(dtype)) for name, value in content["state_dict"].items())
        assert state[BELOW].data_ptr() == state["net.original_unet.mid_block.attentions.0.proj_in.weight"].data_ptr()
    assert sizes[torch.bfloat16] < (tmp_path / "official.pt").stat().st_size
    assert sizes[torch.float32] > sizes[torch.bfloat16]


def test_what_the_official_code_would_do_otherwise(tmp_path: Path) -> None:
    ours = tiny_generator(PARITY / "base", lora_alpha_ratio=1.0, full_vae_layers=[])
    save_generator(ours, tmp_path / "model", iteration=1)
    with pytest.raises(UserError, match=r"freeu None.*reference_noise False, not True.*alpha 4 at rank 4.*--force"):
        export_official(tmp_path / "model", tmp_path / "official.pt")
    assert not (tmp_path / "official.pt").exists()
    export_official(tmp_path / "model", tmp_path / "official.pt", force=True)
    for changes, found in (
        ({"lora_rank_unet": 0}, "no LoRA in the UNet"),
        ({"full_unet_layers": ["conv_norm_out"]}, "full layers conv_norm_out"),
        ({"lora_rank_vae": 0, "full_vae_layers": ["encoder.conv_in"]}, "full layers encoder.conv_in"),
    ):
        save_generator(tiny_generator(PARITY / "base", **changes), tmp_path / "odd", iteration=1)
        with pytest.raises(UserError, match=f"no place for this model.*{found}"):
            export_official(tmp_path / "odd", tmp_path / "odd.pt", force=True)


def test_a_base_without_a_text_encoder_cannot_go_there(tiny_base: Path, tmp_path: Path) -> None:
    save_generator(tiny_generator(tiny_base), tmp_path / "model", iteration=1)
    with pytest.raises(UserError, match=r"the official format contains the text encoder"):
        export_official(tmp_path / "model", tmp_path / "official.pt", force=True)


# --- what it says -------------------------------------------------------------------------------------------------


def test_the_summary_says_what_was_trained_and_what_looks_odd(content: Content, tmp_path: Path) -> None:
    def summary(content: Content, **model: Any) -> str:
        checkpoint = read_official(write_official(tmp_path / "official.pt", content, **model))
        return describe(checkpoint, configuration(checkpoint, Answers()))

    text = summary(content)
    assert "2,540 tensors, bfloat16, named net." in text
    assert "LoRA of rank 4, alpha 2, on 256 layers" in text
    assert "LoRA of rank 5, alpha 2, on 68 layers" in text
    assert "LPIPS 5, MS-SSIM 1, identity 1, adversarial 0.5, landmark attention 5000" in text
    assert "in full        unet.conv_in;" in text
    assert "LoRA trained, although they are discarded: is that right?" in text
    assert "LoRA trained, as they are kept" in summary(content, train_input=True)
    keys = [name for name in content["state_dict"] if ".attn1.to_k.lora_B." in name and name.startswith("net.unet.up_")]
    assert len(keys) == 9
    dead = changed(content, {name: torch.zeros_like(content["state_dict"][name]) for name in keys})
    assert "LoRA never trained, as they are discarded" in summary(dead)
    assert "LoRA never trained, although they are kept: is that right?" in summary(dead, train_input=True)
    bare = read_official(write_official(tmp_path / "bare.pt", {"state_dict": content["state_dict"]}))
    assert "cfg            not in the file" in describe(bare)
    assert "optimizer      not in the file" in describe(bare)
