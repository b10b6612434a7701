"""The process that imports what users wrote, and forks a child for each execution: clean, and warm at once.

It has one thread, so that forking it is safe, and no connection of its own: the server tells it what to run. A child's
number is its own until this process has asked how it ended, so nobody else is ever signalled in its place. What a child
leaves behind in its process group is ended with it. When the server goes away, so do the children, and then this.

    the server says   {"run": execution} and a socket, {"stop": execution}, {"kill": execution},
                      {"sweep": places} to clean up on platforms, {"tell": execution} to notify of an end that it
                      could not tell itself, {"retire": true} to end after the children
    this says         {"catalog": ...} once, {"began": execution, "pid"}, {"ended": execution, "code"}
"""

from __future__ import annotations

import argparse
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from types import FrameType
from typing import Any, NoReturn

from twingraph.executions import machine
from twingraph.executions.recorder import open_recorder
from twingraph.server import child
from twingraph.server.channel import Channel
from twingraph.server.files import Files, imported
from twingraph.server.sweeping import sweep

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def begun(files: Sequence[str], url: str, home: str) -> tuple[Channel, int]:
    """A nursery that is forked from this process, which must have one thread only: its channel and number."""
    here, there = Channel.pair()
    gc.freeze()  # so that both go on sharing what is here
    pid = os.fork()
    if not pid:
        here.close()
        _apart(lambda: live(there, files, url, home))
    there.close()
    return here, pid


def started(files: Sequence[str], url: str, home: str) -> tuple[Channel, int]:
    """A nursery that is a new process; its channel and number."""
    import subprocess

    here, there = Channel.pair()
    told = [sys.executable, "-m", "twingraph.server.nursery", str(there.fileno()), url, home, *files]
    process = subprocess.Popen(told, pass_fds=(there.fileno(),), stdin=subprocess.DEVNULL)  # noqa: S603 - ours
    there.close()
    process.returncode = 0  # who started it waits for it by its number
    return here, process.pid


def live(channel: Channel, files: Sequence[str], url: str, home: str) -> None:
    """The life of a nursery, until the server goes away."""
    with suppress(OSError):
        os.setsid()  # Ctrl-C is for the server
    os.environ.update(TWINGRAPH_DB=url, TWINGRAPH_HOME=home, TWINGRAPH_RECORD="on")
    for each in _SIGNALS:
        signal.signal(each, _heard)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what executions print is not what the server prints
    os.close(nothing)
    open_recorder(url).repository()
    machine.who()
    machine.git()
    child.prepare(url)
    found = imported(files)
    channel.send({"catalog": asdict(found.catalog), "broken": [asdict(each) for each in found.broken]})
    _Nursery(channel, found, url).live()


def _apart(work: Callable[[], None]) -> NoReturn:
    """Do the work of a forked process, and end it: nothing of what its parent was about is for it."""
    code = 70
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the end of the process
        traceback.print_exc()
    finally:
        os._exit(code)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """A signal came; what reads the wake-up socket does the rest."""


class _Nursery:
    """The loop, and the children."""

    def __init__(self, channel: Channel, files: Files, url: str) -> None:
        self._channel = channel
        self._files = files
        self._url = url
        self._children: dict[int, str] = {}
        self._pids: dict[str, int] = {}
        self._retired = False
        self._woken, self._wake = socket.socketpair()
        for each in (self._woken, self._wake):
            each.setblocking(False)

    def live(self) -> None:
        """Do what the server says until it is gone, and see to the children to their end."""
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # so that children share what is here
        gc.enable()
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._retired or self._children:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                    self._reap()
                if self._channel in ready:
                    messages = self._channel.receive()
                    if messages is None:
                        self._retired = True
                        selector.unregister(self._channel)
                    for each in messages or ():
                        self._do(each, selector)

    def _do(self, message: Mapping[str, Any], selector: selectors.BaseSelector) -> None:
        match message:
            case {"run": str(execution)}:
                talk = self._channel.sockets.popleft()
                pid = self._forked(selector, lambda: child.run(execution, Channel(talk), self._files, self._url))
                talk.close()
                self._children[pid] = execution
                self._pids[execution] = pid
                self._channel.send({"began": execution, "pid": pid})
            case {"stop": str(execution)}:
                if execution in self._pids:
                    os.kill(self._pids[execution], signal.SIGTERM)
            case {"kill": str(execution)}:
                if execution in self._pids:
                    _killed(self._pids[execution])
            case {"retire": _}:
                self._retired = True
            case {"sweep": places}:
                pid = self._forked(selector, lambda: sweep(self._url, self._files, map(tuple, places)))
                self._children[pid] = ""
            case {"tell": str(execution)}:
                self._children[self._forked(selector, lambda: child.notify(execution, self._files, self._url))] = ""

    def _forked(self, selector: selectors.BaseSelector, work: Callable[[], None]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid

        def apart() -> None:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            for open_here in (selector, self._channel, self._woken, self._wake):
                open_here.close()
            work()

        _apart(apart)

    def _reap(self) -> None:
        """Tell of children that ended, and end what they left behind."""
        for pid, execution in list(self._children.items()):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            _killed(pid)
            _, status = os.waitpid(pid, 0)
            del self._children[pid]
            if execution:
                del self._pids[execution]
                self._channel.send({"ended": execution, "code": os.waitstatus_to_exitcode(status)})


def _killed(pid: int) -> None:
    """End a child, which has not been waited for, and its group."""
    with suppress(ProcessLookupError):  # it has no group of its own yet, or all in it are gone
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def main() -> None:
    """A nursery of its own: `python -m twingraph.server.nursery DESCRIPTOR URL HOME FILES...`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("descriptor", type=int)
    parser.add_argument("url")
    parser.add_argument("home")
    parser.add_argument("files", nargs="*")
    told = parser.parse_args()
    live(Channel(socket.socket(fileno=told.descriptor)), told.files, told.url, told.home)


if __name__ == "__main__":
    main()
