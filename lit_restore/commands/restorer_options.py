"""The options of every command that restores photos: which restorer, with which networks, where."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from lit_restore.commands.arguments import Parser, at_least
from lit_restore.quiet import hide_loading_bars

if TYPE_CHECKING:
    from lit_restore.inference import Restorer


def add_restorer_options(parser: Parser) -> None:
    """Add them; the checkpoint is the only one that must be given."""
    parser.add_argument(
        "--checkpoint", required=True, help="run folder, model folder, .ckpt file, or owner/name on the hub"
    )
    networks = parser.add_argument_group("networks")
    networks.add_argument("--base", help="where the diffusion base is, if not where the checkpoint says")
    networks.add_argument("--weights", help="folder with weight files of face detector and recognition network")
    networks.add_argument("--recognition", help="recognition network (default: face_reid_0095 if its file is at hand)")
    networks.add_argument(
        "--threshold", type=share, help="similarity from which on two faces are one person (see docs)"
    )
    networks.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
    networks.add_argument(
        "--precision", choices=["auto", "float32", "bfloat16", "float16"], default="auto", help="of the networks"
    )
    networks.add_argument(
        "--batch", type=at_least(1), help="faces at once, of one photo or of several (default: 8 on a GPU, else 1)"
    )
    networks.add_argument(
        "--compile", action="store_true", help="torch.compile the networks: minutes first, then faster; for many photos"
    )
    networks.add_argument(
        "--low-memory",
        choices=["slices", "tiles"],
        help="encode and decode the faces of a batch one by one (same result), or each in tiles too (nearly the same)",
    )
    cache = networks.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache", help="folder for the references' keys and values (default ~/.cache/lit_restore/references)"
    )
    cache.add_argument("--no-cache", action="store_true", help="keep no keys and values of references on disk")


def load_restorer(options: Namespace, **more: Any) -> Restorer:
    """The restorer that was asked for.

    Args:
        more: further arguments of `Restorer`.
    """
    from lit_restore.inference import Restorer, find_device

    device = find_device(options.device)  # before anything large is read
    hide_loading_bars()
    return Restorer.from_pretrained(
        options.checkpoint,
        base=options.base,
        device=device,
        weights=options.weights,
        recognition=options.recognition,
        threshold=options.threshold,
        cache=False if options.no_cache else options.cache or True,
        precision=options.precision,
        batch=options.batch,
        compile=options.compile,
        low_memory=options.low_memory,
        **more,
    )


def share(text: str) -> float:
    """The type of an option that takes numbers from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value <= 1:
        return value
    raise ArgumentTypeError(f"expected a number from 0 to 1, found '{text}'")
