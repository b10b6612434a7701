"""The engine's end of the processes that run packaged code (`lokki.simulate.sandbox` is theirs)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from secrets import token_hex

from lokki.simulate import sandbox
from lokki.simulate.counting import Tally
from lokki.simulate.sandbox import Message, receive, send

SECRET = "simulated"  # noqa: S105 - nobody checks the signature; the access key is what is hard to guess


class Caller:
    """Who signs requests with an access key: which kind of caller, and on behalf of which execution."""

    def __init__(self, kind: str) -> None:
        self.key = f"AKIA{token_hex(16).upper()}"
        self.kind = kind
        self.tally: Tally | None = None


class Keeper:
    """Starts and ends processes through the keeper of `sandbox.py`, which this starts.

    Args:
        folder: where logs and temporary files of processes lie while they live.
        imports: what those may import that do not say it, `packaged` or `environment`.
        fork: whether the keeper forks, or starts fresh interpreters.
        environment: what every process gets; what AWS sets in the same way and a function may set otherwise is added.
    """

    def __init__(self, folder: str, imports: str, fork: bool, environment: Mapping[str, str]) -> None:
        self._imports = imports
        self._site = installed()
        self.callers: dict[str, Caller] = {}
        self.folder = folder
        self.environment = environment
        self.preset = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "en_US.UTF-8", "TZ": "UTC"}
        self._number = count()
        self._lock = threading.Lock()
        self._talk, theirs = socket.socketpair()
        role = "fork" if fork else "fresh"
        script = [sys.executable, "-I", "-u", "-X", "utf8", sandbox.__file__, role, json.dumps(self._site)]
        self._process = subprocess.Popen(script, stdin=theirs.fileno())  # noqa: S603
        theirs.close()

    def caller(self, kind: str) -> Caller:
        """A new caller, whose requests the engine accepts."""
        caller = Caller(kind)
        self.callers[caller.key] = caller
        return caller

    def start(self, kind: str, start: Message) -> Process:
        """A new process; `start` says what it does."""
        site = self._site if (start["imports"] or self._imports) == "environment" else []
        return Process(
            self, self.caller(kind), {**start, "site": site}, os.path.join(self.folder, str(next(self._number)))
        )

    def begin(self, talk: int, log: int) -> int:
        """Start a process that talks and logs there; its id."""
        number: int = self._ask({"start": True}, [talk, log])["process"]
        return number

    def wait(self, process: int) -> int:
        """How a process ended: its exit status, or the negative number of the signal that ended it."""
        status: int = self._ask({"wait": process}, [])["status"]
        return status

    def close(self) -> None:
        """End every process."""
        with suppress(OSError):
            self._talk.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer
        self._talk.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        self._process.kill()

    def _ask(self, message: Message, descriptors: list[int]) -> Message:
        data = json.dumps(message).encode()
        with self._lock:
            socket.send_fds(self._talk, [len(data).to_bytes(4, "big")], descriptors)
            self._talk.sendall(data)
            answer = receive(self._talk.fileno())
        if answer is None:
            raise ConnectionError("The process that starts functions and jobs has ended.")
        return answer


class Process:
    """A process that runs packaged code, and what the engine holds of it."""

    def __init__(self, keeper: Keeper, caller: Caller, start: Message, folder: str) -> None:
        self.caller = caller
        self.status: int | None = None
        self._keeper = keeper
        self._folder = folder
        self._rest = ""
        self._ending = threading.Lock()
        os.makedirs(folder)
        self._log = _new_log(folder)
        ours, theirs = socket.socketpair()
        self.id = keeper.begin(theirs.fileno(), self._log)
        theirs.close()
        self.talk = ours.detach()
        own = {"HOME": folder, "TMPDIR": folder, **start["environment"], **keeper.environment}
        keys = {"AWS_ACCESS_KEY_ID": caller.key, "AWS_SECRET_ACCESS_KEY": SECRET}
        self.say({**start, "environment": {**keeper.preset, **own, **keys}})

    def say(self, message: Message) -> None:
        """Send a message; that nobody is there to read it shows when its answer is read."""
        with suppress(ConnectionError):
            send(self.talk, message)

    def hear(self, seconds: float) -> Message | None:
        """The next message, None when the process has ended; a TimeoutError when it takes longer."""
        return receive(self.talk, time.monotonic() + seconds)

    def written(self) -> str:
        """What it wrote since this was last asked."""
        with self._ending:
            if self.status is None:
                return self._read()
            rest, self._rest = self._rest, ""
            return rest

    def _read(self) -> str:
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, size, 0)
        os.ftruncate(self._log, 0)
        return text.decode(errors="replace")

    def kill(self) -> None:
        """End it and what it started, now."""
        with self._ending, suppress(ProcessLookupError, PermissionError):
            if self.status is None:
                os.killpg(self.id, signal.SIGKILL)

    def end(self) -> int:
        """Let it end, and wait until it has; how it ended."""
        with self._ending:
            if self.status is None:
                os.close(self.talk)
                self.status = self._keeper.wait(self.id)
                self._keeper.callers.pop(self.caller.key, None)
                self._rest = self._read()
                os.close(self._log)
                shutil.rmtree(self._folder, ignore_errors=True)
            return self.status


def _new_log(folder: str) -> int:
    """A file without a name; whoever writes to it appends."""
    path = os.path.join(folder, "log")
    log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return log


def installed() -> list[str]:
    """The folders that packages are installed to here, first those from which this process has boto3."""
    import boto3

    folders = [os.path.dirname(os.path.dirname(boto3.__file__)), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
