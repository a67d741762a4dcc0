"""Pictures of several methods -> a blinded study: trials, their pictures as the page shows them, and the key.

A picture goes by a name drawn from the key's secret and is written anew from its pixels, all methods' in one format, so
that neither names nor order nor what a program left in its files tell who made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch

from lit_restore.data.collate import collate
from lit_restore.errors import UserError, nearest
from lit_restore.evaluation.inputs import EvaluationSet, Unreadable
from lit_restore.evaluation.output_folder import OutputFolder
from lit_restore.evaluation.pictures import RESTORED_NAME
from lit_restore.evaluation.study.key import Key, Trial
from lit_restore.image import to_uint8
from lit_restore.pages.embedded import address

QUESTIONS = {
    "identity": "Which of the two looks more like the person in the reference photos?",
    "quality": "Which of the two is the better picture?",
}
"""Those of InstantRestore's study: whose face it is, and how good the picture is."""


@dataclass(frozen=True)
class Scene:
    """What surrounds a trial's two pictures: names of the degraded input and of the references."""

    degraded: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Everything that goes into the page, and the key.

    Attributes:
        scenes: trial -> what is shown with it.
        pictures: name -> ``data:`` address.
        left_out: photo -> why it is not in the study.
    """

    key: Key
    scenes: Mapping[str, Scene]
    pictures: Mapping[str, str]
    left_out: Mapping[str, str]


def make_study(
    photos: EvaluationSet,
    folders: Mapping[str, str | Path],
    *,
    secret: str,
    questions: Sequence[str] = tuple(QUESTIONS),
    against: str | None = None,
    num_repeats: int | None = None,
) -> Study:
    """Pair the methods' pictures of every photo that all of them have.

    Args:
        folders: method -> its pictures, or a finished evaluation.
        secret: random.
        questions: of `QUESTIONS`.
        against: only pairs with this method; None = every method with every other.
        num_repeats: pairs shown twice to every rater; None = a tenth, at least one if there are two pairs.

    Raises:
        UserError: fewer than two methods, a folder without pictures, no photo left, or too many repeats.
    """
    if len(folders) < 2:
        raise UserError("a comparison needs two methods", found=", ".join(folders) or "none")
    if against is not None and against not in folders:
        raise UserError(f"no method '{against}'", fix=nearest(against, folders))
    size_px = photos.choice.size_px
    outputs = {
        name: OutputFolder(_pictures_of(Path(folder)), photos.targets, size_px=size_px, name=name)
        for name, folder in folders.items()
    }
    pairs = [pair for pair in combinations(folders, 2) if against is None or against in pair]
    pairs = [pair if against in (None, pair[0]) else (pair[1], pair[0]) for pair in pairs]
    trials: dict[str, Trial] = {}
    scenes: dict[str, Scene] = {}
    pictures: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for index, target in enumerate(photos.targets):
        shown = _shown(photos, index, outputs, "identity" in questions)
        if isinstance(shown, str):
            left_out[target.key] = shown
            continue
        names = {kind: _name(secret, target.key, kind) for kind in shown}
        for kind, picture in shown.items():  # what is judged is shown to the last bit
            pictures[names[kind]] = address(to_uint8(picture), lossless=kind in outputs)
        context = [names[kind] for kind in shown if kind not in outputs]
        for pair in pairs:
            trial = _name(secret, target.key, *pair)
            trials[trial] = Trial(target.key, target.identity, {method: names[method] for method in pair})
            scenes[trial] = Scene(context[0], tuple(context[1:]))
    if not trials:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise UserError("no photo can be shown", where=", ".join(map(str, folders.values())), found=reasons)
    most = len(trials) // 2
    repeats = min(most, max(1, round(len(trials) / 10))) if num_repeats is None else num_repeats
    if repeats > most:
        raise UserError("too many repeats", expected=f"at most half of the {len(trials)} pairs", found=repeats)
    key = Key(
        secret=secret,
        methods=tuple(folders),
        questions=tuple(questions),
        num_repeats=repeats,
        trials=trials,
        protocol=photos.protocol | {"methods": {name: output.protocol for name, output in outputs.items()}},
    )
    return Study(key, scenes, pictures, left_out)


def _pictures_of(folder: Path) -> Path:
    """Of an evaluation only the restored photos."""
    return folder / RESTORED_NAME if (folder / "images.csv").is_file() else folder


def _shown(
    photos: EvaluationSet, index: int, outputs: Mapping[str, OutputFolder], need_references: bool
) -> dict[str, torch.Tensor] | str:
    """All pictures of a photo, ``\\0degraded`` and the references before the methods'; or why it cannot be shown."""
    sample = photos[index]
    if isinstance(sample, Unreadable):
        return sample.reason
    if need_references and not len(sample["references"]):
        return "no reference to judge the identity by"
    batch = collate([sample])
    # No method can have a name with this character in it.
    shown = {"\0degraded": sample["lq"]}
    shown |= {f"\0reference {number}": picture for number, picture in enumerate(sample["references"])}
    for name, output in outputs.items():
        [picture] = output(batch)
        if isinstance(picture, UserError):
            return f"{name}: {picture}"
        shown[name] = picture
    return shown


def _name(secret: str, *what: str) -> str:
    return hashlib.sha256("\0".join((secret, *what)).encode()).hexdigest()[:12]
