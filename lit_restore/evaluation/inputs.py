"""What every method is given: the same 8-bit degraded photos and references, and what has to be said about them.

The degraded input is brought to 8 bits, like the files that `prepare --degrade` writes, so that a network of ours, a
baseline and a program that reads files all start from the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from torch.utils.data import Dataset

from lit_restore.data.collate import collate
from lit_restore.data.datamodule import DEFAULT_PEOPLE, RestorationDataModule
from lit_restore.data.dataset import RestorationDataset
from lit_restore.data.manifest import Manifest, Photo, Split
from lit_restore.data.synthetic_folder import LANDMARKS_NAME, SyntheticPeople
from lit_restore.errors import UserError, nearest
from lit_restore.evaluation.protocol import Protocol, hash_files, hash_texts
from lit_restore.image import to_tensor, to_uint8
from lit_restore.types import RestorationBatch

EvaluatedSplit = Literal["train", "val", "test", "all"]
SPLITS: tuple[EvaluatedSplit, ...] = ("train", "val", "test", "all")


@dataclass(frozen=True)
class InputChoice:
    """Which photos, degraded how, with how many references.

    Attributes:
        root: folders of photos; empty = synthetic people.
        split: one of `SPLITS`; ``all`` is everybody.
        people: how people are divided; None = as the prepared folder says, else 10 % validation, 10 % test.
        profile: of the degradation; without effect where the data set has fixed degraded files.
        limit: only so many photos, first one of every person, then the second of every person, ...
    """

    root: tuple[str, ...] = ()
    layout: str = "auto"
    synthetic: SyntheticPeople = DEFAULT_PEOPLE
    size_px: int = 512
    split: EvaluatedSplit = "test"
    people: Split | None = None
    profile: str = "diffbir_face"
    profile_overrides: Mapping[str, Any] | None = None
    scale_profile: bool = False
    seed: int = 0
    num_references: int = 4
    limit: int | None = None
    cache_dir: str = "data/cache"

    @property
    def name(self) -> str:
        """Of the data, short: the folder's name, or ``synthetic``."""
        return "+".join(Path(root).absolute().name for root in self.root) or "synthetic"


def choice_of_run(config: str | Path) -> InputChoice:
    """The data a run was trained with, from the ``config.yaml`` of its folder (or the folder itself).

    Raises:
        UserError: there is no such file or no ``data`` in it.
    """
    config = Path(config)
    config = config / "config.yaml" if config.is_dir() else config
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]
        split, people = values["split"], values["synthetic"]
        return InputChoice(
            root=_roots(values["root"]),
            layout=values["layout"],
            synthetic=SyntheticPeople(**people),
            size_px=values["size_px"],
            people=None if split is None else Split(**split),
            profile=values["degradation"],
            profile_overrides=values["degradation_overrides"],
            scale_profile=values["scale_degradation"],
            seed=values["seed"],
            num_references=values["max_references"],
            cache_dir=values["cache_dir"],
        )
    except OSError:
        raise UserError("no such configuration", where=config, expected="the config.yaml of a run folder") from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            "the configuration does not say which data",
            where=config,
            expected="the config.yaml that 'lit_restore fit' writes into its run folder",
            found=" ".join(str(error).split())[:100],
        ) from None


@dataclass(frozen=True)
class Unreadable:
    """A photo that cannot be made into a sample, and why."""

    key: str
    identity: str
    reason: str


class EvaluationSet(Dataset):
    """The photos of an `InputChoice`, each a sample as in `RestorationDataset` or an `Unreadable`.

    Raises:
        UserError: the data cannot be found or read, or the split is empty.
    """

    def __init__(self, choice: InputChoice) -> None:
        self.choice = choice
        module = RestorationDataModule(
            root=list(choice.root) or None,
            layout=choice.layout,
            synthetic=choice.synthetic,
            size_px=choice.size_px,
            degradation=choice.profile,
            degradation_overrides=None if choice.profile_overrides is None else dict(choice.profile_overrides),
            scale_degradation=choice.scale_profile,
            split=choice.people,
            seed=choice.seed,
            landmarks=False,  # those of training people are none of our business
            cache_dir=choice.cache_dir,
        )
        module.prepare_data()
        module.setup()
        assert module.manifest is not None
        self.folder = module.folder
        manifest, split = _chosen(module.manifest, choice.split)
        landmarks = module.folder / LANDMARKS_NAME
        self.dataset = RestorationDataset(
            manifest,
            split,
            size_px=choice.size_px,
            degradation=module.degradation,
            max_references=choice.num_references,
            seed=choice.seed,
            landmarks=landmarks if landmarks.is_dir() else None,
        )
        if not self.dataset.targets:
            raise UserError(
                f"no photos in split '{choice.split}'",
                where=module.folder,
                found=f"people in {', '.join(sorted({p.split for p in module.manifest.photos}))}",
                fix="Choose another --split; 'all' takes everybody.",
            )
        self.targets: Sequence[Photo] = self.dataset.targets[: choice.limit]
        self.num_skipped = len(manifest.skipped)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> dict[str, Any] | Unreadable:
        try:
            sample = self.dataset[index]
        except UserError as error:
            target = self.targets[index]
            return Unreadable(target.key, target.identity, str(error))
        return sample | {"lq": to_tensor(to_uint8(sample["lq"]))}

    @property
    def num_people(self) -> int:
        return len({target.identity for target in self.targets})

    @cached_property
    def protocol(self) -> Protocol:
        """The sections ``data``, ``degradation``, ``references`` and ``image`` of the protocol."""
        choice, degradation = self.choice, self.dataset.degradation
        references = [self.dataset.references(target) for target in self.targets]
        photos = [photo for target, others in zip(self.targets, references, strict=True) for photo in (target, *others)]
        fixed = [target for target in self.targets if target.lq is not None]
        real = [target for target in self.targets if target.role == "lq"]
        sources: Protocol = {}
        if fixed:
            sources["fixed_files"] = {"photos": len(fixed), "sha256": hash_files(str(target.lq) for target in fixed)}
        if real:
            sources["real"] = {"photos": len(real)}
        if len(fixed) + len(real) < len(self.targets):
            sources |= {
                "profile": choice.profile,
                "changed": dict(choice.profile_overrides or {}),
                "scaled_to_resolution": choice.scale_profile,
                "seed": degradation.seed,
            }
        return {
            "data": {
                "name": choice.name,
                "manifest_sha256": hash_texts(f"{p.key} {p.identity} {p.role} {p.sha256}" for p in photos),
                "split": choice.split,
                "photos": len(self.targets),
                "people": self.num_people,
                "only_the_first": choice.limit is not None and choice.limit < len(self.dataset.targets),
                "skipped_when_read": self.num_skipped,
            },
            "degradation": sources,
            "references": {
                "at_most": choice.num_references,
                "used_on_average": sum(map(len, references)) / len(references),
                "choice": "the first in natural order of their names, never the photo itself",
            },
            "image": {
                "size_px": choice.size_px,
                "preparation": "shorter side scaled (Lanczos), centre crop",
                "colour": "RGB",
                "input": "8 bits",
                "output": "8 bits, measured in [0, 1]",
            },
        }


def collate_readable(
    samples: Sequence[dict[str, Any] | Unreadable],
) -> tuple[RestorationBatch | None, list[Unreadable]]:
    """The samples as a batch (None if there is none), and the unreadable ones."""
    readable = [sample for sample in samples if not isinstance(sample, Unreadable)]
    return (
        collate(readable) if readable else None,
        [sample for sample in samples if isinstance(sample, Unreadable)],
    )


def with_options(choice: InputChoice, options: Mapping[str, Any]) -> InputChoice:
    """``choice`` with some values replaced; None leaves a value as it is.

    Raises:
        UserError: a key is unknown.
    """
    known = {field.name for field in fields(InputChoice)}
    for key in options:
        if key not in known:
            raise UserError(f"unknown data option '{key}'", fix=nearest(key, known))
    return replace(choice, **{key: value for key, value in options.items() if value is not None})


def _chosen(manifest: Manifest, split: EvaluatedSplit) -> tuple[Manifest, str]:
    if split != "all":
        return manifest, split
    return replace(manifest, photos=tuple(replace(photo, split="test") for photo in manifest.photos)), "test"


def _roots(root: str | list[str] | None) -> tuple[str, ...]:
    return () if root is None else (root,) if isinstance(root, str) else tuple(root)
