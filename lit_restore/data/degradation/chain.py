"""Image + record -> degraded image: the only door through which a record becomes pixels (degradations.md 1.2, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_restore.data.degradation import operations, realesrgan
from lit_restore.data.degradation.color import change_color
from lit_restore.data.degradation.diffjpeg import diffjpeg
from lit_restore.data.degradation.kernels import blur_kernel
from lit_restore.data.degradation.versions import check_record
from lit_restore.errors import UserError, nearest


def degrade(image: np.ndarray, record: Mapping[str, Any], *, exact: bool = False) -> np.ndarray:
    """Re-create the degraded image a record describes; the same pixels and record always give the same bits.

    Args:
        image: HQ, uint8 RGB ``(H, W, 3)`` of the size the record was drawn for.
        record: from `Degradation.record`, directly or through JSON.
        exact: refuse records made with other library versions; otherwise the result may differ from the original
            by one 8-bit level in a few pixels (section 6.4).

    Returns:
        LQ, float32 RGB ``(H, W, 3)`` in ``[0, 1]``; on the 8-bit grid where the profile says ``round``.

    Raises:
        UserError: wrong image type or size, or a record that is incomplete or from a later version.
    """
    check_record(record, exact=exact)
    try:
        _check_image(image, tuple(record["out_hw"]))
        lq = operations.to_float(image)
        if "steps" in record:
            return realesrgan.run(lq, record["steps"])
        for stage in record.get("stages", [record]):
            lq = _run_stage(lq, stage)
        return lq
    except KeyError as error:
        raise UserError("incomplete degradation record", expected=f"a field {error}") from error


def _run_stage(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    for step in stage["order"]:
        if step not in _STEPS:
            raise UserError("unknown step in a degradation record", found=step, fix=nearest(step, _STEPS))
        image = _STEPS[step](image, stage)
    if stage["color"]:
        image = change_color(image, stage["color"])
    return operations.to_float(operations.to_uint8(image)) if stage["round"] else image


def _blur(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    kernel = stage["kernel"]
    if kernel is None:
        return image
    given = {key: value for key, value in kernel.items() if value is not None}
    return operations.blur(image, blur_kernel(**given))


def _down(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    return operations.resize(image, stage["down_hw"], antialias=stage["interpolation"]["antialias"])


def _noise(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    noise = stage["noise"]
    if noise is None:
        return image
    field = operations.normal_field(noise["seed"], image.shape[:2], gray=noise["gray"])
    return operations.add_noise(image, field, noise["sigma"])


def _jpeg(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    options = stage["jpeg"]
    if options is None:
        return image
    if options["codec"] == "diffjpeg":
        return diffjpeg(np.clip(image, 0, 1), options["quality"])
    decoded = operations.jpeg(operations.to_uint8(image), options["quality"], channel_order=options["channel_order"])
    return operations.to_float(decoded)


def _up(image: np.ndarray, stage: Mapping[str, Any]) -> np.ndarray:
    return operations.resize(image, stage["out_hw"], antialias=stage["interpolation"]["antialias"])


_STEPS = {"blur": _blur, "down": _down, "noise": _noise, "jpeg": _jpeg, "up": _up}


def _check_image(image: np.ndarray, size_hw: tuple[int, int]) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError("cannot degrade this image", expected="uint8 RGB of shape (H, W, 3)", found=kind)
    if image.shape[:2] != size_hw:
        raise UserError(
            "image and degradation record do not belong together",
            expected=f"{size_hw[0]}x{size_hw[1]} pixels (height x width)",
            found=f"{image.shape[0]}x{image.shape[1]}",
            fix="Draw the record with size_hw of this image.",
        )
