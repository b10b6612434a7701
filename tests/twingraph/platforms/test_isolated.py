"""Calls in child processes of this machine."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.contracts.platform import PlatformContract
from tests.twingraph.calling import Heard, placed
from twingraph.errors import ComponentError, PlatformError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import run
from twingraph.platforms.isolated import Isolated
from twingraph.platforms.sizes import memory_bytes, processors


def workers() -> set[int]:
    """The processes that run a worker for this one."""
    found = set()
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()) and b"worker.py" in (each / "cmdline").read_bytes():
                found.add(int(each.name))
    return found


def started(calls: list[Placed], others: set[int]) -> list[str]:
    """The processes that run a worker for this one but for these others, and those that calls started.

    Those that are about to be gone do not count.
    """
    marks = [f"MARK={mark}".encode() for each in calls if (mark := each.placement.environment.get("MARK"))]
    own, found = workers() - others, []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            worker = int(each.name) in own
            marked = any(mark in (each / "environ").read_bytes() for mark in marks)
            if (worker or marked) and not ends(int(each.name)):
                found.append(f"{each.name} {(each / 'cmdline').read_bytes()!r}")
    return found


def ends(pid: int) -> bool:
    """Whether a process is gone within some seconds."""
    process = os.pidfd_open(pid)
    try:
        return bool(select.select([process], [], [], 10)[0])
    finally:
        os.close(process)


class TestIsolated(PlatformContract):
    enough: ClassVar[float] = 0.3

    @pytest.fixture
    def platform(self) -> Iterator[Isolated]:
        self.others = workers()
        made = Isolated()
        self.made = made
        yield made
        made.close()

    def left(self, calls: list[Placed]) -> list[str]:
        self.made.close()
        return started(calls, self.others)


@pytest.fixture
def isolated() -> Iterator[Isolated]:
    made = Isolated(most=2, idle=1)
    yield made
    made.close()


def test_a_child_serves_call_after_call_in_the_folder_of_its_parent(
    isolated: Isolated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> Any:
        return os.getpid(), os.getcwd(), sys.path

    first = run(isolated, placed(work))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    second = run(isolated, placed(work))
    assert first == (second[0], str(tmp_path), sys.path)
    assert second[1] == str(tmp_path / "other")
    assert first[0] != os.getpid()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os._exit(7), "ended with exit code 7 before it returned"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "was ended by SIGSEGV before it returned"),
    ],
)
def test_a_child_that_dies_says_how_and_the_next_call_has_another(isolated: Isolated, end: Any, words: str) -> None:
    def work() -> None:
        print("last words", end="", flush=True)
        end()

    heard = Heard()
    with pytest.raises(PlatformError, match=f"Component 'work': its process {words}"):
        run(isolated, placed(work, heard=heard))
    assert heard.lines == [("info", "last words")]
    assert run(isolated, placed(lambda: "well")) == "well"


def test_a_child_that_died_between_two_calls_is_replaced(isolated: Isolated) -> None:
    pid = run(isolated, placed(os.getpid))
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert run(isolated, placed(os.getpid)) != pid


def test_a_child_whose_log_was_cut_off_answers_and_is_not_used_again(isolated: Isolated) -> None:
    def work() -> int:
        os.close(2)
        os.close(1)
        return os.getpid()

    assert run(isolated, placed(work)) != run(isolated, placed(os.getpid))


def test_memory_is_limited_where_resources_say_so(isolated: Isolated) -> None:
    def work(size: int) -> int:
        return len(bytearray(size))

    small = Placement(resources={"memory": "200m"})
    with pytest.raises(MemoryError):
        run(isolated, placed(work, 300 * 2**20, place=small))
    assert run(isolated, placed(work, 300 * 2**20)) == 300 * 2**20
    with pytest.raises(ComponentError, match=r"resources\['memory'\]: 'lots' is no amount of memory"):
        run(isolated, placed(work, 1, place=Placement(resources={"memory": "lots"})))


def test_a_child_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, threading\n"
        "from twingraph.placed import Placed\n"
        "from twingraph.placement import Placement\n"
        "from twingraph.platforms.base import run\n"
        "from twingraph.platforms.isolated import Isolated\n"
        "def work():\n"
        "    import os, time\n"
        "    print(os.getpid())\n"
        "    time.sleep(600)\n"
        "def log(level, line):\n"
        "    os.write(1, line.encode())\n"
        "    os.kill(os.getpid(), 9)\n"
        "run(Isolated(), Placed('a', 'r', 'n', 'work', 0, work, (), {}, Placement(), log, print, threading.Event()))\n"
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    child = int(done.stdout)
    assert done.returncode == -signal.SIGKILL
    with suppress(ProcessLookupError):
        assert ends(child)


def test_amounts_are_read_as_people_write_them() -> None:
    assert [memory_bytes(each) for each in ("4G", "4Gi", "4gb", "512m", "1.5k", 7)] == [
        4 * 2**30, 4 * 2**30, 4 * 2**30, 512 * 2**20, 1536, 7,
    ]  # fmt: skip
    assert [processors(each) for each in (2, "1.5", "500m")] == [2, 1.5, 0.5]
    for wrong in ("", "4X", "-1", True, 0):
        with pytest.raises(ValueError, match="is no amount of memory"):
            memory_bytes(wrong)
        with pytest.raises(ValueError, match="is no number of processors"):
            processors(wrong)
