"""The pretrained diffusion model everything is built on: UNet, VAE, prompt embedding and noise schedule.

A base is a folder in the Stable-Diffusion layout of diffusers (``unet/ vae/ text_encoder/ tokenizer/ scheduler/``), a
hub id of such a folder, or ``bundled:NAME`` for one shipped inside this package. A base without a text encoder carries
its one constant prompt embedding in ``prompt/embedding.safetensors`` instead.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lit_restore.errors import UserError
from lit_restore.models.schedule import NoiseSchedule

BUNDLED = Path(__file__).resolve().parent.parent / "assets"
PROMPT = "A high-quality photo of a person; professional, 8k"  # the official InstantRestore prompt


@dataclass
class DiffusionBase:
    """The parts of one pretrained latent diffusion model, float32, in eval mode, without gradients."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    prompt_embedding: torch.Tensor
    """(1, tokens, channels) float32."""
    schedule: NoiseSchedule
    fingerprint: str
    """Short hash of the configuration and weights; tells two bases apart whatever their folder is called."""


def resolve(source: str) -> Path:
    """The local folder of a base given as a path, ``bundled:NAME`` or hub id (downloaded when online).

    Raises:
        UserError: no such folder, and the hub cannot be reached or does not know the id.
    """
    if source.startswith("bundled:"):
        folder = BUNDLED / source.removeprefix("bundled:")
        if not folder.is_dir():
            known = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()) if BUNDLED.is_dir() else []
            raise UserError("no such bundled base", where=source, expected=", ".join(known) or "none is shipped")
        return folder
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_id(source):
        expected = "a folder with unet/, vae/ and scheduler/, a hub id like stabilityai/sd-turbo, or bundled:NAME"
        raise UserError("no such base folder", where=source, expected=expected)
    # A star also stands for folders: a VAE of its own lies at the top of its repository.
    patterns = ["*config.json", "*/*.json", "*/*.txt", "*diffusion_pytorch_model.safetensors", "*/model.safetensors"]
    return download(
        source,
        patterns,
        what="the base",
        fix=f"Download it where there is a network (`hf download {source} --local-dir FOLDER`) and set "
        "model.generator.base to FOLDER, or start with the bundled base: "
        "lit_restore fit --config configs/quickstart.yaml",
    )


def is_hub_id(source: str) -> bool:
    """Whether it can be the name of a hub repository, ``owner/name``."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return source.count("/") == 1


def download(hub_id: str, patterns: list[str], *, what: str, fix: str) -> Path:
    """The local copy of those files of a hub repository that match; downloaded when they are not there yet.

    Args:
        hub_id: ``owner/name``.
        patterns: of file names; one without a wildcard must be there.
        what: what the files are, for the error.
        fix: what to do without a network, for the error.

    Raises:
        UserError: the hub cannot be reached or does not know the id.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        local = Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
        if all((local / name).is_file() for name in patterns if "*" not in name):
            return local
    except LocalEntryNotFoundError:
        pass  # not downloaded before
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{what} is not on this machine and the model hub cannot be reached",
            where=hub_id,
            found=f"no copy in {HF_HUB_CACHE}, {type(error).__name__}",
            fix=fix,
        ) from None


def load_base(source: str, *, vae: str | None = None, prompt: str = PROMPT) -> DiffusionBase:
    """Load a base for inference or for attaching adapters.

    Args:
        source: folder, hub id or ``bundled:NAME``.
        vae: take the VAE from another source (official InstantRestore: ``stabilityai/sd-vae-ft-mse``); either a
            folder with ``config.json`` or one with a ``vae`` subfolder.
        prompt: encoded once with the base's text encoder; ignored where the base carries its own embedding.
    """
    folder = resolve(source)
    unet = load_unet(source)
    autoencoder = load_vae(source, vae)
    schedule = NoiseSchedule.from_config(_read_json(folder / "scheduler" / "scheduler_config.json"))
    embedding = _prompt_embedding(folder, prompt)
    return DiffusionBase(unet, autoencoder, embedding, schedule, fingerprint(unet, autoencoder))


def load_unet(source: str) -> UNet2DConditionModel:
    """The UNet alone; argument as for `load_base`."""
    return _load_part(UNet2DConditionModel, resolve(source) / "unet")


def load_vae(source: str, vae: str | None = None) -> AutoencoderKL:
    """The VAE alone; arguments as for `load_base`."""
    folder = resolve(source) / "vae" if vae is None else resolve(vae)
    return _load_part(AutoencoderKL, folder / "vae" if (folder / "vae").is_dir() else folder)


def load_text_encoder(source: str) -> nn.Module | None:
    """The CLIP text encoder of a base; None where the base has only an embedding."""
    from transformers import CLIPTextModel

    folder = resolve(source) / "text_encoder"
    return _load_part(CLIPTextModel, folder) if folder.is_dir() else None


def _load_part(kind: type, folder: Path) -> nn.Module:
    """One network, float32, frozen. Every tensor must be in the file: the libraries would fill gaps with noise."""
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            "incomplete base",
            where=folder,
            expected="config.json and diffusion_pytorch_model.safetensors",
            found="no config.json",
        )
    try:
        # Without a type transformers rounds to what the config was once saved with (SD-Turbo's text encoder: float16).
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, torch_dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(folder, error) from None
    if report["missing_keys"]:
        raise _unreadable(folder, f"no tensor {min(report['missing_keys'])}")
    model = model.float()  # bf16 or fp16 files are widened: trained weights and x0 arithmetic stay in float32
    # Weights mapped from a file lie where its header puts them; in aligned memory the same values give the same bits.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model.requires_grad_(False).eval()


def _unreadable(path: Path, error: object) -> UserError:
    return UserError(
        "the base cannot be read",
        where=path,
        found=" ".join(str(error).split())[:200].rstrip("."),
        fix="Download it again; its files may be incomplete.",
    )


def _prompt_embedding(folder: Path, prompt: str) -> torch.Tensor:
    stored = folder / "prompt" / "embedding.safetensors"
    if stored.is_file():
        try:
            return load_file(stored)["embedding"].float()
        except (OSError, KeyError, SafetensorError) as error:
            raise _unreadable(stored, error) from None
    encoder = load_text_encoder(str(folder))
    if encoder is None:
        raise UserError("incomplete base", where=folder, expected="text_encoder/ and tokenizer/, or prompt/")
    from transformers import CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing more specific
        raise _unreadable(folder / "tokenizer", error) from None
    tokens = tokenizer(
        prompt, max_length=tokenizer.model_max_length, padding="max_length", truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return encoder(tokens.input_ids).last_hidden_state


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError("incomplete base", where=path, found="no such file") from None
    except json.JSONDecodeError as error:
        raise UserError("damaged file", where=path, found=str(error)) from None


def fingerprint(*networks: torch.nn.Module) -> str:
    """16 hex digits over every tensor's name, shape and up to 64 evenly spaced values.

    Sampling keeps this under a second for a full-size UNet; a fine-tuned base still differs in almost every sample.
    """
    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in sorted(network.state_dict().items()):
            flat = tensor.detach().flatten()
            step = max(1, flat.numel() // 64)
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(flat[::step].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
