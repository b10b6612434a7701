"""An execution that runs, as whoever looks after it sees it: what it tells, how it is ended, and how it ended."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod

from twingraph.server.channel import Channel, Message

GRACE = 5.0
"""Seconds that an execution which is ended has to clean up."""


class Running(ABC):
    """An execution that runs.

    Attributes:
        claim: the name that it is claimed by.
        ticket: what its claim ends with, where it is a job of its own.
        progress: how far it was when it told of that last.
        said_over: whether it told of its end.
        silent: whether it will tell nothing more.
        stopping: whether it was asked to end.
        let_go: whether it ends without a word, and others decide what becomes of it.
        kill_at: when it is ended, on the monotonic clock.
        grace: seconds that it has to end by itself.
        code: how its process ended; None as long as that is not known.
    """

    grace = GRACE
    ticket = ""

    def __init__(self, execution: str, claim: str, channel: Channel) -> None:
        self.execution = execution
        self.claim = claim
        self.channel = channel
        channel.socket.setblocking(False)
        self.progress: dict[str, int] = {}
        self.said_over = False
        self.silent = False
        self.stopping = False
        self.let_go = False
        self.kill_at = float("inf")
        self.code: int | None = None

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether there is anything that may have begun to run it."""

    def hear(self) -> list[Message]:
        """What it tells."""
        try:
            messages = self.channel.receive()
        except BlockingIOError:
            return []
        self.silent = messages is None
        return messages or []

    @abstractmethod
    def stop(self) -> None:
        """Ask it to end."""

    @abstractmethod
    def kill(self) -> None:
        """End it, and all that it started."""

    def is_lost(self) -> bool:
        """Whether nobody runs it any more, now that it has ended without telling of the execution's end."""
        return True

    def why(self) -> str:
        """How it ended, if it did so before the execution was over."""
        code = self.code or 0
        if code >= 0:
            return f"Its process ended with exit code {code} before the execution did."
        name = signal.Signals(-code).name
        hint = "; the system does that when memory runs out" if name == "SIGKILL" else ""
        return f"Its process was ended by {name}{hint}."
