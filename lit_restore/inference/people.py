"""A person as a set of photos: which of them show the same one, and what that one looks like to the network.

Nobody says who is who in a folder; the majority does. The photo that most others agree with (cosine above the
threshold) is the centre, those that agree with it are the person, the others are refused by name. Where no two photos
agree, there is no majority, and which of them is right only shows beside a face to restore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lit_restore.errors import UserError
from lit_restore.image import pixels_sha256
from lit_restore.inference.face_cache import FaceCache
from lit_restore.inference.face_quality import detail_px, pose
from lit_restore.inference.found_faces import Alignment, FaceFinder, FacesOfPhoto, FoundFace
from lit_restore.inference.identity import Identity
from lit_restore.inference.sources import Photo, name_of, read, state_of_file


@dataclass(frozen=True, eq=False)
class Candidate:
    """A face that may serve as a reference."""

    name: str
    """Of its photo."""
    content: str
    """What the photo is recognised by."""
    face: FoundFace
    vector: np.ndarray | None
    """(D,) unit vector; None without a recognition network."""
    detail_px: float
    """See `lit_restore.inference.face_quality`."""
    pose: np.ndarray
    agreement: float | None = None
    """Cosine with the person's mean."""


@dataclass
class Person:
    """Somebody whose photos are known."""

    name: str
    candidates: list[Candidate]
    refused: dict[str, str] = field(default_factory=dict)
    """Photo -> why it is not used for anybody."""
    taken_as_aligned: dict[str, str] = field(default_factory=dict)
    """Square photo -> why nobody looked for a face in it."""
    mean: np.ndarray | None = None
    """(D,) unit vector; None without a recognition network, or where no two photos agree."""

    def similarity(self, vector: np.ndarray, photo: str | None = None) -> float:
        """Cosine with the mean, or with the most similar photo where there is none; -1 without any photo.

        Args:
            vector: (D,) of a face.
            photo: the content of the photo it is from, which does not count.
        """
        vectors = [c.vector for c in self.candidates if c.vector is not None and c.content != photo]
        if not vectors:
            return -1.0
        if self.mean is None:
            return max(float(other @ vector) for other in vectors)
        return float(mean_vector(vectors) @ vector)


@dataclass(frozen=True)
class _Seen:
    """What there is in one photo."""

    name: str
    content: str
    found: FacesOfPhoto
    vectors: np.ndarray | None


class PhotoReader:
    """Reads photos of people; every file once, since finding faces takes longer than all the rest.

    Args:
        finder: finds faces.
        identity: tells them apart; None = nobody does.
        cache: keeps what was found for the next process; None = nobody does.
    """

    def __init__(self, finder: FaceFinder, identity: Identity | None, cache: FaceCache | None = None) -> None:
        self.finder, self.identity, self.cache = finder, identity, cache
        self._seen: dict[tuple[object, ...], _Seen | UserError] = {}

    def person(self, name: str, photos: Sequence[Photo], aligned: Alignment = "auto") -> Person:
        """Who the photos show; unreadable ones and ones without a face are refused, not raised."""
        person = Person(name, [])
        crowds: list[_Seen] = []
        for number, photo in enumerate(photos):
            photo_name = f"photo {number}" if isinstance(photo, np.ndarray) else name_of(photo)
            try:
                seen = self._look(photo, photo_name, aligned)
            except UserError as error:
                person.refused[photo_name] = str(error)
                continue
            if seen.found.assumed:
                person.taken_as_aligned[seen.name] = seen.found.assumed
            if not seen.found.faces:
                person.refused[seen.name] = f"no face found: {seen.name}"
            elif any(seen.content == other.content for other in person.candidates):
                person.refused[seen.name] = "a copy of another one"
            elif len(seen.found.faces) > 1:
                crowds.append(seen)
            else:
                person.candidates.append(_candidate(seen, 0))
        if self.identity is not None:
            _keep_majority(person, self.identity.threshold)
        for crowd in crowds:
            self._find_in_crowd(person, crowd)
        return person

    def _look(self, photo: Photo, name: str, aligned: Alignment) -> _Seen:
        state = state_of_file(photo)
        key = None if state is None else (*state, aligned)
        if key is None or key not in self._seen:
            try:
                seen: _Seen | UserError = self._search(photo, name, aligned)
            except UserError as error:
                seen = error
            if key is None:
                return _raised(seen)
            self._seen[key] = seen
        return _raised(self._seen[key])

    def _search(self, photo: Photo, name: str, aligned: Alignment) -> _Seen:
        if self.cache is None or isinstance(photo, np.ndarray):
            return _Seen(name, *self._find(photo, aligned))
        settings = self.finder.settings | {"aligned": aligned, "network": self.identity and self.identity.fingerprint}
        try:
            place = self.cache.place(Path(photo), settings)
        except OSError:
            return _Seen(name, *self._find(photo, aligned))  # which says why it cannot be read
        known = self.cache.load(place)
        if known is None:
            known = self._find(photo, aligned)
            self.cache.save(place, known)
        return _Seen(name, *known)

    def _find(self, photo: Photo, aligned: Alignment) -> tuple[str, FacesOfPhoto, np.ndarray | None]:
        image = read(photo).rgb
        found = self.finder(image, aligned)
        vectors = None
        if self.identity is not None and found.faces:
            vectors = self.identity([face.view for face in found.faces], [face.points5 for face in found.faces])
        return pixels_sha256(image), found, vectors

    def _find_in_crowd(self, person: Person, seen: _Seen) -> None:
        """Of a photo with several faces take the person's, if there is no doubt which it is."""
        count = len(seen.found.faces)
        if person.mean is None or seen.vectors is None or self.identity is None:
            person.refused[seen.name] = f"several faces: {count}; crop it to one"
            return
        similar = seen.vectors @ person.mean
        best = int(similar.argmax())
        if similar[best] < self.identity.threshold:
            needed = f"needed {self.identity.threshold:.2f}"
            person.refused[seen.name] = (
                f"none of its {count} faces is the person (at most {similar[best]:.2f}, {needed})"
            )
            return
        person.candidates.append(_candidate(seen, best, float(similar[best])))


def _raised(seen: _Seen | UserError) -> _Seen:
    if isinstance(seen, UserError):
        raise seen
    return seen


def _candidate(seen: _Seen, index: int, agreement: float | None = None) -> Candidate:
    face = seen.found.faces[index]
    vector = None if seen.vectors is None else seen.vectors[index]
    return Candidate(seen.name, seen.content, face, vector, detail_px(face.view), pose(face.points5), agreement)


def _keep_majority(person: Person, threshold: float) -> None:
    """Refuse photos of somebody else, and compute the mean of those left."""
    if not person.candidates:
        return
    vectors = np.stack([candidate.vector for candidate in person.candidates])
    cosines = vectors @ vectors.T
    agreeing = (cosines >= threshold).sum(axis=1)
    if len(vectors) > 1 and agreeing.max() == 1:
        return  # no two agree: no majority
    centre = max(range(len(vectors)), key=lambda index: (agreeing[index], cosines[index].mean()))
    members = cosines[centre] >= threshold
    person.mean = mean_vector(vectors[members])
    similar = vectors @ person.mean
    kept = []
    for candidate, cosine in zip(person.candidates, similar.tolist(), strict=True):
        if cosine < threshold:
            reason = f"shows somebody else: similarity {cosine:.2f} to the other photos, needed {threshold:.2f}"
            person.refused[candidate.name] = reason
        else:
            kept.append(Candidate(**{**vars(candidate), "agreement": cosine}))
    person.candidates = kept


def mean_vector(vectors: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(N, D) unit vectors -> the unit vector (D,) of their mean."""
    mean = np.mean(vectors, axis=0)
    return mean / np.linalg.norm(mean)
