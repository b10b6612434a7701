"""Which process of which machine made a container or a job: what it is marked with, and whether that process is there.

A process is told from a later one with its number by when it began. A machine is where numbers of processes mean the
same: a container has processes of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, Protocol


def machine() -> str:
    """This machine."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def machine_label() -> str:
    """The same, as labels and tags of all platforms take it."""
    return sha256(machine().encode()).hexdigest()[:16]


def owner(pid: int | None = None) -> str:
    """A process, by default this one."""
    pid = os.getpid() if pid is None else pid
    try:
        with open(f"/proc/{pid}/stat") as file:
            return f"{pid}-{file.read().rpartition(')')[2].split()[19]}"
    except OSError:
        return f"{pid}-" if os.path.exists("/proc") else f"{pid}-0"


def is_gone(named: str) -> bool:
    """Whether this process of this machine is no more; where that cannot be known it is taken to be there."""
    pid = named.partition("-")[0]
    return pid.isdigit() and named != owner(int(pid))


class Left(NamedTuple):
    """What is there on a platform, made for a call.

    Attributes:
        machine: the machine of the process that made it, as `machine_label` says it.
        owner: that process.
        run: the execution that it is part of.
        launch: the call's id, where it runs a whole execution; else empty.
    """

    machine: str
    owner: str
    run: str
    launch: str = ""


Orphaned = Callable[[Left], bool]
"""Says whether nobody waits for it any more."""


class Sweeping(Protocol):
    """A platform on which something may be left, when a process is killed."""

    def sweep(self, config: Mapping[str, Any], orphaned: Orphaned) -> None:
        """Remove what is orphaned where calls with this `config=` go."""
