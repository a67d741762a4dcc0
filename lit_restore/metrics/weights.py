"""Weight files that metrics need: what is known of them, and where they are looked for.

First choice is a file that the user names. Then come the folders of `lit_restore.faces.weights.search_folders` (also
one level below), torch's cache of downloads, and at last a download.
"""

from __future__ import annotations

from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.faces.weights import WeightFile, fetch, locate

_TORCHVISION = "https://download.pytorch.org/models"
_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main"

ALEXNET = WeightFile(
    name="alexnet-owt-7be5be79.pth",
    what="AlexNet of torchvision, 233 MiB",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
    sha256="7be5be79",
)
VGG16 = WeightFile(
    name="vgg16-397923af.pth",
    what="VGG16 of torchvision, 528 MiB",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/vgg16-397923af.pth",
    sha256="397923af",
)
SQUEEZENET = WeightFile(
    name="squeezenet1_1-b8a52dc0.pth",
    what="SqueezeNet 1.1 of torchvision, 4.7 MiB",
    licence="BSD-3-Clause as the package",
    source=f"{_TORCHVISION}/squeezenet1_1-b8a52dc0.pth",
    sha256="b8a52dc0",
)
SQUEEZENET_FP16 = WeightFile(
    name="squeezenet1_1_fp16.safetensors",
    what="the same network in half precision",
    licence="BSD-3-Clause as the package",
    source="converted from squeezenet1_1 of torchvision",
    sha256="96a4b662bedd50905054b1e43e048305ea292e69541106a7dcd14a2c129d4e08",
    size_bytes=2_483_664,
)
NIQE = WeightFile(
    name="niqe_pris_params.npz",
    what="statistics of undistorted photos for NIQE",
    licence="Apache-2.0, parameters by Mittal, Soundararajan and Bovik",
    source="https://github.com/XPixelGroup/BasicSR/raw/8d56e3a/basicsr/metrics/niqe_pris_params.npz",
    sha256="2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
    size_bytes=11_850,
)
INCEPTION = WeightFile(
    name="weights-inception-2015-12-05-6726825d.pth",
    what="Inception v3 of FID, 91 MiB",
    licence="Apache-2.0",
    source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    sha256="",  # torch-fidelity does not check it either
)
MUSIQ = WeightFile(
    name="musiq_koniq_ckpt-e95806b9.pth",
    what="MUSIQ trained on KonIQ-10k",
    licence="Apache-2.0, converted by pyiqa",
    source=f"{_PYIQA}/musiq_koniq_ckpt-e95806b9.pth",
    sha256="",
)
MANIQA = WeightFile(
    name="ckpt_koniq10k.pt",
    what="MANIQA trained on KonIQ-10k",
    licence="Apache-2.0",
    source=f"{_PYIQA}/ckpt_koniq10k.pt",
    sha256="",
)
CLIP_RN50 = WeightFile(
    name="RN50.pt",
    what="CLIP ResNet-50 of OpenAI",
    licence="MIT",
    source="https://openaipublic.azureedge.net/clip/models/"
    "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
    sha256="afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
)


def obtain(file: WeightFile, given: str | Path | None = None, *, instead: WeightFile | None = None) -> Path:
    """A local copy of a weight file.

    Args:
        given: where the user says it is; its name does not matter, and its content is left to the network to refuse.
        instead: another file that does as well.

    Raises:
        UserError: ``given`` is no file; or a copy is damaged; or there is none and it cannot be downloaded.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_file():
            raise UserError("no such weight file", where=path, expected=f"{file.what} ({file.name})")
        return path
    path = locate(file) or (locate(instead) if instead else None)
    return path or fetch(file, what="weights of a metric", instead=[instead] if instead else None)
