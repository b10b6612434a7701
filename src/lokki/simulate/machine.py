"""What is deployed into a simulation, and what an execution in it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lokki.frozen import field, frozen, named

Numbers = Mapping[str, int]
Line = tuple[str, str]


def _none() -> Any:
    return field(default_factory=dict)


@frozen
class Function:
    """A Lambda function: its name and ARN, the folder its package was unpacked to, and how it is configured.

    `imports` says what it may import beside its package (see `Engine`).
    """

    name: str
    arn: str
    folder: str
    handler: str = "handler.lambda_handler"
    environment: Mapping[str, str] = _none()
    timeout: int = 900
    memory: int = 512
    imports: str = ""


@frozen
class Job:
    """A Batch job definition: its name and ARN, the folder that stands for its image, and what it runs there."""

    name: str
    arn: str
    folder: str
    command: tuple[str, ...] = ("python", "batch_main.py")
    environment: Mapping[str, str] = _none()
    timeout: int = 3600
    imports: str = ""


@frozen
class Machine:
    """A state machine and all that it needs: the definition as AWS gets it, with everything substituted.

    `secrets` are the values of secrets by ARN; the bucket is made when it is not there.
    """

    name: str
    definition: str
    functions: tuple[Function, ...] = ()
    jobs: tuple[Job, ...] = ()
    bucket: str = ""
    secrets: Mapping[str, str] = _none()


@frozen
class Failure:
    """A child of a map that failed: the map's state, the child's place in it, its error and cause."""

    state: str
    index: int
    error: str
    cause: str


@frozen
class Counts:
    """What an execution did, its children included.

    `states` are the states entered by name, `retries` attempts beyond a task's first, `children` child executions of
    maps. By function: `invocations`, `billed_ms` (the handler's time, as Lambda bills it) and `init_ms` (loading the
    packages, once per process); by job definition: `jobs` and `job_ms`. `requests` are S3 requests by kind (GET, GET
    range, PUT, LIST, HEAD, DELETE, COPY, multipart) for each kind of caller (functions, jobs, interpreter). `payload`
    is the largest input or output of a state, in bytes of JSON; AWS allows 262,144.
    """

    states: Numbers = _none()
    retries: int = 0
    children: int = 0
    invocations: Numbers = _none()
    billed_ms: Numbers = _none()
    init_ms: Numbers = _none()
    jobs: Numbers = _none()
    job_ms: Numbers = _none()
    requests: Mapping[str, Numbers] = _none()
    payload: int = 0

    @property
    def transitions(self) -> int:
        """State transitions as AWS counts them: states entered and retries."""
        return sum(self.states.values()) + self.retries


@frozen
class Execution:
    """How an execution ended.

    `status` is SUCCEEDED, FAILED, TIMED_OUT or ABORTED. `failures` are the first children that failed, and
    `substitutions` says where the interpreter that ran it does otherwise than AWS. `logs` are the lines that functions
    and jobs wrote, each with the name of its function or job; those of one call stand together.
    """

    name: str
    status: str
    output: Any
    error: str
    cause: str
    counts: Counts
    failures: tuple[Failure, ...]
    substitutions: tuple[str, ...]
    logs: tuple[Line, ...]


def packed(value: Any) -> Any:
    """A value of this module as JSON has it."""
    match value:
        case Function() | Job() | Machine() | Failure() | Counts() | Execution():
            return {name: packed(part) for name, part in named(value).items()}
        case Mapping():
            return {name: packed(part) for name, part in value.items()}
        case tuple():
            return [packed(part) for part in value]
        case _:
            return value


def unpacked_machine(message: Mapping[str, Any]) -> Machine:
    """The machine that `packed` made a message of."""
    jobs = (Job(**one | {"command": tuple(one["command"])}) for one in message["jobs"])
    functions = (Function(**one) for one in message["functions"])
    return Machine(**{**message, "functions": tuple(functions), "jobs": tuple(jobs)})


def unpacked_execution(message: Mapping[str, Any]) -> Execution:
    """The execution that `packed` made a message of."""
    parts = {
        "counts": Counts(**message["counts"]),
        "failures": tuple(Failure(**one) for one in message["failures"]),
        "substitutions": tuple(message["substitutions"]),
        "logs": tuple((name, line) for name, line in message["logs"]),
    }
    return Execution(**{**message, **parts})
