"""Reading ahead and writing behind, with files that are read and written when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_restore.errors import UserError
from lit_restore.image import write_image
from lit_restore.inference import photo_stream
from lit_restore.inference.photo_stream import read_ahead, write_behind
from lit_restore.inference.picture import Picture
from lit_restore.inference.report import PhotoReport
from lit_restore.inference.restored import RestoredPhoto


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def grey(value: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


def restored(value: int) -> RestoredPhoto:
    return RestoredPhoto(Picture(grey(value)), PhotoReport(str(value), (8, 8), {}), [], Picture(grey(0)))


def value_of(path: str | Path) -> int:
    return int(np.asarray(Image.open(path))[0, 0, 0])


def test_photos_come_in_order_with_what_is_wrong_with_them() -> None:
    for number in range(5):
        write_image(grey(number), f"{number}.png")
    Path("2.png").write_text("no image")
    names = [Path(f"{number}.png") for number in range(5)]
    out = list(read_ahead([*names, grey(9), "gone.png"]))
    assert [photo for photo, _ in out[:5]] == names
    assert [p.pixels[0, 0, 0] for _, p in out if isinstance(p, Picture)] == [0, 1, 3, 4, 9]
    assert str(out[2][1]).startswith("image cannot be decoded")
    assert str(out[6][1]) == "no such image file: gone.png"


def test_the_next_photo_is_read_while_one_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    read, second = photo_stream.read, threading.Event()

    def noticed(photo: np.ndarray) -> Picture:
        if photo[0, 0, 0] == 1:
            second.set()
        return read(photo)

    monkeypatch.setattr(photo_stream, "read", noticed)
    photos = read_ahead([grey(0), grey(1)])
    next(photos)
    assert second.wait(30)  # the second has been read although nobody asked for it
    assert next(photos)[1].pixels[0, 0, 0] == 1


@pytest.mark.parametrize(("side", "most"), [(8, 4), (5000, 2)])
def test_only_so_many_wait(side: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photos, or 50 megapixels: two of 25."""
    monkeypatch.setattr(photo_stream, "MOST_WAITING", 4)
    asked = 0

    def photos() -> Iterator[np.ndarray]:
        nonlocal asked
        image = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (side, side, 3))
        for _ in range(9):
            asked += 1
            yield image

    for number, _ in enumerate(read_ahead(photos()), start=1):
        assert asked == min(9, number - 1 + most)


def test_a_photo_comes_out_once_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    save, may_write = RestoredPhoto.save, threading.Event()
    saved = []

    def slow(self: RestoredPhoto, path: Path) -> None:
        assert may_write.wait(30)
        save(self, path)
        saved.append(path.name)

    monkeypatch.setattr(RestoredPhoto, "save", slow)
    worked_on = []

    def photos() -> Iterator[tuple[Path, RestoredPhoto | UserError]]:
        for number in range(4):
            worked_on.append(number)
            yield Path(f"{number}.png"), UserError("no face found") if number == 2 else restored(number)
        may_write.set()  # all were worked on before one was written

    names = []
    for path, photo in write_behind(photos()):
        assert path.exists() == (not isinstance(photo, UserError))
        names.append(path.name)
    assert names == ["0.png", "1.png", "2.png", "3.png"]
    assert [value_of(name) for name in ("0.png", "1.png", "3.png")] == [0, 1, 3]


def test_what_cannot_be_written_is_said_and_the_others_go_on() -> None:
    Path("file").touch()
    out = list(write_behind([(Path("file/0.png"), restored(0)), (Path("1.png"), restored(1))]))
    assert str(out[0][1]).startswith("cannot write: file")
    assert isinstance(out[1][1], RestoredPhoto)
    assert value_of("1.png") == 1


def test_an_interrupt_loses_nothing_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    save, interrupted = RestoredPhoto.save, threading.Event()

    def slow(self: RestoredPhoto, path: Path) -> None:
        assert interrupted.wait(30)
        save(self, path)

    monkeypatch.setattr(RestoredPhoto, "save", slow)

    def photos() -> Iterator[tuple[Path, RestoredPhoto]]:
        yield Path("0.png"), restored(0)
        yield Path("1.png"), restored(1)
        interrupted.set()
        raise KeyboardInterrupt

    names = []
    with pytest.raises(KeyboardInterrupt):
        names.extend(path.name for path, _ in write_behind(photos()))
    out = [path.name for path in sorted(Path().iterdir())]
    assert out == ["0.png", "1.png"]
    assert [value_of(name) for name in out] == [0, 1]


def test_an_interrupted_reader_of_the_results_loses_nothing_either(monkeypatch: pytest.MonkeyPatch) -> None:
    results = write_behind((Path(f"{number}.png"), restored(number)) for number in range(3))
    monkeypatch.setattr(photo_stream, "MOST_WAITING", 2)
    next(results)
    results.close()
    assert value_of("0.png") == 0
    assert len(list(Path().iterdir())) >= 1
    assert not list(Path().glob(".*"))
