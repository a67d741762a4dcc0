"""What does one restored face cost, and what do references add? Ours beside the public code's way, same weights.

    python -m lit_restore.models.random_base sd-turbo /tmp/sdt            # weights do not matter, sizes do
    OMP_NUM_THREADS=1 python benchmarks/restore.py --base /tmp/sdt --size-px 256
    python benchmarks/restore.py --base /tmp/sdt --size-px 512 --device cuda --precision bfloat16 --compile

Three passes: without references, the first with four references, and a later one whose references are in the cache.
Each in two ways:

    ours             LoRA folded in, channels-last, fused attention, reference pass up to the last shared layer
    straightforward  as the public code works: LoRA beside the weights, a second full UNet and VAE for the references,
                     attention probabilities written out, reference UNet run to its end and its result decoded; nothing
                     is kept between passes (precision by autocast over float32 weights)

Every measurement is a process of its own, so that peak memory is that of one variant; rounds alternate the variants.
On a CPU the time is CPU time, which other processes disturb less than the clock; on a GPU it is the synchronised
clock. Outputs of the two ways are compared, which shows that the same thing was computed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import Attention

from lit_restore.image import to_tensor
from lit_restore.models.base import load_base
from lit_restore.models.generator import GeneratorConfig, OneStepGenerator, fixed_noise
from lit_restore.models.inference_form import inference_form
from lit_restore.models.reference_attention import (
    FeatureRecorder,
    ReferenceFeatures,
    SharingOptions,
    extend_keys_values,
    share_decoder_attention,
)
from lit_restore.models.reference_cache import CacheNotes, ReferenceCache

# name -> (way, pass); later passes of the public code are like its first, so it has two rows.
VARIANTS = {
    "ours, no references": ("ours", "none"),
    "straightforward, no references": ("straightforward", "none"),
    "ours, first pass": ("ours", "first"),
    "straightforward, with references": ("straightforward", "first"),
    "ours, cached references": ("ours", "cached"),
}


def main() -> None:
    options = _options()
    if options.variant:
        measure(options)
        return
    results: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name in VARIANTS:
                command = [sys.executable, __file__, *sys.argv[1:], "--variant", name, "--folder", folder]
                subprocess.run(command, check=True)
                results[name].append(json.loads((Path(folder) / f"{name}.json").read_text()))
                print(f"{name}: {results[name][-1]}", flush=True)
        report(results, Path(folder))


def report(results: dict[str, list[dict]], folder: Path) -> None:
    """The table, the ratios that are goals, and that both ways agree."""
    seconds = {name: min(s for run in runs for s in run["seconds"]) for name, runs in results.items()}
    print(f"\n| pass | seconds per batch | range | peak memory |\n|{'---|' * 4}")
    for name, runs in results.items():
        every = [s for run in runs for s in run["seconds"]]
        peak = max(run["peak_gb"] for run in runs)
        print(f"| {name} | {seconds[name]:.3g} | {min(every):.3g}-{max(every):.3g} | {peak:.1f} GB |")
    ours, public = "ours, {}", seconds["straightforward, with references"]
    cached, first = seconds[ours.format("cached references")], seconds[ours.format("first pass")]
    print(f"\ncached / no references: {cached / seconds[ours.format('no references')]:.2f} (goal: at most 1.3)")
    print(f"straightforward / first pass: {public / first:.2f} (goal: at least 2)")
    print(f"straightforward / cached: {public / cached:.2f} (goal: at least 5)")
    for one, other in (
        ("straightforward, no references", "ours, no references"),
        ("straightforward, with references", "ours, first pass"),
        ("ours, first pass", "ours, cached references"),
    ):
        difference = np.abs(np.load(folder / f"{one}.npy") - np.load(folder / f"{other}.npy"))
        print(f"largest difference in [-1, 1], {one} / {other}: {difference.max():.2g}, mean {difference.mean():.2g}")


@torch.inference_mode()
def measure(options: argparse.Namespace) -> None:
    """One variant; times, peak memory and the output go to files."""
    way, kind = VARIANTS[options.variant]
    device, folder = torch.device(options.device), Path(options.folder)
    random = np.random.default_rng(0)
    lq = random.uniform(-1, 1, (options.batch, 3, options.size_px, options.size_px)).astype(np.float32)
    photos = list(random.integers(0, 256, (options.references, options.size_px, options.size_px, 3), dtype=np.uint8))
    faces = torch.from_numpy(lq).to(device)
    stacked = torch.stack([to_tensor(photo) for photo in photos]).to(device)
    references = None if kind == "none" else stacked.expand(options.batch, *stacked.shape)
    generator = _trained(options)
    if way == "ours":
        run = _ours(options, generator, kind, photos)
    else:
        run = _straightforward(options, generator, with_references=kind != "none")

    small = (faces[:1, :, :64, :64], None if references is None else references[:1, :, :, :64, :64])
    run(*((faces, references) if device.type == "cuda" else small))  # warm-up: kernels, first touch of the weights
    seconds = []
    for _ in range(options.repetitions):
        start = _clock(device)
        output = run(faces, references)
        seconds.append(_clock(device) - start)
    name = options.variant
    np.save(folder / f"{name}.npy", output.float().cpu().numpy())
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else _peak_rss_gb()
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, "peak_gb": peak}))
    if name == "ours, first pass":  # measured; now what the cached pass will find
        ReferenceCache(folder / "cache").features(generator, photos)


Pass = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


def _ours(options: argparse.Namespace, generator: OneStepGenerator, kind: str, photos: list[np.ndarray]) -> Pass:
    inference_form(
        generator,
        device=options.device,
        precision=options.precision,
        keep_base=kind == "first",
        compile=options.compile,
    )
    draw = fixed_noise(0, options.device)
    if kind != "cached":
        return lambda faces, references: generator(faces, references, draw=draw)
    notes = CacheNotes()
    features = ReferenceCache(Path(options.folder) / "cache").features(generator, photos, notes=notes)
    assert notes.computed == 0, "the first pass has filled the cache"
    # The small warm-up takes as many cells of the references as it has itself.
    cells = [(int(key.shape[2] ** 0.5) * 64 // options.size_px) ** 2 for key in features.keys]
    whole = [None] * len(cells)

    def cut(part: list[torch.Tensor], batch: int, counts: list[int | None]) -> list[torch.Tensor]:
        return [tensor.expand(batch, -1, -1, -1)[:, :, :n] for tensor, n in zip(part, counts, strict=True)]

    full, small = (
        ReferenceFeatures(cut(features.keys, batch, counts), cut(features.values, batch, counts))
        for batch, counts in ((options.batch, whole), (1, cells))
    )

    def run(faces: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
        return generator(faces, full if faces.shape[-1] == options.size_px else small, draw=draw)

    return run


class WrittenOutAttention:
    """Self-attention of a shared layer with its probabilities in memory; otherwise as `SharedAttentionProcessor`."""

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        reference: FeatureRecorder | ReferenceFeatures | None = None,
        probe: object = None,
    ) -> torch.Tensor:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        if isinstance(reference, FeatureRecorder):
            reference.record(key, value)
        elif reference is not None:
            stored = reference.keys[self.layer], reference.values[self.layer]
            key, value, _ = extend_keys_values(key, value, *stored, None, SharingOptions())
        query, key, value = (attn.head_to_batch_dim(part) for part in (query, key, value))
        probabilities = torch.softmax(query @ key.transpose(1, 2) * attn.scale, dim=-1)
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(probabilities @ value)))


def _write_attention_out(unet: torch.nn.Module) -> int:
    """Put those processors into the shared layers; returns how many there are."""
    shared = share_decoder_attention(unet, SharingOptions())
    unet.set_attn_processor(
        unet.attn_processors | {f"{name}.processor": WrittenOutAttention(i) for i, name in enumerate(shared)}
    )
    return len(shared)


def _straightforward(options: argparse.Namespace, tuned: OneStepGenerator, *, with_references: bool) -> Pass:
    tuned.to(options.device)
    num_layers = _write_attention_out(tuned.unet)
    frozen = load_base(options.base) if with_references else None
    if frozen is not None:
        frozen.unet.to(options.device)
        frozen.vae.to(options.device)
        _write_attention_out(frozen.unet)
    draw = fixed_noise(0, options.device)

    def look_at(references: torch.Tensor) -> ReferenceFeatures:
        images, scale = references.flatten(0, 1), frozen.vae.config.scaling_factor
        latent = frozen.vae.encode(images).latent_dist.mode() * scale
        steps = torch.full((len(images),), tuned.config.reference_timestep, device=images.device)
        recorder = FeatureRecorder(num_layers + 1)  # one more than will come: the UNet runs to its end
        prompt = frozen.prompt_embedding.to(latent).expand(len(images), -1, -1)
        predicted = frozen.unet(latent, steps, prompt, cross_attention_kwargs={"reference": recorder}).sample
        frozen.vae.decode(frozen.schedule.predict_clean(latent, predicted, steps) / scale)
        return recorder.features(references.shape[1], None)

    def run(faces: torch.Tensor, references: torch.Tensor | None) -> torch.Tensor:
        half = options.precision in ("bfloat16", "float16")
        precision = torch.autocast(faces.device.type, getattr(torch, options.precision)) if half else nullcontext()
        with precision:
            return tuned(faces, None if references is None else look_at(references), draw=draw)

    return run


def _trained(options: argparse.Namespace) -> OneStepGenerator:
    """LoRA away from its start, where it would do nothing; the same in every process."""
    generator = OneStepGenerator(GeneratorConfig(base=str(options.base))).requires_grad_(False).eval()
    random = torch.Generator().manual_seed(0)
    for adaptation in generator.adaptations.values():
        for name, tensor in adaptation.state_dict().items():
            if "lora_B" in name:
                tensor += 0.01 * torch.randn(tensor.shape, generator=random)
    return generator


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _peak_rss_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="folder of the base; random weights will do")
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--references", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1, help="faces at once, each with its own references")
    parser.add_argument("--rounds", type=int, default=1, help="processes per variant")
    parser.add_argument("--repetitions", type=int, default=3, help="timed passes per process")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile for ours")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
