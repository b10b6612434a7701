"""A nursery as the server knows it: what it serves, and who runs in it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twingraph.errors import TwinGraphError
from twingraph.executions import machine
from twingraph.server.catalog import Catalog, Served
from twingraph.server.channel import Channel, Message
from twingraph.server.files import Broken
from twingraph.server.running import Running


class Nursery:
    """A process that forks executions; `told` is its channel and its number."""

    def __init__(self, told: tuple[Channel, int]) -> None:
        self.channel, self._pid = told
        self.there = True
        self.catalog = Catalog()
        self.broken: tuple[Broken, ...] = ()

    def hear_catalog(self) -> None:
        """Wait until it has imported what is served."""
        messages: list[Message] | None = []
        while not messages:
            messages = self.channel.receive()
            if messages is None:
                self.bury()
                raise TwinGraphError("The process that imports what is served ended before it had done so.")
        self.catalog = _catalog(messages[0]["catalog"])
        self.broken = tuple(Broken(**each) for each in messages[0]["broken"])

    def retire(self) -> None:
        """Let it end when what runs in it is over."""
        self.channel.send({"retire": True})

    def bury(self) -> None:
        """It is gone, or about to go now that nobody talks to it."""
        self.there = False
        self.channel.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


class Forked(Running):
    """An execution that runs in a nursery."""

    def __init__(self, execution: str, claim: str, nursery: Nursery, channel: Channel) -> None:
        super().__init__(execution, claim, channel)
        self.nursery = nursery
        self._pid = 0
        self._process = ""

    @property
    def begun(self) -> bool:
        """Whether it has a process, or had one."""
        return bool(self._pid)

    def began(self, pid: int) -> None:
        """It has this process."""
        self._pid, self._process = pid, machine.process_of(pid)

    def hear(self) -> list[Message]:
        """What it tells."""
        messages = super().hear()
        if self.silent and not self.nursery.there:  # which would have told how it ended
            self.code = 0
        return messages

    def stop(self) -> None:
        """Ask it to end."""
        if not self.nursery.there or not self.nursery.channel.send({"stop": self.execution}):
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and all that it started."""
        if not self.nursery.there or not self.nursery.channel.send({"kill": self.execution}):
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """The same without its nursery, where the process is the one it was."""
        if self._pid and machine.process_of(self._pid) == self._process:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)


def _catalog(told: Mapping[str, Any]) -> Catalog:
    return Catalog(told["components"], tuple(Served(**each) for each in told["workflows"]), tuple(told["files"]))
