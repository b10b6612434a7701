"""Waiting for the end of an execution: the server is asked to answer when it is over, again and again until it is."""

from __future__ import annotations

import time

from twingraph import wire
from twingraph.client import calls
from twingraph.client.calls import Call
from twingraph.client.errors import ExecutionFailedError, ExecutionTimeoutError

_AT_ONCE = 50.0
"""Seconds that one request waits: two in a minute are far below any limit, and proxies close what is silent longer."""


class Waiting:
    """Waits for one execution."""

    def __init__(self, execution: str, timeout: float | None, raise_on_failure: bool) -> None:
        self._execution = execution
        self._timeout = timeout
        self._raise = raise_on_failure
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def call(self) -> Call[wire.Execution]:
        """What is asked next."""
        return calls.get_execution(self._execution, max(min(_AT_ONCE, self._left()), 0.0))

    def over(self, told: wire.Execution) -> wire.Execution | None:
        """The execution, if it is over; None to ask again."""
        if not told.is_over:
            if self._left() <= 0:
                raise ExecutionTimeoutError(
                    f"Execution {self._execution!r} is {told.status} after {self._timeout:g} s, and goes on."
                )
            return None
        if self._raise and told.status != "completed":
            raise ExecutionFailedError(_sentence(told), told)
        return told

    def _left(self) -> float:
        return _AT_ONCE if self._deadline is None else self._deadline - time.monotonic()


def _sentence(told: wire.Execution) -> str:
    where = f" at node {told.error.node_id!r}" if told.error and told.error.node_id else ""
    why = f": {told.error.message}" if told.error else "."
    return f"Execution {told.execution_id!r} {told.status if told.status != 'stopped' else 'was stopped'}{where}{why}"
