"""``lit_restore export``: a trained model as an ONNX graph that restores with ready keys and values of references."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lit_restore.commands.arguments import Parser
from lit_restore.errors import UserError
from lit_restore.quiet import hide_loading_bars, quiet_libraries

if TYPE_CHECKING:
    import numpy as np

    from lit_restore.inference import Photo

EXAMPLES = """\
examples:
  lit_restore export --checkpoint runs/quickstart --output onnx/
      onnx/restorer.onnx with its weights beside it
  lit_restore export --checkpoint runs/quickstart --output onnx/ --references person/aligned/
      also onnx/references.safetensors: its inputs reference_key_0 ... reference_value_0 ... for photos of one person

inputs of the graph: lq (B, 3, S, S) in [-1, 1], an aligned face; reference_key_i and reference_value_i
(B, R, N_i, C_i), B and R from 1 on. output: restored (B, 3, S, S) in [-1, 1].
needs: pip install 'lit_restore[onnx]'
"""


def main(argv: list[str]) -> int:
    """Export; 0 when done."""
    options = _parser().parse_args(argv[1:])
    output = Path(options.output)
    _check_output(output, bool(options.overwrite))
    with quiet_libraries():
        hide_loading_bars()
        return _export(output, options)


def _export(output: Path, options: Namespace) -> int:
    from lit_restore.inference import list_photos
    from lit_restore.models.artifact import load_generator
    from lit_restore.models.inference_form import inference_form
    from lit_restore.models.onnx_export import REFERENCES, export_onnx, require_packages, write_references

    require_packages()
    photos = [] if options.references is None else list_photos(options.references)
    generator = load_generator(options.checkpoint, base=options.base)
    faces = [_aligned_face(photo, generator.config.size_px) for photo in photos]
    inference_form(generator, precision="float32", keep_base=bool(faces))
    graph = export_onnx(generator, output, seed=options.seed)
    print(f"Written: {graph}, {sum(file.stat().st_size for file in graph.parent.iterdir()) / 1e6:,.1f} MB")
    if faces:
        size = write_references(generator, faces, output / REFERENCES, seed=options.seed)
        print(f"Written: {output / REFERENCES}, {len(faces)} photos, {size / 1e6:,.1f} MB")
    return 0


def _aligned_face(photo: Photo, size_px: int) -> np.ndarray:
    from lit_restore.image import fit_square, read_rgb

    image = read_rgb(photo)
    if image.shape[0] != image.shape[1]:
        raise UserError(
            "not an aligned face",
            where=photo,
            expected="a square picture",
            found=f"{image.shape[1]}x{image.shape[0]}",
            fix="Align the photos first.",
        )
    return fit_square(image, size_px)


def _check_output(output: Path, overwrite: bool) -> None:
    """Never mix with what somebody else may have put there."""
    there = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
    if output.is_file():
        raise UserError("the output is a file", where=output, expected="a folder")
    ours = {"restorer.onnx", "restorer.onnx.data", "references.safetensors"}
    if there and not (overwrite and there <= ours):
        fix = "Choose another one." if overwrite else "Choose another one, or add --overwrite to replace an export."
        raise UserError("the output exists", where=output, found=", ".join(sorted(there)[:5]), fix=fix)


def _parser() -> Parser:
    parser = Parser("export", "A trained model as an ONNX graph; references enter as keys and values.", EXAMPLES)
    parser.add_argument("--checkpoint", required=True, help="run folder, model folder or .ckpt file")
    parser.add_argument("--base", help="where the diffusion base is, if it moved")
    parser.add_argument("--output", required=True, help="folder for the graph")
    parser.add_argument("--references", help="aligned square photos of one person: a folder or a file")
    parser.add_argument("--seed", type=int, default=0, help="of the noise, a constant of the graph (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser
