"""What a discriminator looks at: three levels of features of a pretrained network.

Both networks here are called alike: images (B, 3, H, W) in [-1, 1] -> two maps (B, C, h, w) and a vector (B, C),
``widths`` holding the three C.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.base import BUNDLED, download, is_hub_id
from lit_restore.models.recognition import SmallRecognizer, load_recognizer

# The mean of CLIP with the deviation of ImageNet, as the official discriminator has it.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.229, 0.224, 0.225)
SIDE_PX = 224
LAST_BLOCKS = (-8, -4, -1)  # of ViT-L/14: blocks 16, 20 and 23, counted from 0

TORCH_HUB_FILE = "dinov2_vitl14_pretrain.pth"
TORCH_HUB_FACTS = (
    f"{TORCH_HUB_FILE} (1,217,586,395 bytes, sha256 d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428, "
    f"from https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{TORCH_HUB_FILE})"
)
HOW_TO_GET = (
    "Download it where there is a network (`hf download facebook/dinov2-large --local-dir FOLDER`, 1.2 GB) and set "
    f"the discriminator's backbone to FOLDER, or set it to {TORCH_HUB_FACTS}, or to bundled:synthetic128/recognition "
    "for a small stand-in."
)


class DinoFeatures(nn.Module):
    """DINOv2 (Oquab et al. 2023): patch tokens of the blocks 8 and 4 from the end, class token of the last.

    All three pass the final LayerNorm. Images are brought to 224 px by area averaging.

    Args:
        network: a `transformers.Dinov2Model`; its position embeddings are resampled in place to the 224 px grid.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if network.config.num_hidden_layers < -LAST_BLOCKS[0]:
            raise UserError(
                "this DINOv2 is too shallow for a discriminator",
                expected=f"at least {-LAST_BLOCKS[0]} blocks",
                found=network.config.num_hidden_layers,
            )
        embeddings, self.side = network.embeddings, SIDE_PX // network.config.patch_size
        positions = resampled_positions(embeddings.position_embeddings.detach(), self.side)
        embeddings.position_embeddings = nn.Parameter(positions)
        embeddings.mask_token = None  # only DINOv2's own training used it
        self.network = network
        self.widths = (network.config.hidden_size,) * 3
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        images = F.interpolate(images * 0.5 + 0.5, (SIDE_PX, SIDE_PX), mode="area")
        hidden = self.network((images - self.mean) / self.std, output_hidden_states=True).hidden_states
        early, middle, last = (self.network.layernorm(hidden[block]) for block in LAST_BLOCKS)
        return [self._map(early), self._map(middle), last[:, 0]]

    def _map(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, 1 + side^2, C) -> (B, C, side, side), without the class token."""
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))


class RecognizerFeatures(nn.Module):
    """The last three stages of a `SmallRecognizer`, at the images' own size; the last is averaged to a vector.

    The recognition network itself shrinks faces to 64 px, which would hide from the discriminator what it is to judge.
    """

    def __init__(self, network: SmallRecognizer) -> None:
        super().__init__()
        widths = network.config["widths"]
        if len(widths) < 3:
            raise UserError(
                "this recognition network is too shallow for a discriminator", expected="3 stages", found=len(widths)
            )
        # Each stage is a convolution and a residual block.
        self.first, self.second, self.third = network.stages[:-4], network.stages[-4:-2], network.stages[-2:]
        self.widths = tuple(widths[-3:])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        early = self.first(images)
        middle = self.second(early)
        return [early, middle, self.third(middle).mean((2, 3))]


def load_features(source: str) -> DinoFeatures | RecognizerFeatures:
    """A pretrained network in eval mode, float32, without gradients.

    Args:
        source: folder or hub id of a DINOv2 in transformers' layout, a DINOv2 file as torch.hub keeps it (.pth), or a
            folder or ``bundled:NAME`` of a `SmallRecognizer`.

    Raises:
        UserError: nothing is there, it cannot be read, or it is another network.
    """
    path = BUNDLED / source.removeprefix("bundled:") if source.startswith("bundled:") else Path(source).expanduser()
    if path.is_file():
        return DinoFeatures(_from_torch_hub(path))
    if not path.is_dir():
        if source.startswith("bundled:") or not is_hub_id(source):
            raise UserError(
                "no such discriminator backbone",
                where=path,
                expected=f"a folder with config.json and model.safetensors, {TORCH_HUB_FILE}, or a hub id",
                found="nothing there",
                fix=HOW_TO_GET,
            )
        path = download(
            source, ["config.json", "model.safetensors"], what="the discriminator's backbone", fix=HOW_TO_GET
        )
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise _unreadable(path / "config.json", error) from None
    if "widths" in config:
        return RecognizerFeatures(load_recognizer(str(path)).network)
    if config.get("model_type") != "dinov2":
        raise UserError(
            "not a backbone the discriminator knows",
            where=path / "config.json",
            expected='"model_type": "dinov2", or the "widths" of a small recognition network',
            found=config.get("model_type", f"the keys {', '.join(sorted(config)[:5])}"),
            fix=HOW_TO_GET,
        )
    return DinoFeatures(_dinov2(path, folder=path))


def resampled_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Position embeddings (1, 1 + M^2, C) for another grid: (1, 1 + side^2, C); the class token's stays.

    Bicubic with the scale (side + 0.1) / M, the 0.1 being how DINOv2's own code avoids a rounding error; transformers
    uses side / M, which shifts the embeddings by up to a tenth of a cell.
    """
    grid = math.isqrt(positions.shape[1] - 1)
    if grid == side:
        return positions
    cells = positions[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
    scale = (side + 0.1) / grid
    cells = F.interpolate(cells, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], cells.flatten(2).transpose(1, 2)], dim=1)


# Names of the DINOv2 authors -> names in transformers' files.
_RENAMED = (
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^(cls_token|mask_token)$", r"embeddings.\1"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
)


def transformers_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a DINOv2 file of its authors under transformers' names; queries, keys and values are taken apart."""
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = rows
        else:
            renamed[name] = tensor
    return renamed


def _from_torch_hub(path: Path) -> nn.Module:
    from transformers import Dinov2Config

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        _, patches, width = state["pos_embed"].shape
        patch_size = state["patch_embed.proj.weight"].shape[-1]
        config = Dinov2Config(
            hidden_size=width,
            num_hidden_layers=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
            num_attention_heads=width // 64,  # in every DINOv2
            mlp_ratio=state["blocks.0.mlp.fc1.weight"].shape[0] // width,
            patch_size=patch_size,
            image_size=patch_size * math.isqrt(patches - 1),
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, f"not a DINOv2 ViT-S, B or L: {error}") from None
    return _dinov2(path, config=config, state_dict=transformers_names(state))


def _dinov2(where: Path, folder: Path | None = None, **given: object) -> nn.Module:
    """Build and fill, from a folder or from a given ``config`` and ``state_dict``; every tensor must be there."""
    from transformers import Dinov2Model
    from transformers.utils import logging

    options = {"local_files_only": True, "use_safetensors": True, "ignore_mismatched_sizes": True}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what the library would report in a table is one line below
    try:
        network, report = Dinov2Model.from_pretrained(folder, output_loading_info=True, **options, **given)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(where, error) from None
    finally:
        logging.set_verbosity(verbosity)
    # A folder may hold more than the network (a classifier); a file of the authors holds exactly it.
    unknown = report["unexpected_keys"] if folder is None else []
    misshapen = [name for name, *_ in report["mismatched_keys"]]
    for problem, names in (
        ("no tensor", report["missing_keys"]),
        ("another shape of", misshapen),
        ("an unknown tensor", unknown),
    ):
        if names:
            raise _unreadable(where, f"{problem} {min(names)}")
    network = network.float()
    # In aligned memory the same values give the same bits; those mapped from a file lie where its header puts them.
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone()
    return network.requires_grad_(False).eval()


def _unreadable(path: Path, error: object) -> UserError:
    size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
    return UserError(
        "the discriminator's backbone cannot be read",
        where=f"{path}{size}",
        expected=TORCH_HUB_FACTS if path.name == TORCH_HUB_FILE else None,
        found=" ".join(str(error).split())[:200].rstrip("."),
        fix=HOW_TO_GET,
    )
