from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import pictures, tiny_generator
from safetensors.numpy import load_file

from lit_restore.cli import main
from lit_restore.errors import UserError
from lit_restore.image import to_tensor, write_image
from lit_restore.models.artifact import load_generator, save_generator
from lit_restore.models.generator import OneStepGenerator, fixed_noise
from lit_restore.models.inference_form import inference_form
from lit_restore.models.onnx_export import export_onnx, onnx_inputs

SEED = 5


@pytest.fixture(scope="module")
def exported(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[OneStepGenerator, Path, Path]:
    """A model, the graph that the command made of it, and the photos whose keys and values lie beside the graph."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("export")
    save_generator(tiny_generator(tiny_base), folder / "model", iteration=0)
    for index in range(3):
        image = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(image, folder / "person" / f"{index}.png")
    options = ["--checkpoint", folder / "model", "--references", folder / "person", "--seed", SEED]
    assert main(["export", *map(str, options), "--output", str(folder / "onnx")]) == 0
    return load_generator(folder / "model"), folder / "onnx", folder / "person"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("batch", "references"), [(1, 1), (1, 3), (2, 1), (3, 4), (1, 6)])
def test_the_graph_restores_what_torch_restores(exported: tuple, batch: int, references: int) -> None:
    """Any number of faces, each with references of its own, whatever the graph was traced with."""
    import onnxruntime

    generator, folder, _ = exported
    lq, photos = pictures(0, batch, 3, 64, 64), pictures(1, batch, references, 3, 64, 64)
    draw = fixed_noise(SEED)
    with torch.no_grad():
        features = generator.reference_features(photos, draw=draw)
        expected = generator(lq, features, draw=draw).numpy()
        others = generator(lq, generator.reference_features(-photos, draw=draw), draw=draw).numpy()
    session = onnxruntime.InferenceSession(folder / "restorer.onnx")
    (restored,) = session.run(["restored"], onnx_inputs(lq, features))
    np.testing.assert_allclose(restored, expected, atol=1e-4, rtol=0)  # in [-1, 1]: an eightieth of an 8-bit step
    assert np.abs(expected).std() > 0.05
    assert np.abs(others - expected).max() > 1e-3  # the references do matter


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_command_writes_the_references_as_inputs(exported: tuple) -> None:
    from lit_restore.image import read_rgb

    generator, folder, person = exported
    stored = load_file(folder / "references.safetensors")
    photos = torch.stack([to_tensor(read_rgb(path)) for path in sorted(person.iterdir())])[None]
    with torch.no_grad():
        features = generator.reference_features(photos, draw=fixed_noise(SEED))
    expected = onnx_inputs(photos[:, 0], features)
    assert set(stored) == set(expected) - {"lq"}
    for name, array in stored.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_missing_packages_are_named_before_anything_is_read(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    assert main(["export", "--checkpoint", "nowhere", "--output", str(tmp_path / "onnx")]) == 2
    error = capsys.readouterr().err
    assert f"found no {package}" in error
    assert "pip install 'lit_restore[onnx]'" in error


def test_what_cannot_be_exported_is_said(tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    alone = inference_form(tiny_generator(tiny_base, use_references=False))
    with pytest.raises(UserError, match="takes no references"):
        export_onnx(alone, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.txt").write_text("mine")
    assert main(["export", "--checkpoint", "x", "--output", str(tmp_path / "photos"), "--overwrite"]) == 2
    assert "the output exists" in capsys.readouterr().err
