"""Sweeps of small programs: so many at a time, killed, interrupted, continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_of_programs import events, sweep

from lit_restore.errors import UserError
from lit_restore.experiments.local_sweep import last_lines
from lit_restore.experiments.sweep_folder import SweepFolder

SCRIPT = Path(__file__).with_name("sweep_of_programs.py")


def start(folder: Path, jobs: int, seconds: float, *names: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, str(jobs), str(seconds), *names], stdout=subprocess.PIPE, text=True
    )


def wait_for(folder: Path, *names: str) -> None:
    """Until these programs have started."""
    end = time.monotonic() + 60
    while not all(events(folder, name) for name in names):
        assert time.monotonic() < end
        time.sleep(0.02)


def words(folder: Path, name: str) -> list[str]:
    return [line[0] for line in events(folder, name)]


def states(folder: Path) -> dict[str, str]:
    return {name: record.state for name, record in SweepFolder(folder).records.items()}


def test_so_many_run_at_a_time_with_a_device_each(tmp_path: Path) -> None:
    sweep(tmp_path, 2, 0.3, ["a", "b", "c", "d"], ["0", "1"])
    assert states(tmp_path) == dict.fromkeys("abcd", "finished")
    spans = {name: tuple(float(line[1]) for line in events(tmp_path, name)) for name in "abcd"}
    at_once = {name: [n for n, (begin, end) in spans.items() if begin <= spans[name][0] < end] for name in "abcd"}
    assert max(map(len, at_once.values())) == 2
    for names in at_once.values():
        assert len({events(tmp_path, name)[0][2] for name in names}) == len(names)
    assert [events(tmp_path, name)[0][3] for name in "abcd"] == list("abcd")
    assert last_lines(tmp_path / "b") == "hello from b"


def test_a_failed_run_is_recorded_and_tried_again_alone(tmp_path: Path) -> None:
    told = sweep(tmp_path, 1, 0.0, ["a", "bad", "c"], [])
    assert told == [(event, name) for name, end in (("a", "finished"), ("bad", "failed"), ("c", "finished"))
                    for event in ("started", end)]  # fmt: skip
    assert SweepFolder(tmp_path).records["bad"].exit_code == 1
    assert last_lines(tmp_path / "bad") == "no such thing"
    assert sweep(tmp_path, 1, 0.0, ["a", "bad", "c"], []) == [("started", "bad"), ("failed", "bad")]
    assert [len(events(tmp_path, name)) for name in ("a", "bad", "c")] == [2, 2, 2]


def test_a_killed_sweep_goes_on_without_repeating_what_is_finished(tmp_path: Path) -> None:
    """The run that was at work lives on; the next sweep lets it end before it starts the same command again."""
    process = start(tmp_path, 1, 1.5, "a", "b", "c", "d")
    wait_for(tmp_path, "b")
    process.kill()
    process.communicate()
    assert states(tmp_path) == {"a": "finished", "b": "running"}

    told = sweep(tmp_path, 1, 0.1, ["a", "b", "c", "d"], [])
    assert told[:2] == [("waiting", "b"), ("started", "b")]
    assert states(tmp_path) == dict.fromkeys("abcd", "finished")
    assert words(tmp_path, "a") == ["start", "end"]
    assert words(tmp_path, "b") == ["start", "end", "start", "end"]  # a training would see that it is complete
    assert words(tmp_path, "c") == words(tmp_path, "d") == ["start", "end"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_lets_the_runs_save_and_ends_them(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, 2, 60, "a", "b", "c")
    wait_for(tmp_path, "a", "b")
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert [words(tmp_path, name) for name in "abc"] == [["start", "saved"], ["start", "saved"], []]
    assert states(tmp_path) == {"a": "interrupted", "b": "interrupted"}
    sweep(tmp_path, 2, 0.0, ["a", "b", "c"], [])
    assert states(tmp_path) == dict.fromkeys("abc", "finished")


def test_two_sweeps_do_not_work_in_one_folder(tmp_path: Path) -> None:
    process = start(tmp_path, 1, 60, "a")
    wait_for(tmp_path, "a")
    with pytest.raises(UserError, match="another process is at work on this sweep"):
        sweep(tmp_path, 1, 0.0, ["a"], [])
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"runs": [')
    with pytest.raises(UserError, match=r"damaged record of a sweep: .*sweep.json"):
        SweepFolder(tmp_path)


def test_the_record_is_replaced_as_a_whole(tmp_path: Path) -> None:
    sweep(tmp_path, 1, 0.0, ["a"], [])
    before = os.stat(tmp_path / "sweep.json").st_ino
    SweepFolder(tmp_path).save()
    assert os.stat(tmp_path / "sweep.json").st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".locks", "a", "sweep.json"]
