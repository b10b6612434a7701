"""What a component sees of the process while it runs in one of its threads: its own environment, its own log.

Threads share `os.environ`, `sys.stdout` and the root of `logging`. What stands in for them here asks a context variable
whose call it is, and passes everything else through. It is in place only as long as a call runs that needs it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

Log = Callable[[str, str], None]


class _Lines:
    """Takes what a call writes and logs, and hands on whole lines; one that was logged is not told twice."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._open: dict[str, list[str]] = {"info": [], "error": []}
        self._logged = ""

    def write(self, level: str, text: str) -> None:
        first, *others = text.split("\n")
        if first:
            self._open[level].append(first)
        for each in others:
            line = "".join(self._open[level])
            self._open[level] = [each] if each else []
            self._line(level, line)

    def record(self, level: str, message: str) -> None:
        self._logged = message
        self._log(level, message)

    def tell(self, level: str, line: str) -> None:
        self._log(level, line)

    def close(self) -> None:
        for level, rest in self._open.items():
            if rest:
                self._line(level, "".join(rest))

    def _line(self, level: str, line: str) -> None:
        if not (self._logged and self._logged in line):  # a handler wrote out what was logged
            self._log(level, line)
        self._logged = ""


_lines: ContextVar[_Lines | None] = ContextVar("lines", default=None)


class _Tee:
    """A stream of this process that also tells the call that writes to it."""

    def __init__(self, out: Any, level: str) -> None:
        self.out = out
        self._level = level

    def write(self, text: str) -> int:
        lines = _lines.get()
        if lines is not None:
            lines.write(self._level, text)
        return int(self.out.write(text) or 0)

    def writelines(self, lines: Any) -> None:
        for each in lines:
            self.write(each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)


class _StandIns:
    """What stands in for the streams and the records of this process, while any call is logged."""

    _STREAMS = (("stdout", "info"), ("stderr", "error"))

    def __init__(self) -> None:
        self._calls = 0
        self._make: Any = None
        self._lock = threading.Lock()

    def put(self) -> None:
        """Another call begins."""
        with self._lock:
            self._calls += 1
            if self._make is None:
                self._make = logging.getLogRecordFactory()
                logging.setLogRecordFactory(self._record)
            for name, level in self._STREAMS:
                out = getattr(sys, name)
                if out is not None and not isinstance(out, _Tee):  # somebody may have put another in its place
                    setattr(sys, name, _Tee(out, level))

    def take(self) -> None:
        """A call ends."""
        with self._lock:
            self._calls -= 1
            if self._calls:
                return
            if logging.getLogRecordFactory() == self._record:
                logging.setLogRecordFactory(self._make)
                self._make = None
            for name, _ in self._STREAMS:
                out = getattr(sys, name)
                if isinstance(out, _Tee):
                    setattr(sys, name, out.out)

    def _record(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        lines = _lines.get()
        if lines is not None:
            lines.record(record.levelname.lower(), _message(record))
        return record


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit; whoever writes the record out tells it
        return f"{record.msg} {record.args}"


_stand_ins = _StandIns()


@contextmanager
def logged(log: Log) -> Iterator[None]:
    """What is printed or logged inside is also told to `log`."""
    lines = _Lines(log)
    token = _lines.set(lines)
    _stand_ins.put()
    try:
        yield
    finally:
        lines.close()
        _lines.reset(token)
        _stand_ins.take()


def tell(level: str, line: str) -> None:
    """A line for the log of the call that runs here, and for nobody else."""
    lines = _lines.get()
    if lines is not None:
        lines.tell(level, line)


class Waiting:
    """Whether anybody waits for a call that runs in a thread, which goes on when nobody does."""

    __slots__ = ("_tasks", "left")

    def __init__(self) -> None:
        self.left = False
        self._tasks: list[Callable[[], None]] = []

    def leave(self) -> None:
        """Nobody waits any more: run what wants to know."""
        self.left = True
        for each in tuple(self._tasks):
            each()

    @contextmanager
    def told(self, task: Callable[[], None]) -> Iterator[None]:
        """Inside, the task is run when nobody waits any more; it may be run twice."""
        self._tasks.append(task)
        try:
            if self.left:
                task()
            yield
        finally:
            self._tasks.remove(task)


waiting: ContextVar[Waiting | None] = ContextVar("waiting", default=None)
"""Of the call that runs in this thread."""


@contextmanager
def when_left(task: Callable[[], None]) -> Iterator[None]:
    """Inside, the task is run from another thread when nobody waits for this call any more, so that it can end."""
    call = waiting.get()
    with call.told(task) if call is not None else nullcontext():
        yield


_NONE: Mapping[Any, Any] = MappingProxyType({})
_variables: ContextVar[Mapping[Any, Any]] = ContextVar("variables", default=_NONE)
_environ_lock = threading.Lock()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """`os.environ` has these variables inside, for this call only.

    Programs that are started inside do not see them, unless they are given `env=os.environ.copy()`.
    """
    environ: Any = os.environ
    with _environ_lock:
        if not isinstance(environ._data, _Variables):  # noqa: SLF001 - modules hold `os.environ` itself, not its name
            environ._data = _Variables(environ._data)  # noqa: SLF001
    encoded = {environ.encodekey(key): environ.encodevalue(value) for key, value in variables.items()}
    token = _variables.set({**_variables.get(), **encoded})
    try:
        yield
    finally:
        _variables.reset(token)


class _Variables(dict[Any, Any]):
    """The variables of this process, below those of the call that asks; one that the call deleted is None there."""

    def __getitem__(self, key: Any) -> Any:
        own = _variables.get()
        if key not in own:
            return super().__getitem__(key)
        if own[key] is None:
            raise KeyError(key)
        return own[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        own = _variables.get()
        if key in own:
            _variables.set({**own, key: value})
        else:
            super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        own = _variables.get()
        if key in own:
            _variables.set({**own, key: None})
        else:
            super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        own = _variables.get()
        return own[key] is not None if key in own else super().__contains__(key)

    def __iter__(self) -> Iterator[Any]:
        own = _variables.get()
        hidden = {key for key, value in own.items() if value is None}
        return iter([key for key in dict.fromkeys((*super().__iter__(), *own)) if key not in hidden])

    def __len__(self) -> int:
        return sum(1 for _ in self)
