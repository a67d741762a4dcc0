"""What does landmark attention supervision cost? Time and peak memory of one step through the shared attention.

    python benchmarks/landmark_attention.py                      # fp32 on the CPU, some minutes, up to 8 GB
    python benchmarks/landmark_attention.py --precision bf16
    python benchmarks/landmark_attention.py --device cuda

A step is forward and backward through self-attention layers of SD-Turbo's decoder as at 512 px (photo 1, references 4),
queries, keys, values and projections included, nothing else of the network:

    one layer    64 x 64 cells, 5 heads: the finest, with the largest maps
    nine layers  all that share attention: 3 of 16 x 16 cells and 20 heads, 3 of 32 x 32 and 10, 3 of 64 x 64 and 5

in these variants:

    none          fused attention, no supervision
    ours          the same, and the loss of one layer and one reference, as the public code draws them
    ours all      the same, and the loss of every layer and reference
    ours map      ours with the min-max scaling over the whole map, exactly as the public code's
    materialised  attention by explicit maps, the loss of one layer and reference on them, as in the public code

Landmarks are those of a synthetic person: 1,349, of which the ones visible in both photos fall into fewer cells. Every
measurement is a fresh process with one thread; processes of the variants take turns. Time is CPU time (on a GPU: wall
time, synchronised), memory the peak above what is there before the step: resident size, or the allocator's count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import Attention

from lit_restore.data.attention_targets import gaussian_rows
from lit_restore.data.synthetic import render_face
from lit_restore.losses.landmark_attention import LandmarkAttentionConfig, LandmarkAttentionLoss, SupervisionProbe
from lit_restore.models.reference_attention import (
    ReferenceFeatures,
    SharedAttentionProcessor,
    SharingOptions,
    extend_keys_values,
)

LAYERS = [(20, 16)] * 3 + [(10, 32)] * 3 + [(5, 64)] * 3
"""(heads, cells per side), coarse to fine; 64 channels per head."""
STACKS = {"one layer": LAYERS[-1:], "nine layers": LAYERS}
NUM_REFERENCES, SIZE_PX = 4, 512
OURS = {
    "ours": {"layers": "sample", "references": "sample"},
    "ours all": {"layers": "all", "references": "all"},
    "ours map": {"layers": "sample", "references": "sample", "extremes": "map"},
}
VARIANTS = ["none", *OURS, "materialised"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16 = autocast")
    parser.add_argument("--rounds", type=int, default=3, help="processes per variant")
    parser.add_argument("--steps", type=int, default=2, help="timed steps per process, after one that is not")
    parser.add_argument("--stacks", nargs="+", choices=list(STACKS), default=list(STACKS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--worker", nargs=2, metavar=("STACK", "VARIANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(*options.worker, options)))
        return
    for stack in options.stacks:
        results: dict[str, list[dict[str, Any]]] = {variant: [] for variant in options.variants}
        for round_ in range(options.rounds):
            for variant in options.variants if round_ % 2 == 0 else reversed(options.variants):
                results[variant].append(in_fresh_process(stack, variant))
        report(stack, results, options)


def in_fresh_process(stack: str, variant: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", stack, variant]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        sys.exit(f"{stack}, {variant}:\n{finished.stderr}")
    return json.loads(finished.stdout.splitlines()[-1])


def report(stack: str, results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """The median step of all processes, and the largest peak."""
    rows = {variant: [run["rows"] for run in runs] for variant, runs in results.items()}
    print(f"\n{stack}, {options.precision}, {options.device}, {options.rounds} x {options.steps} steps")
    print(f"{'variant':<14}{'s per step':>12}{'range':>16}{'ratio':>8}{'peak MB':>10}{'rows':>8}")
    base: float | None = None
    for variant, runs in results.items():
        seconds = [value for run in runs for value in run["seconds"]]
        median, peak = statistics.median(seconds), max(run["peak"] for run in runs)
        base = median if base is None else base
        spread = f"{min(seconds):.3g}-{max(seconds):.3g}"
        print(
            f"{variant:<14}{median:>12.3f}{spread:>16}{median / base:>8.3f}{peak / 2**20:>10.0f}{max(rows[variant]):>8}"
        )


def measure(stack: str, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every timed step, and the peak of memory in bytes above what was there before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = Step(STACKS[stack], variant, options.device, options.precision)
    seconds = []
    start_of_measurement(options.device)
    before = memory(options.device)
    for index in range(options.steps + 1):
        start = clock(options.device)
        step(index)
        seconds.append(clock(options.device) - start)
    return {"seconds": seconds[1:], "peak": peak_memory(options.device) - before, "rows": step.rows}


class Step:
    """Layers, their inputs and the landmarks of one photo.

    Args:
        layers: (heads, cells per side) of each.
        variant: see the module's text.
    """

    def __init__(self, layers: list[tuple[int, int]], variant: str, device: str, precision: str) -> None:
        self.variant, self.device, self.precision, self.rows = variant, device, precision, 0
        self.layers, self.hidden = [], []
        self.features = ReferenceFeatures()
        for index, (heads, cells) in enumerate(layers):
            channels = 64 * heads
            layer = Attention(query_dim=channels, heads=heads, dim_head=64).to(device)
            processor = MaterialisedProcessor if variant == "materialised" else SharedAttentionProcessor
            layer.set_processor(processor(index, SharingOptions()))
            self.layers.append(layer)
            self.hidden.append(torch.randn(1, cells**2, channels, device=device))
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            for store in (self.features.keys, self.features.values):
                store.append(torch.randn(1, NUM_REFERENCES, cells**2, channels, device=device, dtype=dtype))
        self.batch = landmark_batch(device)
        config = LandmarkAttentionConfig(weight=1.0, **OURS.get(variant, OURS["ours"]))
        self.loss = LandmarkAttentionLoss(config, [""] * len(layers))

    def __call__(self, index: int) -> None:
        probe = None if self.variant == "none" else self.loss.probe(self.batch, [random.Random(index)])
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            total = torch.zeros((), device=self.device)
            for layer, hidden in zip(self.layers, self.hidden, strict=True):
                output = layer(hidden.requires_grad_(), reference=self.features, probe=probe)
                total = total + output.float().square().mean()
            if probe is not None:
                las = self.materialised_loss(probe) if self.variant == "materialised" else self.loss(probe)
                total = total + 5000 * las
        total.backward()
        if probe is not None:
            self.rows = self.count_rows(probe)
        for tensor in (*self.hidden, *(p for layer in self.layers for p in layer.parameters())):
            tensor.grad = None

    def materialised_loss(self, probe: SupervisionProbe) -> torch.Tensor:
        """The public code's loss: everything min-max scaled, then one reference's keys and the supervised rows."""
        ((_, index, reference),) = probe.items
        maps = self.layers[index].processor.maps  # (1, h, N, M)
        tokens = maps.shape[2]
        rows = self.targets(reference, index)
        target = torch.zeros(tokens, tokens, device=self.device)
        target[rows.query] = rows.values
        scaled = (maps - maps.min()) / (maps.max() - maps.min())
        target = (target - target.min()) / (target.max() - target.min())
        start = reference * tokens
        error = scaled[0, :, :, start : start + tokens][:, rows.query] - target[rows.query]
        return error.square().mean()

    def targets(self, reference: int, index: int):
        batch, grid = self.batch, int(self.hidden[index].shape[1] ** 0.5)
        masks = {
            "query_mask": batch["landmark_mask"],
            "reference_mask": batch["reference_landmark_mask"][:, reference],
        }
        points = batch["landmarks"], batch["reference_landmarks"][:, reference]
        return gaussian_rows(*points, size_px=SIZE_PX, grid=grid, **masks)

    def count_rows(self, probe: SupervisionProbe) -> int:
        return sum(len(self.targets(item.reference, item.layer).query) for item in probe.items)


class MaterialisedProcessor(SharedAttentionProcessor):
    """Shared attention by its definition, with every probability in memory."""

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, reference: ReferenceFeatures, **_) -> torch.Tensor:
        query, key, value = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        features = reference.keys[self.layer], reference.values[self.layer]
        key, value, _ = extend_keys_values(key, value, *features, reference.mask, self.options)
        split = (attn.heads, query.shape[-1] // attn.heads)
        query, key, value = (part.unflatten(-1, split).transpose(1, 2) for part in (query, key, value))
        self.maps = torch.softmax(query @ key.transpose(-2, -1) * split[1] ** -0.5, dim=-1)
        output = (self.maps.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](output))


def landmark_batch(device: str) -> dict[str, Any]:
    """The landmarks of one synthetic person, and what else the loss reads of a batch."""
    photos = [render_face(0, 0, index, 128) for index in range(NUM_REFERENCES + 1)]
    points = torch.tensor([photo.landmarks.tolist() for photo in photos], device=device) * (SIZE_PX / 128)
    visible = torch.tensor([photo.visible.tolist() for photo in photos], device=device)
    return {
        "hq": torch.empty(1, 3, SIZE_PX, SIZE_PX, device=device),
        "references": torch.empty(1, NUM_REFERENCES, 0),
        "reference_mask": torch.ones(1, NUM_REFERENCES, dtype=torch.bool, device=device),
        "landmarks": points[:1],
        "landmark_mask": visible[:1],
        "reference_landmarks": points[None, 1:],
        "reference_landmark_mask": visible[None, 1:],
        "key": ["synthetic"],
    }


def clock(device: str) -> float:
    if device == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def start_of_measurement(device: str) -> None:
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark of the resident size
    else:
        torch.cuda.reset_peak_memory_stats()


def memory(device: str) -> int:
    if device != "cpu":
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024


if __name__ == "__main__":
    main()
