"""``lit_restore convert``: checkpoints of the official InstantRestore code into model folders, and back."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from lit_restore.commands.arguments import Parser
from lit_restore.errors import UserError
from lit_restore.quiet import hide_loading_bars, quiet_libraries

EXAMPLES = """\
examples:
  lit_restore convert final_model_ckpt.pt models/final --dry-run
      what the file holds; nothing is written
  lit_restore convert final_model_ckpt.pt models/final --base weights/sd-turbo --vae weights/sd-vae-ft-mse
      a model folder: lit_restore restore --checkpoint models/final ...
  lit_restore convert final_model_ckpt.pt models/final --write-base models/final_base
      without any download: the base is taken out of the checkpoint
  lit_restore convert models/final final.pt
      back, for the official code; also from a run folder or a .ckpt file

Nothing in a checkpoint is executed: a file that asks for more than tensors and plain values is refused.
docs/instantrestore.md says what the two formats share and what not.
"""
OFFICIAL_SUFFIXES = (".pt", ".pth")


def main(argv: list[str]) -> int:
    """Convert; 0 when done."""
    options = _parser().parse_args(argv[1:])
    source, output = Path(options.source), Path(options.output)
    if not source.exists():
        raise UserError("no such checkpoint or folder", where=source)
    backwards = output.suffix.lower() in OFFICIAL_SUFFIXES
    _check_options(options, backwards)
    with quiet_libraries():
        hide_loading_bars()
        return _to_official(source, output, options) if backwards else _from_official(source, output, options)


def _from_official(source: Path, output: Path, options: Namespace) -> int:
    from lit_restore.models.official_base import PARTS, write_base
    from lit_restore.models.official_checkpoint import read_official
    from lit_restore.models.official_import import Answers, configuration, find_base, import_official
    from lit_restore.models.official_summary import describe

    if source.is_dir():
        raise UserError(
            "a folder can only be converted into a checkpoint of the official code",
            where=output,
            expected="a name that ends in .pt",
        )
    checkpoint = read_official(source)
    answers = Answers(options.use_references, options.use_adain, options.keep_own_keys, options.size_px)
    if options.dry_run:
        try:
            print(describe(checkpoint, configuration(checkpoint, answers)))
        except UserError as error:  # said after what it is about
            print(describe(checkpoint))
            raise error from None
        print(f"Would write {output}" + (f" and the base {options.write_base}" if options.write_base else "") + ".")
        return 0
    _check_free(output, {"config.json", "unet", "vae"}, options.overwrite)
    config = configuration(checkpoint, answers)
    base, vae = options.base, options.vae
    if options.write_base:
        folder = Path(options.write_base)
        _check_free(folder, set(PARTS), options.overwrite)
        write_base(checkpoint, folder, Path(base) if base else None)
        base, vae = str(folder), None
    config.base, config.vae = find_base(checkpoint, base, vae)
    import_official(checkpoint, output, config)
    print(describe(checkpoint, config))
    print(f"Written: {output}, on the base {config.base}" + (f" with the VAE {config.vae}" if config.vae else "") + ".")
    print(f"Use it:  lit_restore restore --checkpoint {output} --input PHOTO --references FOLDER --output OUT.png")
    return 0


def _to_official(source: Path, output: Path, options: Namespace) -> int:
    from lit_restore.models.official_export import DTYPES, export_official

    if output.exists() and not options.overwrite:
        raise UserError("the output exists", where=output, fix="Choose another name or add --overwrite.")
    if output.resolve() == source.resolve():
        raise UserError("the output would overwrite the input", where=output, fix="Choose another name.")
    dtype = DTYPES[options.dtype] if options.dtype else None
    if options.dry_run:
        from lit_restore.models.artifact import generator_config, read_model
        from lit_restore.models.official_export import check_representable

        stored, states = read_model(source)
        check_representable(generator_config(stored["generator"], where=source), source, bool(options.force))
        for part, state in states.items():
            print(f"{part}: {len(state):,} trained tensors, {sum(t.numel() for t in state.values()):,} values")
        print(f"Would write {output}, with the base {options.base or stored['generator']['base']}.")
        return 0
    cfg = export_official(source, output, base=options.base, dtype=dtype, force=bool(options.force))
    model = ", ".join(f"{key} {value}" for key, value in cfg["model"].items() if key in OF_THE_WEIGHTS)
    print(f"Written: {output}, {output.stat().st_size / 1e6:,.1f} MB; {model}")
    return 0


OF_THE_WEIGHTS = ("lora_rank_unet", "lora_rank_vae", "train_vae", "use_shared_attention", "use_adain", "train_input")


def _check_free(folder: Path, replaceable: set[str], overwrite: bool) -> None:
    """Never replace what somebody else may have put there."""
    if not folder.exists():
        return
    there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if there and not (overwrite and there & replaceable and folder.is_dir()):
        fix = "Choose another one." if overwrite else "Choose another one, or add --overwrite to replace a conversion."
        raise UserError("the output exists", where=folder, found=", ".join(sorted(there)[:5]), fix=fix)


def _check_options(options: Namespace, backwards: bool) -> None:
    """Options of the other direction would otherwise be ignored without a word."""
    only_forwards = ("vae", "write_base", "use_references", "use_adain", "keep_own_keys", "size_px")
    wrong = only_forwards if backwards else ("dtype", "force")
    for name in wrong:
        if getattr(options, name) is not None:
            direction = "to" if backwards else "from"
            raise UserError(f"--{name.replace('_', '-')} has no meaning {direction} the official format")


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ArgumentTypeError(f"expected yes or no, found '{text}'")
    return text == "yes"


def _side(text: str) -> int:
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"expected a number of pixels, found '{text}'")


def _parser() -> Parser:
    parser = Parser(
        "convert",
        "Checkpoints of the official InstantRestore code: into model folders of lit_restore, and back.",
        EXAMPLES,
    )
    parser.add_argument("source", help="official .pt file, or model folder, run folder or .ckpt file")
    parser.add_argument("output", help="folder, or a name ending in .pt for the way back")
    parser.add_argument("--base", help="folder or hub id of the diffusion base (from official: stabilityai/sd-turbo)")
    parser.add_argument("--vae", help="folder or hub id of the VAE (the base's own or stabilityai/sd-vae-ft-mse)")
    parser.add_argument(
        "--write-base",
        metavar="DIR",
        help="take the base out of the checkpoint; --base may then name a folder with its small files only",
    )
    for name, meaning in (
        ("use-references", "trained with shared attention to references"),
        ("use-adain", "trained with AdaIN on the references' values"),
        ("keep-own-keys", "trained with own keys and values kept (train_input)"),
    ):
        parser.add_argument(f"--{name}", type=_yes_or_no, metavar="yes|no", help=f"{meaning}; if the file is silent")
    parser.add_argument(
        "--size-px", type=_side, metavar="N", help="side of the faces (default: what the file says, 512)"
    )
    parser.add_argument(
        "--dtype",
        choices=["bfloat16", "float16", "float32"],
        help="precision on the way back (default: as it came, else bfloat16)",
    )
    parser.add_argument(
        "--force", action="store_true", default=None, help="way back: although the official code would differ"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier conversion")
    parser.add_argument("--dry-run", action="store_true", help="say what the file holds, write nothing")
    return parser
