"""The restorer: photo in, photo out.

restorer = Restorer.from_pretrained("runs/quickstart")
restorer.enroll("anna", "photos/anna/")
restorer.restore("group.jpg").save("restored.png")
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from lit_restore.errors import UserError
from lit_restore.inference.device import find_device
from lit_restore.inference.face_batches import FaceBatches, default_batch
from lit_restore.inference.face_cache import FaceCache
from lit_restore.inference.face_restorer import FaceRestorer
from lit_restore.inference.found_faces import Alignment, FaceFinder
from lit_restore.inference.identity import Identity, find_identity
from lit_restore.inference.matching import Strangers
from lit_restore.inference.people import Person, PhotoReader
from lit_restore.inference.photo_restorer import PhotoRestorer, PhotoWork, nothing_usable
from lit_restore.inference.photo_stream import WAITING_PIXELS, read_ahead
from lit_restore.inference.picture import Picture
from lit_restore.inference.publish import publish_restorer, save_restorer
from lit_restore.inference.reference_keys import default_cache_folder
from lit_restore.inference.restored import Choice, RestoredPhoto, Settings
from lit_restore.inference.sources import Photo, list_photos, name_of, read
from lit_restore.models.artifact import load_generator
from lit_restore.models.generator import OneStepGenerator
from lit_restore.models.inference_form import Precision, inference_form
from lit_restore.models.reference_cache import ReferenceCache

LowMemory = Literal["slices", "tiles"]


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
        batch: faces at once, of one photo or of several (`restore_many`); None = `default_batch`.
        compile: hand the networks to ``torch.compile``: faster passes after minutes of waiting for the first.
        low_memory: "slices" encodes and decodes the faces of a batch one by one, which gives the same; "tiles" also
            cuts each into overlapping parts, which needs much less memory and gives nearly the same.

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
        batch: int | None = None,
        compile: bool = False,
        low_memory: LowMemory | None = None,
    ) -> None:
        self.device = find_device(device)
        self._trained = {part: adaptation.state_dict() for part, adaptation in generator.adaptations.items()}
        self.generator = inference_form(
            generator,
            device=self.device,
            precision=precision,
            compile=compile,
            vae_slicing=low_memory is not None,
            vae_tiling=low_memory == "tiles",
        )
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
        self._photos = PhotoRestorer(self.finder, self.identity, FaceRestorer(self.identity))
        self._batches = FaceBatches(self.generator, self.cache, batch or default_batch(self.device))

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
            raise nothing_usable(known.refused, f"none of the photos of {person} can be used")
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
        settings = self._settings(
            aligned=aligned,
            crop=crop,
            face=face,
            strangers=strangers,
            trust_references=trust_references,
            strength=strength,
            fidelity=fidelity,
            match_colour=match_colour,
            seed=seed,
            max_references=max_references,
            attention=attention,
        )
        picture = read(photo)
        work = self._photos.plan(
            name_of(photo), picture, self._given(references, settings), list(self.people.values()), settings
        )
        self._batches(work.to_restore)
        restored = self._photos.finish(work)
        restored.report.seconds = time.perf_counter() - started
        return restored

    def restore_many(
        self, photos: Iterable[Photo], references: Photo | Sequence[Photo] = (), **settings: Any
    ) -> Iterator[tuple[Photo, RestoredPhoto | UserError]]:
        """Restore many photos, faces of several of them at a time, while the next ones are read.

        Args:
            photos: of any number; a few are looked at ahead of what has come out.
            references, settings: as for `restore`, for all of them.

        Yields:
            in order, every photo with what became of it, or with why nothing did. That of a batch of one face is to the
            bit what `restore` gives.

        Raises:
            UserError: the references are not there.
        """
        chosen = self._settings(**settings)
        given = self._given(references, chosen)
        waiting: list[tuple[Photo, PhotoWork | UserError]] = []
        for photo, picture in read_ahead(photos):
            waiting.append((photo, self._planned(photo, picture, given, chosen)))
            works = [work for _, work in waiting if isinstance(work, PhotoWork)]
            num_pixels = sum(work.picture.pixels[..., 0].size for work in works)
            if sum(len(work.to_restore) for work in works) >= self._batches.size or num_pixels >= WAITING_PIXELS:
                yield from self._finished(waiting)
                waiting = []
        yield from self._finished(waiting)

    def _planned(
        self, photo: Photo, picture: Picture | UserError, given: Person | None, settings: Settings
    ) -> PhotoWork | UserError:
        if isinstance(picture, UserError):
            return picture
        try:
            return self._photos.plan(name_of(photo), picture, given, list(self.people.values()), settings)
        except UserError as error:
            return error

    def _finished(
        self, waiting: Sequence[tuple[Photo, PhotoWork | UserError]]
    ) -> Iterator[tuple[Photo, RestoredPhoto | UserError]]:
        works = [work for _, work in waiting if isinstance(work, PhotoWork)]
        failure = None
        try:
            self._batches([face for work in works for face in work.to_restore])
        except UserError as error:
            failure = error
        for photo, work in waiting:
            yield photo, work if isinstance(work, UserError) else failure or self._photos.finish(work)

    def _settings(self, **values: Any) -> Settings:
        settings = Settings(**values)
        return replace(settings, max_references=self.max_references) if settings.max_references is None else settings

    def _given(self, references: Photo | Sequence[Photo], settings: Settings) -> Person | None:
        """The person whose photos were given; None without any."""
        photos = list_photos(references)
        if not photos:
            return None
        name = Path(references).resolve().name if isinstance(references, (str, Path)) else "the person"
        return self._reader.person(name, photos, settings.aligned)
