"""From photos to a restored face: what ``lit_restore restore`` and a notebook both call.

restorer = Restorer.from_pretrained("runs/quickstart")
restored = restorer.restore("degraded.png", references="person/")
write_image(restored, "restored.png")
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lit_restore.data.photo_files import natural_key
from lit_restore.errors import UserError
from lit_restore.faces.detect import align_face, find_faces
from lit_restore.faces.weights import RETINAFACE, locate
from lit_restore.image import IMAGE_SUFFIXES, fit_square, read_rgb, to_tensor, to_uint8
from lit_restore.models.artifact import load_generator
from lit_restore.models.generator import OneStepGenerator, fixed_noise

Photo = str | Path | np.ndarray
"""A file, or uint8 RGB (H, W, 3)."""
Alignment = Literal["auto", "yes", "no"]
"""Whether photos are already aligned faces; ``auto`` finds out."""
Choice = Literal["only", "largest"] | int
"""Which face of a photo: ``only`` refuses several; a number as in that refusal."""


@dataclass
class Notes:
    """What a person should know about how photos were restored."""

    references_used: list[str] = field(default_factory=list)
    references_left_out: dict[str, str] = field(default_factory=dict)
    """Reference -> why."""
    taken_as_aligned: dict[str, str] = field(default_factory=dict)
    """Square photo -> why nobody looked for a face in it."""


class Restorer:
    """A trained restorer for single photos.

    Args:
        generator: as `lit_restore.models.artifact.load_generator` gives it.
        device: where it runs; None = the best there is.
        weights: folder with the face detector's weight files.
        max_references: once so many can be used, the others are not looked at.
    """

    def __init__(
        self,
        generator: OneStepGenerator,
        *,
        device: str | torch.device | None = None,
        weights: str | Path | None = None,
        max_references: int = 4,
    ) -> None:
        self.device = find_device(device)
        self.generator = generator.to(self.device).eval()
        self.size_px = generator.config.size_px
        self.weights = weights
        self.max_references = max_references
        self._found: dict[tuple[object, ...], _Reference] = {}

    @classmethod
    def from_pretrained(cls, source: str | Path, *, base: str | None = None, **options: Any) -> Restorer:
        """Load a run folder, a model folder or a checkpoint; ``base`` says where the base is if it moved."""
        return cls(load_generator(source, base=base), **options)

    def restore(
        self,
        photo: Photo,
        references: Photo | Sequence[Photo] = (),
        *,
        aligned: Alignment = "auto",
        face: Choice = "only",
        seed: int = 0,
        notes: Notes | None = None,
    ) -> np.ndarray:
        """Restore one face.

        Args:
            photo: the degraded photo. An unaligned one is cut out and restored in the aligned frame.
            references: photos of the same person, or a folder of them; none is allowed.
            aligned: whether photo and references already are aligned square faces.
            face: which face of ``photo``, if there are several; references must show one.
            seed: of the noise; the same seed gives the same picture.
            notes: filled with what was used and what was left out.

        Returns:
            uint8 RGB (S, S, 3), S the model's resolution.

        Raises:
            UserError: the photo cannot be read or shows no face, or no reference can be used although some were given.
        """
        notes = notes if notes is not None else Notes()
        image = _read(photo)
        lq = to_tensor(self._face(image, _name(photo), aligned, face, notes))[None].to(self.device)
        faces = self._references(list_photos(references), _content(image), aligned, notes)
        stacked = torch.stack([to_tensor(one) for one in faces])[None].to(self.device) if faces else None
        with torch.inference_mode():
            return to_uint8(self.generator(lq, stacked, draw=fixed_noise(seed, self.device))[0])

    def _references(self, given: list[Photo], photo: str, aligned: Alignment, notes: Notes) -> list[np.ndarray]:
        """The first usable ones; never the photo itself, never the same picture twice."""
        faces: list[np.ndarray] = []
        left_out: dict[str, str] = {}
        seen = {photo: "the photo itself"}
        for reference in given:
            if len(faces) == self.max_references:
                break
            found = self._reference(reference, aligned)
            if found.content in seen:
                left_out[_name(reference)] = seen[found.content]
            elif found.face is None:
                left_out[_name(reference)] = found.problem
            else:
                seen[found.content] = "a copy of another one"
                faces.append(found.face)
                notes.references_used.append(_name(reference))
                notes.taken_as_aligned |= found.taken_as_aligned
        notes.references_left_out |= left_out
        if given and not faces:
            raise UserError(
                "none of the references can be used",
                found="; ".join(f"{name}: {reason}" for name, reason in left_out.items()),
                fix="Give other photos, or none to restore without references.",
            )
        return faces

    def _reference(self, reference: Photo, aligned: Alignment) -> _Reference:
        """A reference's face; found once for all photos of a folder, since detection takes longer than the rest."""
        key = _state_of_file(reference, aligned)
        if key not in self._found:
            content, notes = None, Notes()
            try:
                image = _read(reference)
                content = _content(image)
                face = self._face(image, _name(reference), aligned, "only", notes)
                found = _Reference(content, face, taken_as_aligned=notes.taken_as_aligned)
            except UserError as error:
                found = _Reference(content, None, str(error))
            if key is None:
                return found
            self._found[key] = found
        return self._found[key]

    def _face(self, image: np.ndarray, name: str, aligned: Alignment, choose: Choice, notes: Notes) -> np.ndarray:
        """The aligned face of a photo, uint8 (S, S, 3)."""
        if aligned == "yes":
            return fit_square(image, self.size_px)
        if aligned == "auto" and image.shape[0] == image.shape[1]:
            reason = self._why_no_face(image)
            if reason:
                notes.taken_as_aligned[name] = reason
                return fit_square(image, self.size_px)
        device = str(self.device)
        return align_face(image, self.size_px, choose=choose, weights=self.weights, device=device, where=name).image

    def _why_no_face(self, image: np.ndarray) -> str | None:
        if locate(RETINAFACE, self.weights) is None:
            return "no face detector is at hand"
        seen = find_faces(image, weights=self.weights, device=str(self.device))
        return None if seen else "the face detector sees none in them"


@dataclass(frozen=True)
class _Reference:
    content: str | None
    """What the picture is recognised by; None = unreadable."""
    face: np.ndarray | None
    problem: str = ""
    taken_as_aligned: dict[str, str] = field(default_factory=dict)


def list_photos(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo, several, or the images of a folder in natural order.

    Raises:
        UserError: the file or folder does not exist, or the folder holds no image.
    """
    if isinstance(photos, np.ndarray):
        return [photos]
    if not isinstance(photos, (str, Path)):
        return list(photos)
    path = Path(photos)
    if not path.exists():
        raise UserError("no such photo or folder", where=path)
    if not path.is_dir():
        return [path]
    # Names with a leading dot are what some systems put beside every photo.
    files = [f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]
    if not files:
        raise UserError("no images in folder", where=path, expected=" ".join(IMAGE_SUFFIXES))
    return sorted(files, key=lambda file: natural_key(file.name))


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


def _read(photo: Photo) -> np.ndarray:
    if not isinstance(photo, np.ndarray):
        return read_rgb(photo)
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise UserError("not a photo", expected="uint8 (height, width, 3), RGB", found=f"{photo.dtype} {photo.shape}")
    return photo


def _content(image: np.ndarray) -> str:
    """Equal for equal pixels, whatever file they come from."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _state_of_file(photo: Photo, *more: object) -> tuple[object, ...] | None:
    """Changes when the file changes; None for arrays and files that are not there."""
    try:
        status = Path(photo).stat()
    except (TypeError, OSError):
        return None
    return (str(photo), status.st_mtime_ns, status.st_size, *more)


def _name(photo: Photo) -> str:
    return "photo" if isinstance(photo, np.ndarray) else str(photo)
