"""Calls in child processes of this machine, which can be ended: what `config={"isolate": True}` means.

A child runs `worker.py --serve` with this Python, in a process group of its own, and serves one call after the other.
One that is ended takes its own children with it, and one that loses this process ends itself.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from time import monotonic

from twingraph.envelope import pack
from twingraph.errors import ComponentError, PlatformError
from twingraph.placed import Outcome, Placed, Raised
from twingraph.platforms import worker
from twingraph.platforms.serving import Hearing, frame
from twingraph.platforms.sizes import memory_bytes

_MOST = 32
_IDLE = 4
_CHUNK = 1 << 20


class Isolated:
    """Child processes that calls take turns in: `most` at a time, of which up to `idle` are kept for later calls."""

    name = "local"
    options = frozenset({"isolate"})

    def __init__(self, most: int = _MOST, idle: int = _IDLE) -> None:
        self._most = most
        self._keep = idle
        self._idle: list[_Child] = []
        self._count = 0
        self._changed = threading.Condition()
        atexit.register(self.close)

    def check(self) -> str:
        """What it would run on."""
        return f"child processes of Python {sys.version_info[0]}.{sys.version_info[1]}, at most {self._most}"

    def start(self, call: Placed) -> Job:
        """Begin the call, or let it wait for a child."""
        here = json.dumps({"folder": os.getcwd(), "path": sys.path, "memory": _limit(call)}).encode("ascii")
        job = Job(call, here[:-1] + b", " + pack(call)[1:])
        self._begin(job, 0)
        return job

    def poll(self, job: Job, seconds: float) -> Outcome | None:
        """What became of the call."""
        deadline = monotonic() + seconds
        if job.child is None and not self._begin(job, seconds):
            return None
        assert job.child is not None
        return job.child.receive(job, max(deadline - monotonic(), 0))

    def cancel(self, job: Job) -> None:
        """End the child, and all that it started."""
        if job.child is not None:
            job.child.kill()

    def clear(self, job: Job) -> None:
        """Keep the child for later calls, if it is fit for that."""
        child = job.child
        if child is None:
            return
        job.child = None
        with self._changed:
            keep = child.alive and job.hearing.tidy and len(self._idle) < self._keep
            if keep:
                self._idle.append(child)
            else:
                self._count -= 1
            self._changed.notify()
        if not keep:
            child.close()

    def close(self) -> None:
        """End the children that no call has."""
        with self._changed:
            children, self._idle = self._idle, []
            self._count -= len(children)
        for each in children:
            each.close()

    def _begin(self, job: Job, seconds: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._count < self._most, seconds)
            if self._idle:
                job.child = self._idle.pop()
            elif self._count < self._most:
                self._count += 1
            else:
                return False
        if job.child is not None and job.child.begin(job):
            return True
        if job.child is not None:
            job.child.close()
        try:
            job.child = _Child()
        except BaseException:
            with self._changed:
                self._count -= 1
            raise
        if not job.child.begin(job):
            raise PlatformError(f"Component {job.call.component!r}: its process ended before it began.")
        return True


class Job:
    """A call that waits for a child, or runs in one."""

    def __init__(self, call: Placed, body: bytes) -> None:
        self.call = call
        self.body = body
        self.hearing = Hearing(call)
        self.child: _Child | None = None


class _Child:
    """A process that serves."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and our own file
            [sys.executable, worker.__file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._in, self._out, self._log = self._process.stdin, self._process.stdout, self._process.stderr
        self._poll = select.poll()
        for each in (self._out, self._log):
            os.set_blocking(each.fileno(), False)
            self._poll.register(each, select.POLLIN)
        self.alive = True

    def begin(self, job: Job) -> bool:
        """Send the call; False when the process is no longer there."""
        try:
            body = memoryview(frame(job.body))
            while body:
                body = body[self._in.write(body) :]
        except BrokenPipeError:
            self.kill()
            return False
        job.body = b""
        return True

    def receive(self, job: Job, seconds: float) -> Outcome | None:
        """Hear what the process says, until it has answered or so many seconds have passed."""
        deadline = monotonic() + seconds
        while True:
            for file, _ in self._poll.poll(max(deadline - monotonic(), 0) * 1000):
                if not self._hear(file, job):
                    return Raised(self._lost(job))
            if job.hearing.over:
                return job.hearing.outcome()
            if monotonic() >= deadline:
                return None

    def kill(self) -> None:
        """End the process, and all that it started."""
        self.alive = False
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Let the process end."""
        for each in (self._in, self._out, self._log):
            each.close()
        self._process.wait()

    def _hear(self, file: int, job: Job) -> bool:
        """Take what there is; False when the process is gone."""
        try:
            data = os.read(file, _CHUNK)
        except BlockingIOError:
            return True
        if file == self._out.fileno():
            job.hearing.answered(data)
            return bool(data)
        if not data:
            self._poll.unregister(file)
        job.hearing.logged(data)
        return True

    def _lost(self, job: Job) -> PlatformError:
        self._process.wait()
        self.kill()  # what it left behind
        with suppress(BlockingIOError):
            while data := os.read(self._log.fileno(), _CHUNK):
                job.hearing.logged(data)
        job.hearing.close()
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return PlatformError(f"Component {job.call.component!r}: its process {how} before it returned.")


def _limit(call: Placed) -> int:
    told = call.placement.resources.get("memory")
    try:
        return memory_bytes(told) if told else 0
    except ValueError as error:
        raise ComponentError(f"Component {call.component!r}: resources['memory']: {error}") from None
