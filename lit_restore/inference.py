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
from typing import Literal

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


@dataclass
class Notes:
    """What a person should know about how a photo was restored."""

    references_used: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


class Restorer:
    """A trained restorer for single photos.

    Args:
        generator: as `lit_restore.models.artifact.load_generator` gives it.
        device: where it runs.
        weights: folder with the face detector's weight files.
        max_references: more references than this are not looked at.
    """

    def __init__(
        self,
        generator: OneStepGenerator,
        *,
        device: str | torch.device | None = None,
        weights: str | Path | None = None,
        max_references: int = 4,
    ) -> None:
        self.device = torch.device(device or best_device())
        self.generator = generator.to(self.device).eval()
        self.size_px = generator.config.size_px
        self.weights = weights
        self.max_references = max_references

    @classmethod
    def from_pretrained(cls, source: str | Path, *, base: str | None = None, **options) -> Restorer:
        """Load a run folder, a model folder or a checkpoint; ``base`` says where the base is if it moved."""
        return cls(load_generator(source, base=base), **options)

    def restore(
        self,
        photo: Photo,
        references: Photo | Sequence[Photo] = (),
        *,
        aligned: Alignment = "auto",
        seed: int = 0,
        notes: Notes | None = None,
    ) -> np.ndarray:
        """Restore one face.

        Args:
            photo: the degraded photo. An unaligned one is cut out and restored in the aligned frame.
            references: photos of the same person, or a folder of them; none is allowed.
            aligned: whether photo and references already are aligned square faces.
            seed: of the noise; the same seed gives the same picture.
            notes: filled with what was used and what was left out.

        Returns:
            uint8 RGB (S, S, 3), S the model's resolution.

        Raises:
            UserError: the photo cannot be read or shows no face, or no reference can be used although some were given.
        """
        notes = notes if notes is not None else Notes()
        face = self._face(photo, aligned, notes)
        images = self._references(references, photo, aligned, notes)
        lq = to_tensor(face)[None].to(self.device)
        stacked = torch.stack([to_tensor(image) for image in images])[None].to(self.device) if images else None
        with torch.inference_mode():
            return to_uint8(self.generator(lq, stacked, draw=fixed_noise(seed, self.device))[0])

    def _references(
        self, references: Photo | Sequence[Photo], photo: Photo, aligned: Alignment, notes: Notes
    ) -> list[np.ndarray]:
        given = list_photos(references)
        faces: list[np.ndarray] = []
        seen = {_content(photo)}
        for reference in given:
            if len(faces) == self.max_references:
                break
            try:
                content = _content(reference)
                if content in seen:
                    raise UserError("the photo itself or a copy of another reference", where=_name(reference))
                seen.add(content)
                faces.append(self._face(reference, aligned, notes))
                notes.references_used.append(_name(reference))
            except UserError as error:
                notes.messages.append(f"reference left out: {error}")
        if given and not faces:
            raise UserError(
                "none of the references can be used",
                found="; ".join(notes.messages),
                fix="Give other photos, or none to restore without references.",
            )
        return faces

    def _face(self, photo: Photo, aligned: Alignment, notes: Notes) -> np.ndarray:
        """The aligned face of a photo, uint8 (S, S, 3)."""
        image = photo if isinstance(photo, np.ndarray) else read_rgb(photo)
        square = image.shape[0] == image.shape[1]
        if aligned == "yes":
            return fit_square(image, self.size_px)
        if aligned == "auto" and square and not self._shows_face(image):
            notes.messages.append(f"{_name(photo)}: taken as an aligned face (no detector, or it sees no face)")
            return fit_square(image, self.size_px)
        return align_face(image, self.size_px, weights=self.weights, device=str(self.device), where=_name(photo)).image

    def _shows_face(self, image: np.ndarray) -> bool:
        at_hand = locate(RETINAFACE, self.weights) is not None
        return at_hand and bool(find_faces(image, weights=self.weights, device=str(self.device)))


def list_photos(photos: Photo | Sequence[Photo]) -> list[Photo]:
    """One photo, several, or the images of a folder in natural order.

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    if isinstance(photos, np.ndarray):
        return [photos]
    if not isinstance(photos, (str, Path)):
        return list(photos)
    path = Path(photos)
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise UserError("no images in folder", where=path, expected=" ".join(IMAGE_SUFFIXES))
    return sorted(files, key=lambda file: natural_key(file.name))


def best_device() -> str:
    """cuda, mps or cpu, whichever this machine has."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator else "cpu"


def _content(photo: Photo) -> str:
    try:
        data = photo.tobytes() if isinstance(photo, np.ndarray) else Path(photo).read_bytes()
    except OSError as error:
        raise UserError("image cannot be read", where=photo, found=(error.strerror or "").lower()) from None
    return hashlib.sha256(data).hexdigest()


def _name(photo: Photo) -> str:
    return "photo" if isinstance(photo, np.ndarray) else str(photo)
