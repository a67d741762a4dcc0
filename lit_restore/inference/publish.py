"""A restorer as a folder for others: what was trained and a model card, on this machine or on the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from lit_restore.image import atomic_path
from lit_restore.inference.model_card import model_card, public_name
from lit_restore.models.artifact import PARTS, write_model
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.hub import CARD, upload_model
from lit_restore.models.tensor_file import State


def save_restorer(
    folder: Path, generator: OneStepGenerator, states: Mapping[str, State], *, name: str, licence: str | None
) -> None:
    """Write the model folder, and a model card where there is none yet.

    Args:
        generator: in any form, also folded.
        states: what was trained, as `Adaptation.state_dict` gave it before folding.
        name: what the card calls it.
        licence: as for `model_card`.

    Raises:
        UserError: the folder cannot be written.
    """
    base = public_name(generator.config.base)
    write_model(folder, generator, states, **{"iteration": 0, **generator.origin})
    if not (folder / CARD).exists():
        with atomic_path(folder / CARD) as temporary:
            temporary.write_text(model_card(generator, name, base=base, licence=licence), encoding="utf-8")


def publish_restorer(
    repo_id: str,
    generator: OneStepGenerator,
    states: Mapping[str, State],
    *,
    licence: str | None,
    private: bool | None,
    commit_message: str,
    revision: str | None,
) -> str:
    """The same on the hub, see `upload_model`; paths of this machine stay here."""
    base = public_name(generator.config.base)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        write_model(model, generator, states, base=base, **{"iteration": 0, **generator.origin})
        card = model_card(generator, repo_id, base=base, licence=licence)
        (model / CARD).write_text(card, encoding="utf-8")
        return upload_model(
            model, repo_id, parts=PARTS, private=private, commit_message=commit_message, revision=revision
        )
