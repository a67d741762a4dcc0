"""The public recognition networks: names, sizes and arithmetic of their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from face_networks import (
    DEPTHS,
    REID_BLOCKS,
    State,
    iresnet_shapes,
    random_state,
    reid_shapes,
    thin_state,
    write_reid,
)
from helpers import pictures
from safetensors.torch import load_file, save_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.crop import ARCFACE_CROP, REID_CROP
from lit_restore.models.face_reid import FaceReid
from lit_restore.models.iresnet import IResNet
from lit_restore.models.recognition import PUBLIC, load_recognizer

SHAPES = {kind: iresnet_shapes(depth, kind) for kind, depth in DEPTHS.items()} | {"face_reid_0095": reid_shapes()}
OPTIONS = {
    "arcface": {"squeeze": True, "last_affine": True},
    "curricularface": {},
    "adaface": {"inner_norm": True, "bgr": True},
}


@pytest.fixture(autouse=True)
def no_weights_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_RESTORE_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", SHAPES)
def test_names_and_sizes(kind: str) -> None:
    with torch.device("meta"):
        network = PUBLIC[kind].build()
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == SHAPES[kind]


def test_the_public_arcface_file_has_room_for_nothing_else() -> None:
    """Its known length, less its tensors, leaves what names and framing of 430 tensors take."""
    num_bytes = sum(4 * int(torch.Size(shape).numel()) for shape in SHAPES["arcface"].values())
    assert 0 < PUBLIC["arcface"].file.size_bytes - num_bytes < 200_000


# --- arithmetic, straight from the description --------------------------------------------------------------------


def norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    y = (x.movedim(1, -1) - mean) / (variance + 1e-5).sqrt()
    if f"{name}.weight" in state:
        y = y * state[f"{name}.weight"] + state[f"{name}.bias"]
    return y.movedim(-1, 1)


def prelu(slopes: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, slopes.view(-1, 1, 1) * x)


def iresnet(state: State, faces: torch.Tensor, depth: tuple[int, ...], kind: str) -> torch.Tensor:
    x = faces[:, [2, 1, 0]] if kind == "adaface" else faces
    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = prelu(state["input_layer.2.weight"], norm(state, "input_layer.1", x))
    strides = [2 if index == 0 else 1 for count in depth for index in range(count)]
    for number, stride in enumerate(strides):
        unit = f"body.{number}.res_layer"
        y = F.conv2d(norm(state, f"{unit}.0", x), state[f"{unit}.1.weight"], padding=1)
        index = 2
        if kind == "adaface":
            y, index = norm(state, f"{unit}.2", y), 3
        y = prelu(state[f"{unit}.{index}.weight"], y)
        y = F.conv2d(y, state[f"{unit}.{index + 1}.weight"], stride=stride, padding=1)
        y = norm(state, f"{unit}.{index + 2}", y)
        if kind == "arcface":
            gate = y.mean((2, 3)) @ state[f"{unit}.5.fc1.weight"].flatten(1).T
            gate = gate.clamp(min=0) @ state[f"{unit}.5.fc2.weight"].flatten(1).T
            y = y / (1 + torch.exp(-gate))[:, :, None, None]
        short = f"body.{number}.shortcut_layer"
        x = x[:, :, ::stride, ::stride]
        if f"{short}.0.weight" in state:
            x = norm(state, f"{short}.1", F.conv2d(x, state[f"{short}.0.weight"]))
        x = x + y
    x = norm(state, "output_layer.0", x).flatten(1)
    x = norm(state, "output_layer.4", x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"])
    return x / x.norm(dim=1, keepdim=True)


@torch.no_grad()
@pytest.mark.parametrize("kind", OPTIONS)
def test_arithmetic_of_the_units(kind: str) -> None:
    depth = (1, 2, 1, 1)
    state = random_state(iresnet_shapes(depth, kind))
    network = IResNet(depth, **OPTIONS[kind]).eval()
    network.load_state_dict(state)
    faces = pictures(1, 2, 3, 112, 112)
    expected = iresnet(state, faces, depth, kind)
    torch.testing.assert_close(F.normalize(network(faces), dim=1), expected, atol=1e-5, rtol=0)
    assert (expected[0] @ expected[1]).item() < 0.999


@torch.no_grad()
def test_arcface_from_a_file_equals_the_description(tmp_path: Path) -> None:
    state = random_state(SHAPES["arcface"])
    path = tmp_path / "model_ir_se50.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)  # public files are as old as that
    recognizer = load_recognizer(str(path))
    path.unlink()  # 175 MB
    assert (recognizer.name, recognizer.crop) == ("ArcFace IR-SE50", ARCFACE_CROP)
    faces = pictures(1, 1, 3, 112, 112)
    torch.testing.assert_close(
        recognizer(faces), iresnet(state, faces, DEPTHS["arcface"], "arcface"), atol=2e-5, rtol=0
    )


def reid(state: State, faces: torch.Tensor) -> torch.Tensor:
    def conv(name: str, x: torch.Tensor, **options: int) -> torch.Tensor:
        y = F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)
        return torch.where(y > 0, y, state[f"{name}.prelu"] * y) if f"{name}.prelu" in state else y

    bgr = 127.5 * (faces[:, [2, 1, 0]] + 1)
    x = bgr * state["input.scale"][:, None, None] + state["input.offset"][:, None, None]
    x = conv("stem.dw", conv("stem.conv", x, stride=2, padding=1), padding=1, groups=64)
    for number, (wide, _) in enumerate(REID_BLOCKS):
        name, stride = f"blocks.{number}", 2 if number in (0, 5, 12) else 1
        y = conv(f"{name}.dw", conv(f"{name}.expand", x), stride=stride, padding=1, groups=wide)
        y = conv(f"{name}.project", y)
        y = y * conv(f"{name}.se_up", conv(f"{name}.se_down", y.mean((2, 3), keepdim=True))).sigmoid()
        x = x + y if x.shape == y.shape else y
    y = conv("head.embed", conv("head.gdc", conv("head.pw", x), groups=512)).flatten(1)
    return y / y.norm(dim=1, keepdim=True)


@torch.no_grad()
def test_arithmetic_of_the_small_network() -> None:
    state = random_state(reid_shapes())
    network = FaceReid().eval()
    network.load_state_dict(state)
    faces = pictures(1, 2, 3, 128, 128)
    expected = reid(state, faces)
    torch.testing.assert_close(F.normalize(network(faces), dim=1), expected, atol=1e-5, rtol=0)
    assert (expected[0] @ expected[1]).item() < 0.999


# --- files --------------------------------------------------------------------------------------------------------


def test_curricularface_is_known_by_its_tensors(tmp_path: Path) -> None:
    torch.save(thin_state(SHAPES["curricularface"]), tmp_path / "any_name.pth")
    recognizer = load_recognizer(str(tmp_path / "any_name.pth"))
    assert (recognizer.name, recognizer.crop) == ("CurricularFace IR-101", ARCFACE_CROP)
    assert not recognizer.network.bgr


def test_adaface_is_found_inside_its_training_checkpoint(tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in thin_state(SHAPES["adaface"]).items()}
    state["head.kernel"] = torch.zeros(512, 10)
    checkpoint = {"state_dict": state, "epoch": 25, "optimizer_states": [{"state": {}}], "hyper_parameters": {"m": 0.4}}
    torch.save(checkpoint, tmp_path / "adaface_ir101_webface12m.ckpt")
    recognizer = load_recognizer(str(tmp_path / "adaface_ir101_webface12m.ckpt"))
    assert (recognizer.name, recognizer.crop) == ("AdaFace IR-101", ARCFACE_CROP)
    assert recognizer.network.bgr


@torch.no_grad()
def test_the_small_network_is_read_from_half_precision(tmp_path: Path) -> None:
    recognizer = load_recognizer(write_reid(tmp_path / "file.safetensors"))
    assert (recognizer.name, recognizer.crop) == ("face-reidentification-retail-0095", REID_CROP)
    faces = pictures(1, 2, 3, 128, 128)
    state = {name: values.float() for name, values in load_file(tmp_path / "file.safetensors").items()}
    torch.testing.assert_close(recognizer(faces), reid(state, faces), atol=1e-5, rtol=0)


def test_files_of_older_torch_do_not_count_batches(tmp_path: Path) -> None:
    state = {k: v for k, v in thin_state(SHAPES["curricularface"]).items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_recognizer(str(tmp_path / "old.pth")).name == "CurricularFace IR-101"


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("curricularface", {"body.3.res_layer.1.weight": None}, "weights do not fit IResNet.*Missing"),
        ("curricularface", {"body.49.res_layer.1.weight": (512, 512, 3, 3)}, "weights do not fit IResNet.*Unexpected"),
        ("face_reid_0095", {"head.embed.weight": (128, 512, 1, 1)}, "weights do not fit FaceReid.*size mismatch"),
    ],
)
def test_every_tensor_must_be_there_and_fit(tmp_path: Path, kind: str, change: dict, message: str) -> None:
    shapes = {name: shape for name, shape in (SHAPES[kind] | change).items() if shape is not None}
    torch.save(thin_state(shapes), tmp_path / "changed.pth")
    with pytest.raises(UserError, match=message) as error:
        load_recognizer(str(tmp_path / "changed.pth"))
    assert "\n" not in str(error.value)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    save_file(nn.Linear(3, 4).state_dict(), tmp_path / "linear.safetensors")
    with pytest.raises(UserError, match=r"not a recognition network that lit_restore knows.*found tensors like bias"):
        load_recognizer(str(tmp_path / "linear.safetensors"))
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match=r"not a weight file.*expected tensors by name; found Tensor"):
        load_recognizer(str(tmp_path / "tensor.pth"))


@pytest.mark.parametrize("content", [b"", b"not weights", 1234 * b"\x00"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="weight file is damaged or not a weight file") as error:
        load_recognizer(str(path))
    assert "\n" not in str(error.value)


def test_a_file_cut_short_is_one_clear_error(tmp_path: Path) -> None:
    for name, save in (("a.pth", torch.save), ("a.safetensors", save_file)):
        save(random_state(reid_shapes()), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match="weight file is damaged"):
            load_recognizer(str(tmp_path / name))


class Evil:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("executed"),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save(thin_state(SHAPES["curricularface"]) | {"evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="weight file is damaged or not a weight file"):
        load_recognizer(str(tmp_path / "evil.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_missing_network_says_which_file_from_where_and_where_to_put_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_recognizer(name)
    file, message = PUBLIC[name].file, str(error.value)
    assert "\n" not in message
    for part in (file.name, file.source, file.sha256, str(tmp_path / "cache" / "lit_restore"), "LIT_RESTORE_WEIGHTS"):
        assert part in message
    if file.size_bytes:
        assert f"{file.size_bytes:,} bytes" in message


def test_a_name_stands_for_the_known_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    write_reid(tmp_path / "weights" / "face_reid_0095.safetensors")
    with pytest.raises(UserError, match=r"damaged or another file: weights/face_reid_0095.safetensors; expected"):
        load_recognizer("face_reid_0095")
    torch.save(thin_state(SHAPES["curricularface"]), tmp_path / "weights" / "CurricularFace_Backbone.pth")
    assert load_recognizer("curricularface").name == "CurricularFace IR-101"  # its checksum is not known
