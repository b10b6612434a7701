"""The process of a function, alone in its process group or in a container, and what it prints."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lokki_localstack.runtime_api import Event, Exited, RuntimeApi

_HISTORY_BYTES = 1_000_000


@dataclass(frozen=True)
class Launch:
    """How to start a process; `container` is the name of the container that the command starts, if it starts one."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    container: str = ""


class RuntimeProcess:
    """A run of a function's runtime; `init_ms` is for whoever starts it to say."""

    def __init__(self, launch: Launch) -> None:
        self.api = RuntimeApi()
        self.logs = _LogPipe()
        self.init_ms: float | None = None
        self._container = launch.container
        self._lock = threading.Lock()
        self._exited = threading.Event()
        try:
            self._popen = subprocess.Popen(
                list(launch.command),
                env={**launch.env, "AWS_LAMBDA_RUNTIME_API": self.api.address},
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=self.logs.write_fd,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            self.logs.start()
            self.api.close()
            raise
        self.logs.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def next_event(self, timeout: float) -> Event | None:
        """What the process says next; None if that is nothing in time."""
        try:
            return self.api.events.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None

    def peak_memory_mb(self) -> int | None:
        """The most memory that the process has had, where that can be told."""
        if self._container:
            return None
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self._popen.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return math.ceil(int(line.split()[1]) / 1024)
        return None

    def alive(self) -> bool:
        """Whether the process has not ended."""
        return not self._exited.is_set()

    def kill(self) -> None:
        """End the process and all that it started."""
        with self._lock:
            if self.alive():  # until it is waited for, its number belongs to nobody else
                end(self._popen.pid, self._container)

    def join(self, timeout: float) -> None:
        """Wait until the process has ended."""
        self._exited.wait(timeout)

    def _wait(self) -> None:
        os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            end(self._popen.pid)
            returncode = self._popen.wait()
            self._exited.set()
        if self._container and returncode > 128:
            returncode = 128 - returncode  # so Docker says that a signal ended it
        self.api.events.put(Exited(returncode))
        self.api.close()


def end(pid: int, container: str = "") -> None:
    """Kill a process group, and the container that its leader has started."""
    if container:
        subprocess.run(["docker", "kill", container], capture_output=True, check=False)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class _LogPipe:
    """A pipe for output that can be emptied at a moment.

    What was written before `take` is called is in what it returns, so that the log of a call is whole when its answer
    is there.
    """

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._lock = threading.Lock()
        self._open = True
        self._pending = bytearray()
        self._history = bytearray()

    def start(self) -> None:
        """Begin to read; the end that is written to is now the process's alone."""
        os.close(self.write_fd)
        threading.Thread(target=self._pump, daemon=True).start()

    def take(self) -> str:
        """All that was written since the last time."""
        with self._lock:
            self._drain()
            text = self._pending.decode(errors="replace")
            self._pending.clear()
        return text

    def history(self) -> str:
        """The last that was written, whether it was taken or not."""
        with self._lock:
            return self._history.decode(errors="replace")

    def _pump(self) -> None:
        poller = select.poll()  # select() cannot take descriptors above 1,023
        poller.register(self._read_fd, select.POLLIN)
        while True:
            poller.poll()
            with self._lock:
                self._drain()
                if not self._open:
                    os.close(self._read_fd)
                    return

    def _drain(self) -> None:
        while self._open:
            try:
                data = os.read(self._read_fd, 65536)
            except BlockingIOError:
                return
            self._open = bool(data)
            self._pending += data
            self._history += data
            del self._history[:-_HISTORY_BYTES]
