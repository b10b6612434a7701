"""What an invocation printed: the end of it comes with the answer, and where that is not all, all is in CloudWatch."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from threading import Event
from typing import Any

from twingraph.envelope import Frames
from twingraph.placed import Placed
from twingraph.platforms.aws.account import Account
from twingraph.platforms.aws.log_lines import Stream

_TAIL = 4096  # bytes of the log that Lambda sends along
_PLATFORMS = re.compile(
    r"(START|END|REPORT) RequestId: |INIT_START |INIT_REPORT |XRAY TraceId: |\{\"time\":\S*\"type\":\"platform\."
)
_PATIENCE = 10.0  # seconds in which the log of an invocation arrives in CloudWatch
_PAUSE = 0.5
_SKEW = 60_000  # milliseconds by which the clock of this machine may be wrong


class FunctionLog:
    """The log of one invocation.

    Args:
        account: where the function is.
        function: its name.
        request: Lambda's name for the invocation.
        began: when it was made, in seconds since 1970.
    """

    def __init__(self, account: Account, function: str, request: str, began: float) -> None:
        self._account = account
        self._group = f"/aws/lambda/{function}"
        self._request = request
        self._since = int(began * 1000) - _SKEW

    def tell(self, call: Placed, tail: str, left: Event) -> None:
        """Hand on what the component printed.

        Args:
            call: hears it.
            tail: what came with the answer.
            left: raised when nobody waits for the call any more.
        """
        data = base64.b64decode(tail)
        lines = data.decode(errors="replace").removesuffix("\n").split("\n")
        frames = Frames(call)
        if len(data) >= _TAIL and not any(self._marks("START", line) for line in lines):
            whole = self._kept(left) if self._request else None
            if whole is None:
                call.log("warning", f"Only the end of what was printed came along; all of it is in {self._group}.")
            lines = lines[1:] if whole is None else whole
        for line in lines:
            if not _PLATFORMS.match(line):
                frames.line(line)

    def _kept(self, left: Event) -> list[str] | None:
        """The lines in CloudWatch from the beginning to the end of the invocation; None if they do not arrive."""
        stream: Stream | None = None
        lines: list[str] = []
        for _ in range(int(_PATIENCE / _PAUSE)):
            stream = stream or self._stream()
            lines += stream.read() if stream is not None else ()
            if any(self._marks("END", line) for line in lines):
                return list(self._between(lines))
            if left.wait(_PAUSE) or (stream is not None and stream.refusal):
                return None
        return None

    def _stream(self) -> Stream | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found: Any = self._account.client("logs").filter_log_events(
                logGroupName=self._group, startTime=self._since, filterPattern=f'"START RequestId: {self._request}"'
            )
        except (BotoCoreError, ClientError):  # what was printed is not worth a failure
            return None
        events = [each for each in found["events"] if self._marks("START", each["message"])]
        if not events:
            return None
        return Stream(self._account, self._group, events[0]["logStreamName"], events[0]["timestamp"])

    def _between(self, lines: list[str]) -> Iterator[str]:
        inside = False
        for line in lines:
            if self._marks("START", line):
                inside = True
            elif self._marks("END", line):
                return
            elif inside:
                yield line

    def _marks(self, what: str, line: str) -> bool:
        return line.startswith(f"{what} RequestId: {self._request}")
