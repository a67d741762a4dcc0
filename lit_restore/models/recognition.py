"""Face recognition networks: faces -> unit vectors whose cosine tells how alike two people are.

Five kinds, told apart by what their files hold: small ones for synthetic people, and four public networks for photos
(ArcFace, CurricularFace, AdaFace, face-reidentification-retail-0095). Every one knows which crop of a face it was
trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.faces.crop import ARCFACE_CROP, REID_CROP, FaceCrop, crop_faces
from lit_restore.faces.points import Points, detected_points, landmark_points, template_points
from lit_restore.faces.weights import WeightFile, decode, load, locate, missing
from lit_restore.models.base import BUNDLED, fingerprint
from lit_restore.models.face_reid import FaceReid
from lit_restore.models.iresnet import adaface_ir101, arcface_ir_se50, curricularface_ir101


class Recognizer(nn.Module):
    """A frozen recognition network in eval mode, and what must stand beside its numbers.

    Args:
        network: RGB faces (B, 3, S, S) in [-1, 1], cut as ``crop`` says -> vectors (B, D).
        name: for people, e.g. ``ArcFace IR-SE50``.
        crop: the part of a picture it was trained on; None = whole aligned faces of any size.
    """

    def __init__(self, network: nn.Module, name: str, crop: FaceCrop | None = None) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.crop = crop
        self.fingerprint = fingerprint(network)
        """16 hex digits that tell weights apart, whatever their file is called and in which precision it is."""
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Recognizer:
        """Stays in eval mode: batch statistics belong to its own training."""
        return super().train(False)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) RGB in [-1, 1], already cut as ``crop`` says -> (B, D), L2-normalised, float32."""
        return F.normalize(self.network(faces).float(), dim=1)

    def compare(
        self,
        restored: torch.Tensor,
        hq: torch.Tensor,
        points: Points = "target",
        landmarks: torch.Tensor | None = None,
        landmark_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine between the faces of two batches of pictures; gradients reach ``restored`` only.

        Args:
            restored, hq: (B, 3, H, W) in [-1, 1].
            points: where the five points come from that the crop needs; see `Points`.
            landmarks, landmark_mask: (B, L, 2) and (B, L) of ``hq``, for ``target``; the first 68 are iBUG's.

        Returns:
            cosine (F,) of the F pairs in which both faces have points, and which these are, (B,) bool.

        Raises:
            UserError: ``target`` without landmarks, or the detector of ``detect`` has no weights.
        """
        if self.crop is None:
            found = torch.ones(len(hq), dtype=torch.bool, device=hq.device)
            return self._cosine(restored, hq), found
        if points == "target":
            if landmarks is None or landmark_mask is None:
                raise UserError(
                    f"no landmarks to cut faces for {self.name}",
                    fix="Give the data set landmarks (lit_restore prepare), or set points to template or detect.",
                )
            places, present = landmark_points(landmarks, landmark_mask)
            restored_places = places
        elif points == "detect":
            (restored_places, one), (places, other) = detected_points(restored), detected_points(hq)
            present = one & other
        else:
            places, present = template_points(hq)
            restored_places = places
        found = torch.from_numpy(present).to(hq.device)
        if not present.any():
            return restored.new_zeros(0, dtype=torch.float32), found
        return self._cosine(
            crop_faces(restored[found], restored_places[present], self.crop),
            crop_faces(hq[found], places[present], self.crop),
        ), found

    def _cosine(self, restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self(hq)
        return (self(restored) * wanted).sum(1)

    def protocol(self, points: Points) -> dict[str, str]:
        """What decides a similarity besides the pictures, to be kept with every number."""
        crop = "whole picture" if self.crop is None else f"{self.crop}, points: {points}"
        return {"network": self.name, "weights": self.fingerprint, "crop": crop}


@dataclass(frozen=True)
class _PublicNetwork:
    name: str
    build: Callable[[], nn.Module]
    crop: FaceCrop
    telltale: str
    """A tensor that no network further down the list has."""
    file: WeightFile


_RESEARCH = "trained on a set for research only"
PUBLIC: dict[str, _PublicNetwork] = {
    "arcface": _PublicNetwork(
        "ArcFace IR-SE50",
        arcface_ir_se50,
        ARCFACE_CROP,
        "body.0.res_layer.5.fc1.weight",
        WeightFile(
            name="model_ir_se50.pth",
            what="ArcFace IR-SE50 of InsightFace_Pytorch",
            licence=f"MIT, {_RESEARCH}",
            source="https://github.com/xinntao/facexlib/releases/download/v0.1.0/recognition_arcface_ir_se50.pth "
            "(rename it)",
            sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
            size_bytes=175_367_323,
        ),
    ),
    "adaface": _PublicNetwork(
        "AdaFace IR-101",
        adaface_ir101,
        ARCFACE_CROP,
        "body.0.res_layer.5.running_mean",
        WeightFile(
            name="adaface_ir101_webface12m.ckpt",
            what="AdaFace IR-101, WebFace12M",
            licence=f"MIT, {_RESEARCH}",
            source="https://drive.google.com/file/d/1dswnavflETcnAuplZj1IOKKP0eM8ITgT (github.com/mk-minchul/AdaFace)",
            sha256="0e7a3238d2a50f3fe3860782534928ac7cb2598977cf897f6869fd5ac2493fd0",
            size_bytes=1_526_801_999,
        ),
    ),
    "curricularface": _PublicNetwork(
        "CurricularFace IR-101",
        curricularface_ir101,
        ARCFACE_CROP,
        "body.0.res_layer.4.running_mean",
        WeightFile(
            name="CurricularFace_Backbone.pth",
            what="CurricularFace IR-101",
            licence=f"MIT, {_RESEARCH}",
            source="https://drive.google.com/file/d/1f4IwVa2-Bn9vWLwB-bUwm53U_MlvinAj (github.com/HuangYG123/"
            "CurricularFace)",
            sha256="",  # nobody publishes one
        ),
    ),
    "face_reid_0095": _PublicNetwork(
        "face-reidentification-retail-0095",
        FaceReid,
        REID_CROP,
        "head.gdc.weight",
        WeightFile(
            name="face_reid_0095.safetensors",
            what="face-reidentification-retail-0095 in PyTorch's order",
            licence="Apache-2.0",
            source="a conversion of the file in Intel's Open Model Zoo",
            sha256="8eb3be66ee6292e03b43ffa1335f4434323cd1a78b1b9822032481cf87716e15",
            size_bytes=2_231_756,
        ),
    ),
}
"""Networks that can be asked for by name; in the order in which a file is compared with them."""


def load_recognizer(source: str) -> Recognizer:
    """A recognition network.

    Args:
        source: ``bundled:NAME``; a folder written by `SmallRecognizer.save`; a weight file of one of the `PUBLIC`
            networks, recognised by the tensors in it; or the name of one, whose file is then looked for in the
            folders of `lit_restore.faces.weights.search_folders` and checked byte for byte.

    Raises:
        UserError: nothing is there, the file is damaged, or it belongs to no known network.
    """
    if source in PUBLIC:
        file = PUBLIC[source].file
        path = locate(file)
        if path is None:
            raise missing([file])
        return _public(path)
    path = BUNDLED / source.removeprefix("bundled:") if source.startswith("bundled:") else Path(source).expanduser()
    return _public(path) if path.is_file() else _small(path, source)


def _public(path: Path) -> Recognizer:
    content = decode(path)
    content = content if isinstance(content, dict) else {}
    content = content.get("state_dict", content)  # the whole checkpoint of a training
    # A training's network is one part of what it saves (AdaFace: beside the classifier's weights).
    state = {name.removeprefix("model."): tensor for name, tensor in content.items() if name.startswith("model.")}
    state = state or content
    for known in PUBLIC.values():
        if known.telltale in state:
            network = known.build()
            load(network, state, path)
            return Recognizer(network, known.name, known.crop)
    raise UserError(
        "not a recognition network that lit_restore knows",
        where=path,
        expected=", ".join(known.file.what for known in PUBLIC.values()),
        found=f"tensors like {', '.join(list(state)[:3])}" if state else "no tensors",
    )


def _small(folder: Path, source: str) -> Recognizer:
    try:
        network = SmallRecognizer(**json.loads((folder / "config.json").read_text()))
        network.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            "no usable recognition network",
            where=folder,
            expected="a folder with config.json and model.safetensors, a weight file, bundled:NAME, or "
            + ", ".join(PUBLIC),
            found=str(error).splitlines()[0],
        ) from None
    return Recognizer(network, source)


class SmallRecognizer(nn.Module):
    """A four-stage residual network for the synthetic people; 0.6 million parameters at the default widths.

    Args:
        widths: channels after each stride-2 stage.
        embedding: length of the face vector.
        size_px: faces are resized to this side first.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), embedding: int = 128, size_px: int = 64) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "embedding": embedding, "size_px": size_px}
        self.size_px = size_px
        stages, channels = [], 3
        for width in widths:
            stages += [_conv(channels, width, stride=2), _Residual(width)]
            channels = width
        self.stages = nn.Sequential(*stages)
        side = size_px // 2 ** len(widths)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels * side * side, embedding), nn.BatchNorm1d(embedding))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, embedding), L2-normalised."""
        if faces.shape[-1] != self.size_px:
            faces = F.interpolate(faces, (self.size_px, self.size_px), mode="bilinear", antialias=True)
        return F.normalize(self.head(self.stages(faces)).float(), dim=1)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        # Half precision: the vectors' cosines change by less than 0.001.
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")


def _conv(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.body = nn.Sequential(_conv(width, width), second, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)
