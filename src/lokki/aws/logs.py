"""The lines that a deployed flow has logged: read from CloudWatch, merged in the order of time, one page at a time.

`read` gives what is there between two times, `follow` goes on with what comes later. Neither keeps more than a page of
each log group, so a log may be as large as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import attrgetter
from typing import Any

from lokki.aws.client import Aws, code_of, from_refusal, refusals
from lokki.aws.log_sources import Source
from lokki.errors import LogsError
from lokki.frozen import frozen

SECONDS = 2.0  # between two questions for what is new
LATE = 10_000  # milliseconds by which a line may reach CloudWatch after one that is newer
_SLOWEST = 30.0
_REMEMBERED = 10_000  # ids of lines, before those that cannot come again are forgotten
_BUSY = (
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "LimitExceededException", "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure",
)  # fmt: skip

Tell = Callable[[str], None]


@frozen
class Line:
    """A line of the log.

    Attributes:
        at: when, in milliseconds since 1970.
        step: the step that wrote it.
        group: the log group.
        stream: the stream within the group: one process of a function, or one job.
        id: CloudWatch's own name for it.
        text: what was written.
    """

    at: int
    step: str
    group: str
    stream: str
    id: str
    text: str


def read(aws: Aws, sources: Sequence[Source], start: int, end: int, tell: Tell) -> Iterator[Line]:
    """What was logged between two times.

    Args:
        aws: the account and region.
        sources: where to look.
        start: the first millisecond.
        end: the last one.
        tell: hears of log groups that are missing.
    """
    client = aws.client("logs")
    missing = _Missing(tell)
    yield from merge(*(_present(_Pages(client, each, start, end), missing) for each in sources), key=_AT)
    missing.told()


def follow(
    aws: Aws, sources: Sequence[Source], start: int, tell: Tell, wait: Callable[[float], Any]
) -> Iterator[Iterator[Line]]:
    """What was logged since a time, then again and again what is new; it ends when `wait` raises.

    Args:
        aws: the account and region.
        sources: where to look.
        start: the first millisecond.
        tell: hears of log groups that are missing, and of pauses.
        wait: sleeps for so many seconds.
    """
    missing = _Missing(tell)
    followed = [_Followed(aws, each, start, missing) for each in sources]
    failures = 0
    while True:
        yield merge(*(each.new() for each in followed), key=_AT)
        missing.told()
        troubles = {each.trouble for each in followed if each.trouble}
        if troubles and not failures:
            tell(f"CloudWatch Logs does not answer ({', '.join(sorted(troubles))}); trying again.")
        failures = failures + 1 if troubles else 0
        wait(min(_SLOWEST, SECONDS * 2 ** min(failures, 10)))


_AT = attrgetter("at")


class _Missing:
    """Says once which groups are not there."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._known: set[str] = set()
        self._new: dict[str, None] = {}

    def add(self, group: str) -> None:
        if group not in self._known:
            self._known.add(group)
            self._new[group] = None

    def told(self) -> None:
        if self._new:
            are = "group is" if len(self._new) == 1 else "groups are"
            self._tell(f"Nothing is logged there yet, or it was removed; the log {are} missing: {', '.join(self._new)}")
            self._new = {}


class _Pages:
    """The pages of one source, one after the other."""

    def __init__(self, client: Any, source: Source, start: int, end: int | None = None) -> None:
        self._client = client
        self._source = source
        # stand-ins still want to be told what AWS has done by itself since 2019: merge the streams
        self._asked: dict[str, Any] = {"logGroupName": source.group, "startTime": start, "interleaved": True}
        if end is not None:
            self._asked["endTime"] = end
        self.group = source.group

    def lines(self) -> Iterator[Line]:
        """All their lines."""
        more: dict[str, str] = {}
        while True:
            page = self._client.filter_log_events(**self._asked, **more)
            for each in page["events"]:
                step = self._source.step_of(each["logStreamName"])
                if step is not None:
                    yield self._line(step, each)
            if not page.get("nextToken"):
                return
            more = {"nextToken": page["nextToken"]}

    def _line(self, step: str, event: dict[str, Any]) -> Line:
        return Line(event["timestamp"], step, self.group, event["logStreamName"], event["eventId"], event["message"])


def _present(pages: _Pages, missing: _Missing) -> Iterator[Line]:
    from botocore.exceptions import ClientError

    with refusals(f"read {pages.group}", LogsError):
        try:
            yield from pages.lines()
        except ClientError as error:
            if not _is_missing(error):
                raise
            missing.add(pages.group)


class _Followed:
    """A source that is asked again and again: it remembers which lines it has given."""

    def __init__(self, aws: Aws, source: Source, start: int, missing: _Missing) -> None:
        self._client = aws.client("logs")
        self._source = source
        self._start = start
        self._missing = missing
        self._given: dict[str, int] = {}
        self._most = _REMEMBERED
        self._newest = 0
        self.trouble = ""

    def new(self) -> Iterator[Line]:
        """What has come since; when AWS is busy, as much of it as there is."""
        from botocore.exceptions import BotoCoreError, ClientError

        self.trouble = ""
        pages = _Pages(self._client, self._source, max(self._start, self._newest - LATE))
        try:
            yield from self._unseen(pages.lines())
        except ClientError as error:
            self._refused(error)
        except BotoCoreError as error:
            if not _passes(error):
                with refusals(f"read {self._source.group}", LogsError):
                    raise
            self.trouble = type(error).__name__

    def _unseen(self, lines: Iterable[Line]) -> Iterator[Line]:
        for line in lines:
            if line.id in self._given:
                continue
            self._given[line.id] = line.at
            self._newest = max(self._newest, line.at)
            self._forget()
            yield line

    def _forget(self) -> None:
        """Lines that are older than what is asked for cannot come again."""
        if len(self._given) > self._most:
            self._given = {each: at for each, at in self._given.items() if at >= self._newest - LATE}
            self._most = max(_REMEMBERED, 2 * len(self._given))

    def _refused(self, error: Any) -> None:
        if _is_missing(error):
            self._missing.add(self._source.group)
        elif code_of(error) in _BUSY or error.response["ResponseMetadata"].get("HTTPStatusCode", 0) >= 500:
            self.trouble = code_of(error)
        else:
            raise from_refusal(error, f"read {self._source.group}", LogsError) from error


def _is_missing(error: Any) -> bool:
    return code_of(error) == "ResourceNotFoundException"


def _passes(error: Exception) -> bool:
    """Whether this is the network's doing."""
    from botocore.exceptions import ConnectionError as Unconnected
    from botocore.exceptions import HTTPClientError

    return isinstance(error, Unconnected | HTTPClientError)
