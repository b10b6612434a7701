"""A step's failure on its way to the person who wrote it: which step, which item, the traceback of their code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from lokki.errors import LokkiError

_MESSAGE = 2_000  # characters of a message that are told
_TRACE = 8_000  # characters of a traceback that are told from its beginning, and as many from its end
_SENT = 8_000  # characters of a traceback that travel with an error through the state machine, which takes 32 KiB
_ours: tuple[str, ...] = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "<frozen importlib.")


def leave_out(folder: str) -> None:
    """Leave a folder's frames out, too."""
    global _ours  # noqa: PLW0603
    _ours += (folder + os.sep,)


class Cancelled(LokkiError):
    """The run was stopped while this part of it was waiting."""


class StepFailure(LokkiError):
    """Carries a step's own exception through the runner; `cause` is what the caller gets in the end."""

    kind = "step"  # what those who wrote it call it

    def __init__(
        self, cause: BaseException, node: str, attempt: int, seconds: float, trace: str, index: tuple[int, ...] = ()
    ) -> None:
        super().__init__(f"step {node!r} failed: {summary(cause)}")
        self.cause = cause
        self.node = node
        self.attempt = attempt
        self.seconds = seconds
        self.trace = trace
        self.index = index
        self.item = ""
        self.error = summary(cause)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (
            portable(self.cause),
            self.node,
            self.attempt,
            self.seconds,
            self.trace,
            self.index,
            self.item,
        )

    def exception(self) -> BaseException:
        """The step's own exception, with a note that says where it happened."""
        where = f"in {self.kind} {self.node!r}"
        if self.index:
            where += f", item {'.'.join(map(str, self.index))}: {self.item}"
        if where not in getattr(self.cause, "__notes__", ()):
            self.cause.add_note(where)
        trace = self.cause.__traceback__
        while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_ours):
            trace = trace.tb_next
        return self.cause.with_traceback(trace)


class Told(LokkiError):
    """A step's failure as it leaves a deployed function; the function's log has told it already."""


class LokkiRetryable(Told):
    """How a failure leaves a deployed function when the step's policy wants another attempt: the state machine retries
    what ends under this name, and nothing else."""


def leaving(failure: StepFailure, kind: type[Exception] | None = None) -> Exception:
    """The failure as it leaves a deployed function: under the name of the user's exception, with all that is known."""
    if kind is None:
        kind = type(type(failure.cause).__name__, (Told,), {"__module__": __name__})
    item = f", item {'.'.join(map(str, failure.index))}: {failure.item}" if failure.index else ""
    return kind(f"{failure.error} (in step {failure.node!r}{item})\n{_cut(failure.trace, _SENT)}")


class RemoteError(LokkiError):
    """Stands for an exception that could not be sent here from its process; says its type and message."""


def _rebuilt(cause: bytes, node: str, attempt: int, seconds: float, trace: str, index: Any, item: str) -> StepFailure:
    import pickle

    failure = StepFailure(pickle.loads(cause), node, attempt, seconds, trace, index)
    failure.item = item
    return failure


def portable(error: BaseException) -> bytes:
    """The exception as a pickle that can be read back; a `RemoteError` with its words when it cannot be sent."""
    import pickle

    try:
        sent = pickle.dumps(error, 5)
        pickle.loads(sent)
    except Exception:  # noqa: BLE001 - pickling runs the methods of the user's exception, which may raise anything
        sent = pickle.dumps(RemoteError(summary(error)), 5)
    return sent


def summary(error: BaseException) -> str:
    """`ValueError: message`; a long message is cut, and one that cannot be had is left out."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - it is the user's code
        text = "(its message cannot be shown)"
    text = _cut(text, _MESSAGE)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def user_trace(error: BaseException) -> str:
    """The traceback without the frames of this library, as Python prints it."""
    import traceback

    told = traceback.TracebackException.from_exception(error)
    for each in _chained(told):
        each.stack[:] = [frame for frame in each.stack if not frame.filename.startswith(_ours)]
    text = "".join(told.format())
    return text if len(text) <= 2 * _TRACE else f"{text[:_TRACE]}\n[...]\n{text[-_TRACE:]}"


def _chained(told: Any) -> Iterator[Any]:
    while told is not None:
        yield told
        told = told.__cause__ or told.__context__


def shown(value: Any, limit: int = 80) -> str:
    """The value's repr, short, on one line, and never an error of its own."""
    import reprlib

    teller = reprlib.Repr()
    teller.maxstring = teller.maxother = limit
    try:
        text = teller.repr(value)
    except Exception:  # noqa: BLE001 - a repr is the user's code
        text = f"<{type(value).__name__}>"
    return _cut(" ".join(text.split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
