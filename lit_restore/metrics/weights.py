"""What is known of the weight files that only metrics need."""

from __future__ import annotations

from lit_restore.faces.weights import WeightFile

_PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main"

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
