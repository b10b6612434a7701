"""Pools of threads: no task waits for another one's end, and nothing of a task stays behind."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from lokki.pools import Threads


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_tasks_that_wait_for_each_other_all_run() -> None:
    pool = Threads(100)
    for _ in range(300):
        together = threading.Barrier(3, timeout=20)
        for _ in range(2):
            pool.submit(partial(_meet, together))
        together.wait()  # breaks when one of the two has no thread
    pool.close()


def test_more_tasks_than_workers_all_run() -> None:
    pool, left = Threads(2), threading.Semaphore(0)
    for _ in range(50):
        pool.submit(left.release)
    assert all(left.acquire(timeout=20) for _ in range(50))
    pool.close()


def _meet(barrier: threading.Barrier | None = None, held: object = None) -> None:
    if barrier is not None:
        barrier.wait()


class Large:
    """Something that is to go."""


def test_an_idle_thread_holds_nothing_of_its_last_task() -> None:
    pool, gone = Threads(1), threading.Event()
    large = Large()
    weakref.finalize(large, gone.set)
    pool.submit(partial(_meet, held=large))
    del large
    gc.collect()
    assert gone.wait(20)
    pool.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    pool, done = Threads(4), threading.Event()
    pool.submit(done.set)
    assert done.wait(20)

    def child() -> None:
        here = threading.Event()
        pool.submit(here.set)
        sys.exit(0 if here.wait(10) else 1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    pool.close()
