"""Starts one process at a time and takes what it cost: CPU seconds, the clock, and the most memory it held.

Every process gets a folder of its own, which is also its home and its place for temporary files, so that no
configuration and no earlier run of this machine counts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import IO

_PATIENCE = 900.0  # seconds that one process may take
_QUIET = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "HAMILTON_TELEMETRY_ENABLED": "false",
}


@dataclass(frozen=True)
class Command:
    """A Python process to measure.

    Attributes:
        arguments: what follows the interpreter.
        python: the interpreter.
        stderr: where its standard error goes: "file", or as a reader would have it, "pipe" or "pty".
        again: run it twice in the same folder, the first time to fail; the second time counts.
    """

    arguments: tuple[str, ...]
    python: str = sys.executable
    stderr: str = "file"
    again: bool = False


@dataclass(frozen=True)
class Sample:
    """What a process cost (seconds and MB), and what it said itself."""

    cpu: float
    wall: float
    peak: float
    said: Mapping[str, float] = field(default_factory=dict)


class BenchmarkError(RuntimeError):
    """A measured process failed."""


def measure(command: Command) -> Sample:
    """Run the command once."""
    with tempfile.TemporaryDirectory(prefix="lokki-bench-", ignore_cleanup_errors=True) as folder:
        if command.again:
            _run(command, folder)
        sample, code, output, complaint = _run(command, folder)
    if code:
        last = complaint.strip().splitlines()[-1:] or [f"exit code {code}"]
        raise BenchmarkError(f"{' '.join(command.arguments)}: {last[0]}")
    lines = output.splitlines()
    said = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return Sample(sample.cpu, sample.wall, sample.peak, said)


def wait_for_quiet(seconds: float = 20.0) -> None:
    """Wait until other processes leave the machine alone, but not for ever."""
    for _ in range(int(seconds / 0.5)):
        before = _busy()
        sleep(0.5)
        if _busy() - before < 0.05:
            return


def _run(command: Command, folder: str) -> tuple[Sample, int, str, str]:
    with open(os.path.join(folder, "stdout"), "w+") as out, _standard_error(command.stderr, folder) as (err, told):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = perf_counter()
        process = subprocess.Popen(
            [command.python, *command.arguments],
            cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
        )  # fmt: skip
        limit = threading.Timer(_PATIENCE, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        limit.cancel()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        sample = Sample(spent, seconds, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10))
        return sample, process.returncode, out.read(), told()


def _environment(folder: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOKKI_", "PYTHON", "COV"))}
    state = os.path.join(folder, "state")
    return kept | _QUIET | {"HOME": folder, "TMPDIR": folder, "LOKKI_STATE_DIR": state, "TERM": "xterm"}


@contextmanager
def _standard_error(kind: str, folder: str) -> Iterator[tuple[IO[bytes] | int, Callable[[], str]]]:
    """Where a process writes its standard error, and a function that gives what it wrote, if that is kept."""
    if kind == "file":
        with open(os.path.join(folder, "stderr"), "w+b") as file:
            yield file, lambda: _content(file)
        return
    ours, theirs = os.openpty() if kind == "pty" else os.pipe()
    reader = threading.Thread(target=_read_all, args=(ours,))
    reader.start()
    try:
        yield theirs, str
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _read_all(fd: int) -> None:
    try:
        while os.read(fd, 1 << 16):
            pass
    except OSError:  # how a terminal says that nobody writes to it any more
        return


def _busy() -> float:
    """CPU seconds that this machine has spent, where that can be known."""
    try:
        with open("/proc/stat") as file:
            ticks = [int(each) for each in file.readline().split()[1:]]
    except OSError:
        return 0.0
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")
