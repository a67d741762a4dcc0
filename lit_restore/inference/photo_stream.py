"""Reading the next photos and writing the finished ones while the networks work.

Both keep the order, and hold a few photos at most: what waits, read or to be written, is `WAITING_PIXELS` in all, or
one photo that is larger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lit_restore.errors import UserError
from lit_restore.image import open_image
from lit_restore.inference.picture import Picture
from lit_restore.inference.restored import RestoredPhoto
from lit_restore.inference.sources import Photo, read

NUM_THREADS = 2
WAITING_PIXELS = 50_000_000
"""A photo of 50 megapixels takes 150 MB, and as much again once it is restored."""
MOST_WAITING = 16


def read_ahead(photos: Iterable[Photo]) -> Iterator[tuple[Photo, Picture | UserError]]:
    """Every photo with its picture, or why it cannot be read."""
    rest = iter(photos)
    waiting: deque[tuple[Photo, int, Future[Picture | UserError]]] = deque()
    pool = ThreadPoolExecutor(NUM_THREADS, "read")
    try:
        while True:
            while len(waiting) < MOST_WAITING and sum(pixels for _, pixels, _ in waiting) < WAITING_PIXELS:
                photo = next(rest, None)
                if photo is None:
                    break
                waiting.append((photo, _num_pixels(photo), pool.submit(_read, photo)))
            if not waiting:
                return
            photo, _, picture = waiting.popleft()
            yield photo, picture.result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_behind(
    photos: Iterable[tuple[str | Path, RestoredPhoto | UserError]],
) -> Iterator[tuple[str | Path, RestoredPhoto | UserError]]:
    """Save restored photos under their paths; each comes out once its file is whole, with what went wrong if it did.

    On Ctrl-C what was restored by then is still written and comes out before the interrupt does.
    """
    waiting: deque[tuple[str | Path, int, Future[RestoredPhoto | UserError]]] = deque()
    pool = ThreadPoolExecutor(NUM_THREADS, "write")
    try:
        try:
            for path, photo in photos:
                pixels = 0 if isinstance(photo, UserError) else photo.image.shape[0] * photo.image.shape[1]
                waiting.append((path, pixels, pool.submit(_save, path, photo)))
                while waiting and (waiting[0][2].done() or _are_many(waiting)):
                    yield _next(waiting)
        except KeyboardInterrupt:
            yield from _rest(waiting)
            raise
        yield from _rest(waiting)
    finally:
        pool.shutdown()


def _rest(waiting: deque[tuple[str | Path, int, Future]]) -> Iterator[tuple[str | Path, RestoredPhoto | UserError]]:
    while waiting:
        yield _next(waiting)


def _next(waiting: deque[tuple[str | Path, int, Future]]) -> tuple[str | Path, RestoredPhoto | UserError]:
    """Wait for the first; it stays in the queue where that is interrupted."""
    path, _, written = waiting[0]
    result = written.result()
    waiting.popleft()
    return path, result


def _are_many(waiting: deque[tuple[str | Path, int, Future]]) -> bool:
    return len(waiting) > MOST_WAITING or sum(pixels for _, pixels, _ in waiting) > WAITING_PIXELS


def _read(photo: Photo) -> Picture | UserError:
    try:
        return read(photo)
    except UserError as error:
        return error


def _save(path: str | Path, photo: RestoredPhoto | UserError) -> RestoredPhoto | UserError:
    if isinstance(photo, UserError):
        return photo
    try:
        photo.save(path)
    except UserError as error:
        return error
    return photo


def _num_pixels(photo: Photo) -> int:
    """As the file says; 0 of one that cannot be read."""
    if isinstance(photo, np.ndarray):
        return photo.shape[0] * photo.shape[1] if photo.ndim > 1 else 0
    try:
        with open_image(photo) as image:
            return image.width * image.height
    except UserError:
        return 0
