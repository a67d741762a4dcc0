"""The device by name, or the best one that this machine has."""

from __future__ import annotations

import torch

from lit_restore.errors import UserError


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best one that this machine has.

    Raises:
        UserError: there is no such device.
    """
    if name is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            "no such device",
            where=name,
            expected="cpu, cuda or mps",
            found=" ".join(str(error).split(".")[0].split())[:120],
            fix="Leave --device out to take the best there is.",
        ) from None
    return device
