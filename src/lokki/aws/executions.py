"""The executions of a deployed flow: one, all, or the one that somebody means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from lokki.aws.client import Aws, code_of, refusals
from lokki.aws.machines import Machine
from lokki.errors import AwsError, ParameterError
from lokki.frozen import frozen
from lokki.runtime.program import parameters

RUNNING, SUCCEEDED = "RUNNING", "SUCCEEDED"
GONE = ("ExecutionDoesNotExist", "StateMachineDoesNotExist")
_PAGE = 1_000
_READERS = 8
_SEARCHED = 1_000  # of the newest executions, whose names are looked at for one that somebody means
_OPENED = 100  # of them, whose inputs are
_STAMP = re.compile(r"(?P<run>.+)-\d{8}-\d{6}-[0-9a-f]{4}")
_UNKNOWN = (*GONE, "InvalidArn", "InvalidName", "ValidationException")

Kind = Callable[[str], AwsError]


@frozen
class Execution:
    """An execution; one from a list knows neither its input (`given`) nor what became of it."""

    arn: str
    name: str
    status: str
    started: datetime
    stopped: datetime | None = None
    given: Any = None
    output: Any = None
    error: str = ""
    cause: str = ""
    opened: bool = False

    @property
    def run_id(self) -> str:
        """Under which id its results are kept: that in its input, else its name."""
        if not self.opened:
            return run_in(self.name) or self.name
        return self._started_with()[1]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the flow in its input."""
        return self._started_with()[0]

    @property
    def mends(self) -> bool:
        """Whether it goes on with what an earlier one left, and runs nothing that is finished."""
        return isinstance(self._started_with()[2], str)

    def _started_with(self) -> tuple[dict[str, Any], str, bool | str]:
        try:
            return parameters({"params": self.given, "execution": self.name})
        except ParameterError:  # which is how it ended
            return {}, self.name, False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status not in (RUNNING, "PENDING_REDRIVE")

    @property
    def seconds(self) -> float:
        """How long it took, or has been running."""
        return ((self.stopped or datetime.now(UTC)) - self.started).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "run_id": self.run_id,
            "status": self.status,
            "started": moment(self.started),
            "stopped": None if self.stopped is None else moment(self.stopped),
            "seconds": round(self.seconds, 3),
            "arn": self.arn,
        }


def moment(when: datetime) -> str:
    """A time in UTC, as logs write it."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_in(name: str) -> str:
    """The run id in the name of an execution that was started with one; empty where there is none."""
    found = _STAMP.fullmatch(name)
    return found["run"] if found else ""


def read(aws: Aws, arn: str, kind: Kind = AwsError) -> Execution:
    """An execution, opened."""
    with refusals(f"look at the execution {arn.rpartition(':')[2]!r}", kind):
        return _opened(aws.client("stepfunctions").describe_execution(executionArn=arn))


def listed(
    aws: Aws, machine: Machine, *, most: int | None = None, status: str = "", kind: Kind = AwsError
) -> Iterator[Execution]:
    """The executions of a machine, the newest first; page by page, as long as somebody asks for more."""
    asked = {"stateMachineArn": machine.arn} | ({"statusFilter": status} if status else {})
    left, token = most, ""
    while left is None or left > 0:
        page: dict[str, Any] = {"maxResults": _PAGE if left is None else min(_PAGE, left)}
        with refusals(f"list the executions of {machine.name!r}", kind):
            answer = aws.client("stepfunctions").list_executions(
                **asked, **page, **({"nextToken": token} if token else {})
            )
        yield from (_row(each) for each in answer["executions"][:left])
        left = None if left is None else left - len(answer["executions"])
        token = answer.get("nextToken", "")
        if not token:
            return


def opened(aws: Aws, executions: Iterable[Execution], kind: Kind = AwsError) -> list[Execution]:
    """The same executions with all that is known of them; some at once."""
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda each: read(aws, each.arn, kind), executions))


def find_execution(aws: Aws, machine: Machine, wanted: str, kind: Kind = AwsError) -> Execution:
    """The execution of that name or ARN, else the newest that was given that run id; unknown ones are an error."""
    arn = wanted if wanted.startswith("arn:") else arn_of(machine, wanted)
    found = _read_if_there(aws, arn, kind)
    if found is not None:
        return found
    recent = list(listed(aws, machine, most=_SEARCHED, kind=kind))
    for each in recent:
        if run_in(each.name) == wanted:
            return read(aws, each.arn, kind)
    newest = opened(aws, recent[:_OPENED], kind)
    for each in newest:
        if each.run_id == wanted:
            return each
    raise kind(_unknown(machine, wanted, [*newest, *recent[_OPENED:]]))


def beside(
    aws: Aws, machine: Machine, run: Execution, within: timedelta, kind: Kind = AwsError
) -> tuple[datetime | None, datetime | None]:
    """When the execution before this one under the same run id ended, and when the one after it began.

    Args:
        within: how close they have to be to count.
    """
    near = [each for each in _near(listed(aws, machine, kind=kind), run) if _gap(each, run) <= within]
    same = [each for each in opened(aws, near, kind) if each.run_id == run.run_id]
    ended = [each.stopped for each in same if each.started < run.started and each.stopped is not None]
    began = [each.started for each in same if each.started >= run.started]
    return max(ended, default=None), min(began, default=None)


def _near(newest_first: Iterable[Execution], run: Execution) -> Iterator[Execution]:
    """The executions that began after a run, and some of those before it."""
    earlier = 0
    for each in newest_first:
        earlier += each.started < run.started
        if earlier > _OPENED:
            return
        if each.arn != run.arn:
            yield each


def _gap(other: Execution, run: Execution) -> timedelta:
    """The time between two executions; nothing when they overlap."""
    first, last = sorted((other, run), key=lambda each: each.started)
    return max(timedelta(), last.started - first.stopped) if first.stopped is not None else timedelta()


def arn_of(machine: Machine, name: str) -> str:
    """The ARN of an execution of the machine."""
    return f"{machine.arn.replace(':stateMachine:', ':execution:')}:{name}"


def _unknown(machine: Machine, wanted: str, known: list[Execution]) -> str:
    import difflib

    names = list(dict.fromkeys(name for each in known for name in (each.name, each.run_id)))
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if not names:
        return f"There is no run {wanted!r} of {machine.name!r}: it has not run yet."
    told = f"did you mean {' or '.join(near)}?" if near else f"the newest are {', '.join(islice(names, 3))}."
    return f"There is no run {wanted!r} of {machine.name!r}; {told}"


def _read_if_there(aws: Aws, arn: str, kind: Kind) -> Execution | None:
    from botocore.exceptions import ClientError

    with refusals(f"look at the execution {arn.rpartition(':')[2]!r}", kind):
        try:
            return _opened(aws.client("stepfunctions").describe_execution(executionArn=arn))
        except ClientError as error:
            if code_of(error) in _UNKNOWN:
                return None
            raise


def _row(each: Mapping[str, Any]) -> Execution:
    return Execution(each["executionArn"], each["name"], each["status"], each["startDate"], each.get("stopDate"))


def _opened(answer: Mapping[str, Any]) -> Execution:
    given, output = (_json(answer.get(each)) for each in ("input", "output"))
    return Execution(
        answer["executionArn"],
        answer["name"],
        answer["status"],
        answer["startDate"],
        answer.get("stopDate"),
        given,
        output,
        answer.get("error") or "",
        answer.get("cause") or "",
        opened=True,
    )


def _json(text: str | None) -> Any:
    return json.loads(text) if text else None
