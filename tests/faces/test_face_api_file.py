from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_restore.errors import UserError
from lit_restore.faces import face_api_file
from lit_restore.faces.face_api_file import read_face_api
from lit_restore.faces.landmarks68 import Landmarks68, Landmarks68Net
from lit_restore.faces.weights import LANDMARKS68, LANDMARKS68_MANIFEST


@pytest.fixture
def network() -> Landmarks68Net:
    """Weights that 8 bits hold exactly: multiples of 1/64 from -2 on."""
    generator = torch.Generator().manual_seed(0)
    network = Landmarks68Net()
    for parameter in network.parameters():
        parameter.data = torch.randint(0, 256, parameter.shape, generator=generator) / 64 - 2
    return network


@pytest.fixture
def shard(network: Landmarks68Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The network as face-api.js stores it, written here independently of the reader."""
    entries, content = [], b""
    for key, value in network.state_dict().items():
        stored = ((value + 2) * 64).numpy().astype(np.uint8)
        *parents, kind = key.split(".")
        name = "/".join(parents) + f"/{kind}"
        if key.endswith("dw.weight"):
            name, stored = key.replace(".dw.weight", "/depthwise_filter"), np.einsum("cohw->hwco", stored)
        elif key.endswith("pw.weight"):
            name, stored = key.replace(".pw.weight", "/pointwise_filter"), np.einsum("oihw->hwio", stored)
        elif stored.ndim == 4:
            name, stored = key.replace(".weight", "/filters"), np.einsum("oihw->hwio", stored)
        elif stored.ndim == 2:
            name, stored = "fc/weights", stored.T
        quantization = {"dtype": "uint8", "scale": 1 / 64, "min": -2.0}
        name = name.replace(".", "/")
        entries.append({"name": name, "shape": list(stored.shape), "quantization": quantization})
        content += stored.tobytes()
    manifest = tmp_path / LANDMARKS68_MANIFEST.name
    manifest.write_text(json.dumps([{"weights": entries, "paths": [LANDMARKS68.name]}]))
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    known = dataclasses.replace(LANDMARKS68_MANIFEST, sha256=digest)
    monkeypatch.setattr(face_api_file, "LANDMARKS68_MANIFEST", known)
    path = tmp_path / LANDMARKS68.name
    path.write_bytes(content)
    return path


def test_every_tensor_comes_back(network: Landmarks68Net, shard: Path) -> None:
    state = read_face_api(shard)
    expected = network.state_dict()
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=0, msg=key)
    loaded = Landmarks68(shard).network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


def test_the_public_file_has_one_byte_per_parameter() -> None:
    assert sum(parameter.numel() for parameter in Landmarks68Net().parameters()) == LANDMARKS68.size_bytes


def test_the_manifest_must_be_there_and_whole(shard: Path) -> None:
    manifest = shard.with_name(LANDMARKS68_MANIFEST.name)
    manifest.write_text(manifest.read_text()[:500])
    with pytest.raises(UserError, match="damaged"):
        read_face_api(shard)
    manifest.unlink()
    with pytest.raises(UserError, match=r"manifest missing beside its weight file: .*Fetch it too"):
        read_face_api(shard)


def test_a_short_file_is_refused(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged or not a weight file"):
        Landmarks68(shard)
