"""What the experimenter keeps: which picture is whose. Its hash names the study, so a changed key fits no answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lit_restore.errors import UserError
from lit_restore.evaluation.protocol import Protocol, plain
from lit_restore.image import atomic_path

FORMAT = "lit_restore study key 1"


@dataclass(frozen=True)
class Trial:
    """One photo by two methods.

    Attributes:
        photo: its key in the data set.
        pictures: method -> name of its picture in the page, in the order of the methods.
    """

    photo: str
    identity: str
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class Key:
    """The key of a study.

    Attributes:
        secret: random; without it the names of pictures cannot be guessed from those of methods and photos.
        questions: asked for every pair.
        num_repeats: pairs that every rater sees twice.
        protocol: photos, degradation and references, and what is known about each method.
    """

    secret: str
    methods: tuple[str, ...]
    questions: tuple[str, ...]
    num_repeats: int
    trials: Mapping[str, Trial]
    protocol: Protocol

    @property
    def study(self) -> str:
        """16 hex digits that change with anything in the key."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Trial -> its two pictures, in an order that says nothing about the methods."""
        return {name: _two(sorted(trial.pictures.values())) for name, trial in self.trials.items()}

    def write(self, path: Path) -> None:
        """As JSON."""
        content = {"format": FORMAT, "study": self.study, **self._content()}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _content(self) -> dict:
        return plain(asdict(self))


def read_key(path: str | Path) -> Key:
    """Read and check a key.

    Raises:
        UserError: missing, not a key, or changed since it was written.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError:
        raise UserError("no such key file", where=path, expected="the key.json that 'study make' wrote") from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise UserError("not the key of a study", where=path, expected="the key.json that 'study make' wrote")
    try:
        study = content.pop("study")
        trials = {name: Trial(**values) for name, values in content.pop("trials").items()}
        methods, questions = tuple(content.pop("methods")), tuple(content.pop("questions"))
        key = Key(methods=methods, questions=questions, trials=trials, **content)
    except (KeyError, TypeError, AttributeError):
        study, key = None, None
    if key is None or key.study != study:
        raise UserError("the key was changed after it was written", where=path, fix="Take the original file.")
    return key


def _two(pictures: list[str]) -> tuple[str, str]:
    first, second = pictures
    return first, second
