"""Many small independent jobs over processes, with a progress bar, that stop cleanly on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bar(items: Iterable[Item], total: int, title: str) -> Iterable[Item]:
    """A progress bar that appears only if the work takes longer than a second, and vanishes at the end."""
    return tqdm(items, desc=title, total=total, leave=False, delay=1)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, num_workers: int, title: str
) -> Iterator[Result]:
    """``map(function, items)`` in order.

    Args:
        function: importable (and picklable), independent of global state.
        num_workers: processes; 1 runs in this one.
        title: of the progress bar.
    """
    if num_workers <= 1 or len(items) <= 1:
        yield from bar(map(function, items), len(items), title)
        return
    num_workers = min(num_workers, len(items))
    chunk = max(1, min(16, len(items) // (4 * num_workers)))
    single_threaded_cv2()
    pool = ProcessPoolExecutor(
        num_workers, multiprocessing.get_context(), initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        yield from bar(pool.map(function, items, chunksize=chunk), len(items), title)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def single_threaded_cv2() -> None:
    """Make OpenCV use one thread. To be called *before* processes are forked, too.

    OpenCV's thread pool does not survive a fork: with a live pool in the parent, changing the number of
    threads in the child waits for ever. Once the number is 1 there is no pool, and calling this again does
    nothing.
    """
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)


def _start_worker(parent: int) -> None:
    """One thread per process, Ctrl-C is the parent's business, and no life after the parent's (it may be killed)."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    single_threaded_cv2()
    if "torch" in sys.modules:  # inherited by fork, too late for the variable
        sys.modules["torch"].set_num_threads(1)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
