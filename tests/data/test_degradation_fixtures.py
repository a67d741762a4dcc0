"""Every entry of every manifest of reference values, driven by its own operation name and parameters.

``--degradation-fixtures DIR`` (repeatable) checks other folders of the format described in
tests/fixtures/degradations/README.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_restore.data.degradation import PROFILES, Degradation, degrade, realesrgan
from lit_restore.data.degradation import operations as ops
from lit_restore.data.degradation.diffjpeg import diffjpeg
from lit_restore.data.degradation.kernels import blur_kernel
from lit_restore.data.degradation.seeds import derive_words, noise_seed, parameter_uniforms

DEFAULT_FOLDER = Path(__file__).parents[1] / "fixtures" / "degradations"
KERNEL_KEYS = ("family", "size", "sigma_x", "sigma_y", "theta", "beta", "omega", "pad_to")


@dataclass(frozen=True)
class Case:
    """One entry of a manifest and the files around it."""

    folder: Path
    file: str
    entry: dict[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        return _manifest(self.folder)["files"][self.file]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return _arrays(self.folder / self.file)

    @property
    def name(self) -> str:
        label = self.entry.get("key") or self.entry.get("prefix") or self.entry["op"]
        return f"{self.folder.name}/{self.file}:{label}"

    def tolerance(self, default: float) -> float:
        return self.entry.get("tol_abs", self.about.get("tol_abs", default))

    def stage_tolerance(self, stage: str, default: float) -> float:
        value = self.entry.get("tol", {}).get(stage, default)
        return value if isinstance(value, float) else default

    def image(self) -> np.ndarray:
        """The uint8 RGB picture: of this file, or as its manifest says, "[rows a:b, columns c:d of ]FILE:KEY"."""
        for entry in self.about["entries"]:
            if entry.get("op") == "input":
                return self.arrays[entry["key"]]
        where = self.about["input"]
        file, key = re.search(r"([\w.]+\.npz):(\w+)", where).groups()
        image = _arrays(self.folder / file)[key]
        crop = re.search(r"rows (\d+):(\d+), columns (\d+):(\d+)", where)
        if crop is None:
            return image
        top, bottom, left, right = map(int, crop.groups())
        return np.ascontiguousarray(image[top:bottom, left:right])

    def operand(self) -> np.ndarray:
        """Float input of a single operation: another array, or the picture, in the layout of the file."""
        key = self.entry.get("input")
        return self.arrays[key] if key in self.arrays else ops.to_float(self.image()[..., ::-1])


@cache
def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@cache
def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folders = metafunc.config.getoption("degradation_fixtures") or [DEFAULT_FOLDER]
    missing = [str(folder) for folder in folders if not (folder / "manifest.json").is_file()]
    if missing:
        raise pytest.UsageError(f"--degradation-fixtures: no manifest.json in {', '.join(missing)}")
    files = [(folder, file) for folder in folders for file in _manifest(folder)["files"]]
    if "case" in metafunc.fixturenames:
        cases = [
            Case(folder, file, entry) for folder, file in files for entry in _manifest(folder)["files"][file]["entries"]
        ]
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])
    if "fixture_file" in metafunc.fixturenames:
        metafunc.parametrize("fixture_file", files, ids=[f"{folder.name}/{file}" for folder, file in files])
    if "vector" in metafunc.fixturenames:
        vectors = [
            vector
            for folder in folders
            if (folder / "seed_vectors.json").is_file()
            for vector in json.loads((folder / "seed_vectors.json").read_text())["vectors"]
        ]
        metafunc.parametrize("vector", vectors, ids=[f"{v['dataset_seed']}-{v['epoch']}" for v in vectors])


def test_degradation_fixture_files_are_intact(fixture_file: tuple[Path, str]) -> None:
    folder, file = fixture_file
    expected = _manifest(folder)["files"][file]["sha256"]
    assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected


def test_degradation_fixture(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = case.entry
    if "family" in entry:
        check_kernel(case)
    elif entry.get("op") == "second-order chain":
        check_second_order(case, monkeypatch)
    elif "op" in entry:
        OPERATIONS[entry["op"]](case)
    elif "factor" in entry["params"]:
        check_instantrestore(case, monkeypatch)
    else:
        check_diffbir(case, monkeypatch)


def test_degradation_seed_vector(vector: dict[str, Any]) -> None:
    seed, key, epoch = vector["dataset_seed"], vector["sample_key"], vector["epoch"]
    words = derive_words(seed, key, epoch)
    assert list(words) == vector["words"]
    expected = [float.fromhex(value) for value in vector["uniforms_hex"]]
    assert parameter_uniforms(words, len(expected)) == expected
    noise = ops.normal_field(noise_seed(words), (2, 3), gray=False)
    assert np.array_equal(noise.ravel(), np.array(vector["noise_2x3x3_float32"], np.float32))
    for name in PROFILES.keys() & vector.keys():
        record, expected = Degradation(name, seed=seed).record(key, epoch, (512, 512)), vector[name]
        for parameter in ("family", "sigma_x", "sigma_y", "theta"):
            assert record["kernel"][parameter] == expected[parameter]
        assert record["scale"] == expected["scale"]
        assert record["down_hw"] == expected["down_hw_512"]
        assert record["noise"]["sigma"] == expected["noise_sigma"]
        assert record["jpeg"]["quality"] == expected["jpeg_q"]


# --- comparisons -----------------------------------------------------------------------------------------------------


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(np.float64) - expected).max() <= tolerance


def assert_levels(found: np.ndarray, expected: np.ndarray, *, share: float, levels: int) -> None:
    """uint8 arrays that may differ by up to ``levels`` in a ``share`` of the values (rounding ties)."""
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= levels
    assert (difference > 0).mean() <= share


def assert_diffjpeg(found: np.ndarray, expected: np.ndarray) -> None:
    """2e-5 on 95 % of the 8x8 blocks; a coefficient on a rounding tie moves a whole block by up to 2e-2."""
    error = np.abs(found - expected).max(axis=2)
    padded = np.pad(error, ((0, -error.shape[0] % 8), (0, -error.shape[1] % 8)))
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8).max(axis=(1, 3))
    assert (blocks <= 2e-5).mean() >= 0.95
    assert blocks.max() <= 2e-2


# --- single operations -----------------------------------------------------------------------------------------------


def kernel_of(parameters: dict[str, Any]) -> np.ndarray:
    return blur_kernel(**{key: parameters[key] for key in KERNEL_KEYS if parameters.get(key) is not None})


def check_kernel(case: Case) -> None:
    kernel = kernel_of(case.entry)
    assert kernel.shape == (case.entry["out_size"],) * 2
    assert kernel.sum() == pytest.approx(case.entry["sum64"], abs=1e-12)
    assert kernel.max() == pytest.approx(case.entry["max64"], rel=1e-9)
    assert_near(kernel.astype(np.float32), case.arrays[case.entry["key"]], case.tolerance(1e-7))


def check_blur(case: Case) -> None:
    assert case.entry["border"] == "reflect_101"
    kernels = [entry for about in _manifest(case.folder)["files"].values() for entry in about["entries"]]
    kernel = next(entry for entry in kernels if entry.get("key") == case.entry["kernel"] and "family" in entry)
    blurred = ops.blur(case.operand(), kernel_of(kernel))
    assert_near(blurred, case.arrays[case.entry["key"]], case.tolerance(2e-6))


def check_resize(case: Case) -> None:
    operand, size_hw = case.operand(), case.entry["out_hw"]
    if "scale" in case.entry:
        assert [int(side // case.entry["scale"]) for side in operand.shape[:2]] == size_hw
    resized = ops.resize(operand, size_hw)
    if case.entry["key"] not in case.arrays:  # "(input)": nothing may change
        assert np.array_equal(resized, operand)
    else:
        assert_near(resized, case.arrays[case.entry["key"]], case.tolerance(5e-6))


def check_noise(case: Case) -> None:
    field = case.arrays[case.entry["z"]]
    assert (field.ndim == 2) == case.entry["gray"]
    noisy = ops.add_noise(case.operand(), field, case.entry["sigma"])
    assert_near(noisy, case.arrays[case.entry["key"]], case.tolerance(2e-7))


def check_jpeg(case: Case) -> None:
    image = case.image()
    size = re.search(r"\(h,w\) = \((\d+),\s*(\d+)\)", case.entry["input"])
    if size:
        image = ops.to_uint8(ops.resize(ops.to_float(image), [int(side) for side in size.groups()]))
    decoded = np.ascontiguousarray(ops.jpeg(image, case.entry["quality"])[..., ::-1])
    assert np.array_equal(decoded, case.arrays[case.entry["key"]])
    assert hashlib.sha256(decoded.tobytes()).hexdigest() == case.entry["decoded_bgr_sha256"]


def check_input(case: Case) -> None:
    image = case.arrays[case.entry["key"]]
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


def check_usm(case: Case) -> None:
    assert case.entry["border"] == "reflect"
    options = {"radius_px": case.entry["radius"], "weight": case.entry["weight"], "threshold": case.entry["threshold"]}
    sharp = realesrgan.usm_sharpen(ops.to_float(case.image()), **options)
    assert_near(sharp, case.arrays[case.entry["key"]], case.tolerance(2e-6))


def check_diffjpeg(case: Case) -> None:
    assert_diffjpeg(diffjpeg(ops.to_float(case.image()), case.entry["quality"]), case.arrays[case.entry["key"]])


def check_interpolate(case: Case) -> None:
    resized = ops.interpolate(ops.to_float(case.image()), case.entry["mode"], factor=case.entry["scale"])
    assert list(resized.shape[:2]) == case.entry["out_hw"]
    assert_near(resized, case.arrays[case.entry["key"]], case.tolerance(3e-6))


def check_poisson_levels(case: Case) -> None:
    colour = ops.to_float(case.image())
    gray = ops.to_float(ops.to_uint8(realesrgan.luma(colour)))
    for name, image in (("colour", colour), ("gray", gray)):
        assert np.unique(image).size == case.entry[f"unique_values_{name}"]
        assert realesrgan.poisson_levels(image) == case.entry[f"levels_{name}"]


OPERATIONS = {
    "input": check_input,
    "blur": check_blur,
    "down": check_resize,
    "up": check_resize,
    "noise": check_noise,
    "jpeg": check_jpeg,
    "usm": check_usm,
    "diffjpeg(round)": check_diffjpeg,
    "torch interpolate, no antialias, align_corners off": check_interpolate,
    "poisson_levels": check_poisson_levels,
}


# --- chains ----------------------------------------------------------------------------------------------------------


def fixed_record(image: np.ndarray, sigma: float, jpeg: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A record of given parameters; only the noise field comes from elsewhere."""
    record = Degradation("diffbir_face").record("any", 0, image.shape[:2])
    return record | fields | {"noise": record["noise"] | {"sigma": sigma}, "jpeg": record["jpeg"] | jpeg}


def run_until(image: np.ndarray, record: dict[str, Any], num_steps: int) -> np.ndarray:
    return degrade(image, record | {"order": record["order"][:num_steps]})


def use_noise(monkeypatch: pytest.MonkeyPatch, field: np.ndarray) -> None:
    def stored(seed: list[int], size_hw: tuple[int, int], *, gray: bool) -> np.ndarray:
        assert tuple(size_hw) == field.shape[:2]
        return field

    monkeypatch.setattr(ops, "normal_field", stored)


def check_chain(case: Case, record: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    """Every stored stage of a first-order chain; ``expected`` is RGB under the names of chain_diffbir.npz."""
    image = case.image()
    for num_steps, stage in enumerate(("blur", "down", "noisy"), start=1):
        if stage in expected:
            default = 2e-6 if stage == "blur" else 5e-6
            assert_near(run_until(image, record, num_steps), expected[stage], case.stage_tolerance(stage, default))
    decoded = ops.to_uint8(run_until(image, record, 4))
    assert_levels(decoded, expected["jpeg"], share=0.01, levels=2)
    lq = degrade(image, record)
    if "lq_rgb" in expected:
        exact = np.array_equal(decoded, expected["jpeg"])
        assert_near(lq, expected["lq_rgb"], case.stage_tolerance("lq_rgb", 5e-6) if exact else 2 / 255)
    assert_levels(ops.to_uint8(lq), expected["lq_rgb_u8"], share=0.02, levels=1)


def check_diffbir(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    image, prefix, parameters = case.image(), case.entry["prefix"], case.entry["params"]
    assert [int(side // parameters["scale"]) for side in image.shape[:2]] == case.entry["down_hw"]
    stored = {name.removeprefix(f"{prefix}_"): a for name, a in case.arrays.items() if name.startswith(f"{prefix}_")}
    field = stored.pop("z")
    use_noise(monkeypatch, field if field.ndim == 2 else field[..., ::-1])
    record = fixed_record(
        image,
        kernel=parameters["kernel"],
        down_hw=case.entry["down_hw"],
        sigma=parameters["noise_sigma"],
        jpeg={"quality": parameters["jpeg_q"]},
    )
    rgb = {name: array if name.startswith("lq_rgb") else array[..., ::-1] for name, array in stored.items()}
    rgb["jpeg"] = rgb.pop("jpeg_bgr_u8")
    check_chain(case, record, rgb)


def check_instantrestore(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    image, prefix, parameters, arrays = case.image(), case.entry["prefix"], case.entry["params"], case.arrays
    assert [side // parameters["factor"] for side in image.shape[:2]] == case.entry["down_hw"]
    use_noise(monkeypatch, arrays[f"{prefix}_z"])
    for variant, antialias in (("noaa", False), ("aa", True)):
        record = fixed_record(
            image,
            kernel={"family": "aniso", "size": 41, **{key: parameters[key] for key in ("sigma_x", "sigma_y", "theta")}},
            down_hw=case.entry["down_hw"],
            interpolation={"down": "bilinear", "up": "bilinear", "antialias": antialias},
            sigma=parameters["noise"],
            jpeg={"quality": int(parameters["jpeg_q"]), "channel_order": "bgr"},
        )
        names = {
            "blur": f"{prefix}_blur",
            "down": f"{prefix}_{variant}_down",
            "jpeg": f"{prefix}_{variant}_jpeg_u8",
            "lq_rgb": f"{prefix}_{variant}_lq_rgb",
            "lq_rgb_u8": f"{prefix}_{variant}_lq_rgb_u8",
        }
        check_chain(case, record, {stage: arrays[name] for stage, name in names.items() if name in arrays})


def check_second_order(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage given the stored one before it."""
    p, prefix, start = case.entry["params"], case.entry["prefix"], case.arrays[case.entry["start"]]
    stored = {name.removeprefix(f"{prefix}_"): a for name, a in case.arrays.items() if name.startswith(f"{prefix}_")}
    full_hw = case.image().shape[:2]
    small_hw = [side // p["stage2_scale"] for side in full_hw]
    second_hw = [int(side / p["stage2_scale"] * p["scale2"]) for side in full_hw]

    def noise(level: float) -> dict[str, Any]:
        return {"op": "gaussian_noise", "sigma": level, "gray": False, "seed": []}

    assert_near(realesrgan.run(start, [{"op": "blur", **p["k1"]}]), stored["1blur"], 2e-5)
    use_noise(monkeypatch, stored["z1"])
    steps = [{"op": "resize", "mode": p["mode1"], "factor": p["scale1"]}, noise(p["sigma1"])]
    assert_near(realesrgan.run(stored["1blur"], steps), stored["2noisy"], 2e-5)
    assert_diffjpeg(realesrgan.run(stored["2noisy"], [{"op": "diffjpeg", "quality": p["q1"]}]), stored["3jpeg"])
    use_noise(monkeypatch, stored["z2"])
    steps = [{"op": "blur", **p["k2"]}] if p["second_blur"] else []
    steps += [{"op": "resize", "mode": p["mode2"], "size_hw": second_hw}, noise(p["sigma2"])]
    assert_near(realesrgan.run(stored["3jpeg"], steps), stored["4noisy"], 2e-5)
    steps = [{"op": "resize", "mode": p["mode3"], "size_hw": small_hw}, {"op": "blur", **p["ks"]}]
    compress = {"op": "diffjpeg", "quality": p["q2"]}
    steps = [*steps, compress] if p["order"].startswith("resize") else [compress, *steps]
    assert_diffjpeg(realesrgan.run(stored["4noisy"], steps), stored["5stage2"])
    steps = [{"op": "resize", "mode": "bicubic", "size_hw": list(full_hw)}, {"op": "round"}]
    final = ops.to_uint8(realesrgan.run(stored["5stage2"], steps))
    assert_levels(final, stored["lq_rgb_u8"], share=0.01, levels=1)
