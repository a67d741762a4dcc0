from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from lit_restore.data.parallel import parallel_map


def slow_square(number: int) -> tuple[int, int, int]:
    time.sleep(0.01 * (number % 3))
    return number**2, os.getpid(), cv2.getNumThreads()


def refuse(number: int) -> int:
    raise ValueError(f"no {number}")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_results_come_in_order(num_workers: int) -> None:
    results = list(parallel_map(slow_square, range(20), num_workers=num_workers, title="squares"))
    assert [square for square, _, _ in results] == [number**2 for number in range(20)]
    assert len({process for _, process, _ in results} - {os.getpid()}) == (2 if num_workers == 2 else 0)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_errors_arrive(num_workers: int) -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(parallel_map(refuse, range(4), num_workers=num_workers, title="refusing"))


@pytest.mark.timeout(60)
def test_works_after_opencv_has_used_threads_in_the_parent() -> None:
    """A live thread pool in the parent made the workers wait for ever."""
    cv2.setNumThreads(2)
    image = np.zeros((512, 512, 3), np.float32)
    grid = np.stack(np.meshgrid(np.arange(512), np.arange(512)), axis=-1).astype(np.float32)
    cv2.remap(image, grid, None, cv2.INTER_LINEAR)
    results = list(parallel_map(slow_square, range(4), num_workers=2, title="squares"))
    assert {threads for _, _, threads in results} == {1}


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\nfrom lit_restore.data.parallel import parallel_map\n"
        "def work(n):\n    open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n    time.sleep(2)\n"
        "if __name__ == '__main__':\n    list(parallel_map(work, range(50), num_workers=2, title='t'))\n"
    )
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen([sys.executable, script, tmp_path / "pids"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "pids").iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    workers = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())
