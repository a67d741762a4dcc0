"""Who may import whom, read from the source: the layers of the package and the homes of its heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lit_restore"
FILES = sorted(PACKAGE.rglob("*.py"))

# Layer -> what it may import besides itself. `types`, `image` and `errors` are the common ground.
GROUND = {"__init__", "errors", "types", "image"}
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "types": set(),
    "image": {"errors"},
    "quiet": {"__init__"},
    "faces": GROUND,
    "data": GROUND | {"faces"},
    "models": GROUND | {"faces"},
    "losses": GROUND | {"models", "faces", "data"},
    "metrics": GROUND | {"faces", "models", "losses", "data"},
    "visualization": GROUND,
    "pages": GROUND,
    "attention_pictures": GROUND | {"data", "models", "metrics", "visualization"},
    "callbacks": GROUND | {"faces", "models", "losses", "metrics", "data", "visualization", "attention_pictures"},
    "training": GROUND | {"models", "losses", "data", "callbacks", "quiet"},
    "inference": GROUND | {"__init__", "models", "data", "faces", "pages"},
    "demo": GROUND | {"inference"},
    "evaluation": GROUND | {"__init__", "data", "models", "metrics", "visualization", "pages"},
    "experiments": GROUND | {"training", "evaluation", "metrics"},
    "commands": GROUND
    | {
        "models",
        "data",
        "faces",
        "metrics",
        "callbacks",
        "training",
        "inference",
        "demo",
        "evaluation",
        "experiments",
        "quiet",
    },
    "cli": GROUND | {"commands", "quiet"},
    "__main__": {"cli"},
}

# Library -> the only places that know it; quiet.py only tells it to talk less.
HOMES = {
    "diffusers": ("models/", "training/autoencoder.py", "training/denoiser.py", "quiet.py"),  # recipes of a base
    "transformers": ("models/", "quiet.py"),
    "peft": ("models/adaptation.py",),
    "huggingface_hub": ("models/base.py", "models/hub.py", "quiet.py"),
    "lpips": ("losses/perceptual.py",),
    "onnx": ("models/onnx_export.py",),
    "onnxscript": ("models/onnx_export.py",),
    "torchmetrics": ("metrics/",),
    "torch_fidelity": ("metrics/inception.py",),
    "pyiqa": ("metrics/iqa.py",),
    "gradio": ("demo/page.py",),
    "starlette": ("demo/page.py",),
    "timm": ("metrics/iqa.py",),
    "spandrel": ("evaluation/face_networks.py",),
    "spandrel_extra_arches": ("evaluation/face_networks.py",),
    "pyarrow": ("evaluation/records.py",),
    "pytorch_lightning": ("data/datamodule.py", "training/", "callbacks/", "evaluation/runner.py"),
    "lightning_fabric": ("training/", "callbacks/"),
    "jsonargparse": ("training/",),
    "omegaconf": ("training/",),
    "wandb": ("callbacks/", "experiments/online_sweep.py", "experiments/offline_files.py"),
    "face_alignment": ("faces/face_alignment_backend.py",),
    "albumentations": ("data/",),
    "cv2": ("data/", "faces/", "inference/", "attention_pictures.py"),
    "PIL": ("image.py", "data/", "faces/", "inference/", "pages/embedded.py"),
}


def place(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def layer(file: Path) -> str:
    return place(file).split("/")[0].removesuffix(".py")


def imported(file: Path) -> Iterator[tuple[str, int]]:
    """Full name and line of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(file)}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_every_layer_is_in_the_picture() -> None:
    assert {layer(file) for file in FILES} == set(ALLOWED)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_layers_import_only_what_is_below_them(name: str) -> None:
    wrong = []
    for file in FILES:
        for module, line in imported(file) if layer(file) == name else ():
            parts = module.split(".")
            if parts[0] == "lit_restore":
                target = (
                    parts[1] if (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").exists() else "__init__"
                )
                if target != name and target not in ALLOWED[name]:
                    wrong.append(f"{place(file)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_is_known_only_where_it_is_at_home(library: str) -> None:
    wrong = [
        f"{place(file)}:{line} imports {module}"
        for file in FILES
        for module, line in imported(file)
        if module.split(".")[0] == library and not place(file).startswith(HOMES[library])
    ]
    assert not wrong, "\n".join(wrong)


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after ``statement``."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(result.stdout.split())


HEAVY = {"torch", "torchvision", "diffusers", "transformers", "pytorch_lightning", "albumentations"}


@pytest.mark.parametrize(
    "statement",
    [
        "import lit_restore",
        "import lit_restore.cli",
        "import lit_restore.cli; lit_restore.cli.main(['--help'])",
        "import lit_restore.cli; lit_restore.cli.main(['fit', '--help'])",
        "import lit_restore.cli; lit_restore.cli.main(['--version'])",
        "import lit_restore.image",
    ],
)
def test_what_must_answer_at_once_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


def test_people_are_rendered_and_degraded_without_torch() -> None:
    statement = "import lit_restore.data.synthetic, lit_restore.data.degradation, lit_restore.data.manifest"
    assert not loaded_by(statement) & HEAVY
