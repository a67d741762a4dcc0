"""The restorer: photo in, photo out.

restorer = Restorer.from_pretrained("runs/quickstart")
restorer.enroll("anna", "photos/anna/")
restorer.restore("group.jpg").save("restored.png")
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_restore.errors import UserError
from lit_restore.inference.device import find_device
from lit_restore.inference.face_cache import FaceCache
from lit_restore.inference.face_restorer import FaceRestorer
from lit_restore.inference.found_faces import Alignment, FaceFinder, FoundFace
from lit_restore.inference.identity import Identity, find_identity
from lit_restore.inference.matching import Match, Strangers, match_faces, several_faces
from lit_restore.inference.paste import PlacedFace, paste_faces
from lit_restore.inference.people import Person, PhotoReader
from lit_restore.inference.picture import Picture
from lit_restore.inference.publish import publish_restorer, save_restorer
from lit_restore.inference.reference_keys import default_cache_folder
from lit_restore.inference.report import FaceReport, PhotoReport
from lit_restore.inference.restored import Choice, RestoredFace, RestoredPhoto, Settings
from lit_restore.inference.sources import Photo, digest, list_photos, name_of, read
from lit_restore.models.artifact import load_generator
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.inference_form import Precision, inference_form
from lit_restore.models.reference_cache import ReferenceCache


class Restorer:
    """A trained restorer for photos.

    Args:
        generator: as `lit_restore.models.artifact.load_generator` gives it. It is changed into
            `lit_restore.models.inference_form` and cannot be trained any more; what was trained is kept for saving.
        device: where it runs; None = the best there is.
        weights: folder with weight files of face detector and recognition network, before the usual ones.
        recognition: as for `load_recognizer`; None = face-reidentification-retail-0095 if its file is at hand, else
            faces are not compared.
        threshold: cosine from which on two faces are one person; None = what was measured for the network.
        max_references: as many are used for a face at most.
        cache: folder for the references' faces, keys and values; True = `default_cache_folder`, False = none.
        precision: of the networks, see `inference_form`.
        compile: hand the networks to ``torch.compile``.

    Attributes:
        identity: the recognition network, None without one.
        no_identity: the error that says what is missing then.
        people: by name, those that were enrolled.
    """

    def __init__(
        self,
        generator: OneStepGenerator,
        *,
        device: str | torch.device | None = None,
        weights: str | Path | None = None,
        recognition: str | Path | None = None,
        threshold: float | None = None,
        max_references: int = 4,
        cache: str | Path | bool = True,
        precision: Precision = "auto",
        compile: bool = False,
    ) -> None:
        self.device = find_device(device)
        self._trained = {part: adaptation.state_dict() for part, adaptation in generator.adaptations.items()}
        self.generator = inference_form(generator, device=self.device, precision=precision, compile=compile)
        self.size_px = generator.config.size_px
        folder = None if cache is False else default_cache_folder() if cache is True else cache
        self.cache = None if folder is None else ReferenceCache(folder)
        self.face_cache = None if folder is None else FaceCache(folder)
        identity = find_identity(recognition, threshold=threshold, weights=weights, device=self.device)
        self.identity = identity if isinstance(identity, Identity) else None
        self.no_identity = None if isinstance(identity, Identity) else identity
        self.finder = FaceFinder(self.size_px, weights, str(self.device))
        self.max_references = max_references
        self.people: dict[str, Person] = {}
        self._reader = PhotoReader(self.finder, self.identity, self.face_cache)
        self._restore_face = FaceRestorer(self.generator, self.identity, self.cache)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, base: str | None = None, **options: Any
    ) -> Restorer:
        """Load a trained restorer.

        Args:
            source: a run folder, a model folder, a checkpoint, or a model on the hub as ``owner/name``; what exists on
                this machine is always a path.
            revision: branch, tag or commit of a model on the hub; ``owner/name@revision`` says the same.
            base: where the base is if it moved.
            options: of the class.

        Raises:
            UserError: as `load_generator`; the options cannot be had here.
        """
        return cls(load_generator(source if revision is None else f"{source}@{revision}", base=base), **options)

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write what was trained as a model folder with a model card; one that is there already is kept.

        Args:
            folder: as `from_pretrained` takes it.
            license: for the card, as the hub writes it, such as "cc-by-nc-4.0".

        Raises:
            UserError: it cannot be written.
        """
        save_restorer(Path(folder), self.generator, self._trained, name=str(folder), licence=license)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Upload a restorer",
        revision: str | None = None,
        license: str | None = None,
    ) -> str:
        """Put the same on the Hugging Face hub, made public unless ``private`` or the account's settings say otherwise.

        Only what was trained goes up, no photo, no cache, no path of this machine. A base that is a folder here is
        named by its last name alone: load with ``base="owner/name"`` before, so that others find it.

        Args:
            repo_id: ``owner/name``.
            private: whether a new repository is; None = as the account does it.
            revision: branch to write to, made if it is not there.
            license: as for `save_pretrained`. A model card that is there already is kept.

        Returns:
            address of the commit.

        Raises:
            UserError: nobody is logged in, may not write there, or the hub cannot be reached.
        """
        return publish_restorer(
            repo_id,
            self.generator,
            self._trained,
            licence=license,
            private=private,
            commit_message=commit_message,
            revision=revision,
        )

    def enroll(self, person: str, photos: Photo | Sequence[Photo], *, aligned: Alignment = "auto") -> Person:
        """Make a person known, by whom faces of later photos are restored.

        Args:
            person: the name; replaces who had it before.
            photos: of that person; a folder, a file, or several. Those that show nobody or somebody else are refused.

        Returns:
            what was understood; ``refused`` says which photos cannot be used and why.

        Raises:
            UserError: no photo can be used, or there is no recognition network to tell several people apart.
        """
        if self.no_identity is not None and set(self.people) - {person}:
            raise self.no_identity
        known = self._reader.person(person, list_photos(photos), aligned)
        if not known.candidates:
            raise _nothing_usable(known.refused, f"none of the photos of {person} can be used")
        self.people[person] = known
        return known

    def restore(
        self,
        photo: Photo,
        references: Photo | Sequence[Photo] = (),
        *,
        aligned: Alignment = "auto",
        crop: bool = False,
        face: Choice = "all",
        strangers: Strangers = "leave",
        trust_references: bool = False,
        strength: float = 1.0,
        fidelity: float = 0.0,
        match_colour: bool = False,
        seed: int = 0,
        max_references: int | None = None,
        attention: bool = False,
    ) -> RestoredPhoto:
        """Restore the faces of a photo.

        Args:
            photo: a file, or uint8 RGB (H, W, 3).
            references: photos of the person to restore, or a folder of them. Without any, faces are matched with the
                people that were enrolled; where there are none either, all are restored without references.
            aligned: whether photo and references already are aligned square faces. Such a photo comes back as a crop of
                the restorer's resolution; any other with its faces pasted in.
            crop: give the restored crop also of a photo that is not aligned; it must be of one face.
            face: "all", "largest" or a number.
            strangers: "leave" or "blind"; see `Strangers`.
            trust_references: use them for the (one) face even if it does not look like them.
            strength: of the references' identity, 0 to 1; see `lit_restore.inference.strength`.
            fidelity: of coarse shapes and colours to the photo, 0 to 1; see `keep_coarse`.
            match_colour: give each face the photo's mean colour and contrast; see `match_colour`.
            seed: of the noise; the same seed gives the same picture.
            max_references: as many are used for a face at most; None = the restorer's number.
            attention: also measure which reference each region draws from; the picture stays the same.

        Raises:
            UserError: the photo cannot be read, shows no face or none that may be restored, or references were given of
                which none can be used.
        """
        started = time.perf_counter()
        limit = self.max_references if max_references is None else max_references
        settings = Settings(
            aligned, crop, face, strangers, trust_references, strength, fidelity, match_colour, seed, limit, attention
        )
        picture = read(photo)
        image = picture.rgb
        report = PhotoReport(name_of(photo), (image.shape[1], image.shape[0]), vars(settings))
        found = self.finder(image, settings.aligned)
        if found.assumed:
            report.taken_as_aligned[report.name] = found.assumed
        numbers = _choose(found.faces, settings.face, report.name)
        faces = [found.faces[number] for number in numbers]
        content = digest(image)
        given = self._given(references, settings.aligned, content)
        if given:
            report.taken_as_aligned |= given.taken_as_aligned
        people = [given] if given else list(self.people.values())
        vectors = self._vectors(faces) if people else None
        matches = self._match(faces, vectors, people, content, settings, certain=given is not None)
        if settings.crop and sum(match.action != "left" for match in matches) > 1:
            raise several_faces(faces)
        restored: list[RestoredFace] = []
        placed: list[PlacedFace] = []
        for index, (number, face, match) in enumerate(zip(numbers, faces, matches, strict=True)):
            if match.action == "left":
                report.faces.append(_left(number, face, match))
                continue
            vector = None if vectors is None else vectors[index]
            one, values = self._restore_face(number, face, vector, match, settings, content)
            report.faces.append(one.report)
            restored.append(one)
            placed.append(PlacedFace(values, face.matrix))
        if not restored:
            raise _nobody(report)
        if found.is_aligned or settings.crop:
            result = Picture(restored[0].after)
        else:
            result = picture.with_pixels(paste_faces(picture.pixels, placed))
        report.seconds = time.perf_counter() - started
        return RestoredPhoto(result, report, restored, picture)

    def _given(self, references: Photo | Sequence[Photo], aligned: Alignment, photo: str) -> Person | None:
        """The person whose photos were given; None without any.

        Raises:
            UserError: none of them can be used.
        """
        photos = list_photos(references)
        if not photos:
            return None
        name = Path(references).resolve().name if isinstance(references, (str, Path)) else "the references"
        person = self._reader.person(name, photos, aligned)
        if not any(candidate.content != photo for candidate in person.candidates):
            itself = {candidate.name: "the photo itself" for candidate in person.candidates}
            raise _nothing_usable({**itself, **person.refused}, "none of the references can be used")
        return person

    def _vectors(self, faces: Sequence[FoundFace]) -> np.ndarray | None:
        if self.identity is None:
            return None
        return self.identity([face.view for face in faces], [face.points5 for face in faces])

    def _match(
        self,
        faces: Sequence[FoundFace],
        vectors: np.ndarray | None,
        people: Sequence[Person],
        content: str,
        settings: Settings,
        certain: bool,
    ) -> list[Match]:
        return match_faces(
            faces,
            vectors,
            people,
            threshold=0.0 if self.identity is None else self.identity.threshold,
            photo=content,
            strangers=settings.strangers,
            certain=certain,
            trust=settings.trust_references and certain,
        )


def _choose(faces: Sequence[FoundFace], choice: Choice, where: str) -> list[int]:
    if not faces:
        raise UserError(
            "no face found",
            where=where,
            fix="Turn the photo upright, crop it closer to the face, or pass an already aligned face.",
        )
    if choice == "all":
        return list(range(len(faces)))
    if choice == "largest":
        return [0]
    if isinstance(choice, int) and 0 <= choice < len(faces):
        return [choice]
    listed = ", ".join(f"{number}: {face.text}" for number, face in enumerate(faces))
    raise UserError(
        "no such face", where=where, expected="'all', 'largest' or a number below", found=f"{choice!r} ({listed})"
    )


def _left(number: int, face: FoundFace, match: Match) -> FaceReport:
    return FaceReport(number, face.box_xyxy, "left", match.reason, similarity_before=match.similarity)


def _nothing_usable(refused: dict[str, str], what: str) -> UserError:
    return UserError(
        what,
        found="; ".join(f"{name}: {reason}" for name, reason in refused.items()),
        fix="Give other photos, or none to restore without references.",
    )


def _nobody(report: PhotoReport) -> UserError:
    more = f" and {len(report.faces) - 6} more" if len(report.faces) > 6 else ""
    return UserError(
        "no face of a known person",
        where=report.name,
        found="; ".join(f"face {face.number}: {face.reason}" for face in report.faces[:6]) + more,
        fix="--strangers blind restores faces of others without references.",
    )
