"""What must exist in AWS for a flow: its functions, its Batch jobs and their names. The first stage of a build.

Everything here is decided from the graph and the configuration alone. The stages after it only write down what is
said here: `state_machine` as states, `cloudformation` and `sam` as resources, `package` as code.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from hashlib import sha256
from typing import assert_never

from lokki.builder.refusals import refuse
from lokki.errors import BuildError, ConfigurationError
from lokki.frozen import frozen
from lokki.graph import Call, FlowGraph, Map, Node
from lokki.policy import Resources, Schedule
from lokki.settings import LokkiConfig

LONGEST_FUNCTION_NAME = 64
LONGEST_STATE_NAME = 80
LONGEST_JOB_NAME = 128
ITEMS = "Items"  # ends the name of the state that runs a whole body, the only one inside its map
LAMBDA_SECONDS = 900
LAMBDA_MEMORY = (128, 10_240)
EXPRESS_SECONDS = 300
FARGATE = {
    1: (2048, 8192, 1024),
    2: (4096, 16384, 1024),
    4: (8192, 30720, 1024),
    8: (16384, 61440, 4096),
    16: (32768, 122880, 8192),
}
"""By virtual CPUs: the least and most memory of a job on Fargate in MB, and the steps between."""
START = "start"  # the function that evaluates the flow when its first step is a Batch job
_MOST_RESOURCES = 500  # in one CloudFormation template
_LONGEST_LOGICAL_NAME = 255 - len("JobDefinitionLogGroup-999")


@frozen
class Function:
    """A Lambda function.

    Attributes:
        key: what it is told to be by LOKKI_STEP_NAME: a step, a map whose body it runs, or `start`.
        logical: its name in the template, as in `FlapBirdFunction`.
        name: its name in AWS, with `${FlowName}` in it where that fits.
        about: a sentence for people who find it in the console.
    """

    key: str
    logical: str
    name: str
    timeout: int
    memory: int
    about: str


@frozen
class Job:
    """A Batch job definition; `key`, `logical`, `name` and `about` are as in `Function`."""

    key: str
    logical: str
    name: str
    timeout: int
    memory: int
    vcpu: int
    about: str


@frozen
class Deployment:
    """All that must exist for a flow.

    Attributes:
        workers: for the id of each call, and of each map that runs its body in one place, what runs it.
        states: for the id of each call and map that is a state its name.
        starts_alone: whether a function of its own evaluates the flow, because the first step is a Batch job.
    """

    graph: FlowGraph
    config: LokkiConfig
    functions: tuple[Function, ...]
    jobs: tuple[Job, ...]
    workers: dict[str, Function | Job]
    states: dict[str, str]
    starts_alone: bool
    schedule: str | None

    @property
    def root(self) -> str:
        """Where the flow's keys begin in the bucket."""
        prefix = self.config.aws.prefix
        return f"{prefix}/${{FlowName}}" if prefix else "${FlowName}"

    @property
    def state_count(self) -> int:
        """How many states the machine has."""
        bodies = sum(isinstance(node, Map) and node.id in self.workers for node in self.graph.walk())
        return len(self.states) + bodies + self.starts_alone


def describe(graph: FlowGraph, config: LokkiConfig) -> Deployment:
    """What the flow needs; a BuildError for a flow that cannot be compiled."""
    refuse(graph)
    _check_prefix(config.aws.prefix)
    naming = _Naming(graph.name)
    functions: list[Function] = []
    jobs: list[Job] = []
    workers: dict[str, Function | Job] = {}
    by_step: dict[object, Function | Job] = {}
    first = graph.nodes[0]
    starts_alone = isinstance(first, Call) and first.step.resources.job_type == "batch"
    if starts_alone:
        functions.append(_start(naming, graph, config))
    for node in _placed(graph):
        same = _identity(node)
        if same not in by_step:
            by_step[same] = made = _worker(node, naming, config)
            functions.append(made) if isinstance(made, Function) else jobs.append(made)
        workers[node.id] = by_step[same]
    deployment = Deployment(
        graph,
        config,
        tuple(functions),
        tuple(jobs),
        workers,
        _state_names(graph, starts_alone),
        starts_alone,
        None if graph.schedule is None else Schedule(graph.schedule).aws,
    )
    _check_size(deployment)
    return deployment


def resources_of(node: Call | Map, config: LokkiConfig) -> Resources:
    """What a node's worker is given: its step's resources; for a body in one place what all its steps need."""
    steps = [node.step] if isinstance(node, Call) else [call.step for call in node.body.calls()]
    batch = any(step.resources.job_type == "batch" for step in steps)
    kind = "batch" if batch else "lambda"
    limits = config.batch.timeout_seconds if batch else config.lambda_.timeout
    timeouts = [step.resources.timeout_seconds or limits for step in steps]
    memory = [step.resources.memory_mb for step in steps if step.resources.memory_mb]
    vcpu = [step.resources.vcpu for step in steps if step.resources.vcpu]
    together = sum(timeouts) if batch or len(steps) == 1 else min(sum(timeouts), max(LAMBDA_SECONDS, *timeouts))
    return Resources(kind, max(vcpu, default=None), max(memory, default=None), together)


def is_express(node: Map, config: LokkiConfig) -> bool:
    """Whether the children of a map can be EXPRESS: only Lambda calls, all attempts together at most five minutes."""
    if node.direct_pass:
        needed = resources_of(node, config)
        return needed.job_type == "lambda" and (needed.timeout_seconds or 0) <= EXPRESS_SECONDS
    seconds = 0
    for each in node.body.nodes:
        if not isinstance(each, Call):
            return False  # an EXPRESS execution cannot hold a distributed map
        needed = resources_of(each, config)
        if needed.job_type != "lambda":
            return False
        seconds += _longest(each, needed.timeout_seconds or 0)
    return seconds <= EXPRESS_SECONDS


def _longest(call: Call, timeout: int) -> int:
    """The most seconds that a call can take with all its attempts; no more than tells that it is too long."""
    retry = call.step.retry
    calls = timeout * (retry.retries + 1)
    if calls > EXPRESS_SECONDS:
        return calls
    return calls + sum(max(1, math.ceil(retry.wait(attempt))) for attempt in range(retry.retries))


def pascal(name: str) -> str:
    """`flap_bird` as `FlapBird`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[\W_]+", name) if part)


def _check_prefix(prefix: str) -> None:
    if not re.fullmatch(r"[\w./!()=-]*", prefix, re.ASCII):
        raise ConfigurationError(
            f"aws.prefix may hold letters, digits, / and any of . _ - ! ( ) =, not {prefix!r}.", "aws.prefix"
        )


def _placed(graph: FlowGraph) -> Iterator[Call | Map]:
    """The nodes that something runs: calls, and maps that run their body in one place."""
    for node in graph.nodes:
        match node:
            case Call():
                yield node
            case Map() if node.direct_pass:
                yield node
            case Map():
                yield from _placed(node.body)
            case _:
                assert_never(node)


def _identity(node: Call | Map) -> object:
    """Uses of one step share a worker; a body in one place has its own."""
    return (node.step.name, node.step.fn, node.step.resources) if isinstance(node, Call) else node.id


def _worker(node: Call | Map, naming: _Naming, config: LokkiConfig) -> Function | Job:
    needed = resources_of(node, config)
    wanted = node.step.name if isinstance(node, Call) else node.id
    about = f"The step {wanted}" if isinstance(node, Call) else f"All steps of {wanted}"
    about = f"{about} of the flow {naming.flow}"
    key = naming.key(wanted)
    if needed.job_type == "batch":
        return _job(key, naming, needed, config, about)
    timeout = needed.timeout_seconds or config.lambda_.timeout
    memory = needed.memory_mb or config.lambda_.memory
    _check_lambda(wanted, timeout, memory)
    return Function(key, naming.logical(key, "Function"), naming.function(key), timeout, memory, about)


def _start(naming: _Naming, graph: FlowGraph, config: LokkiConfig) -> Function:
    key = naming.key(START)
    return Function(
        key,
        naming.logical(key, "Function"),
        naming.function(key),
        min(config.lambda_.timeout, EXPRESS_SECONDS),
        config.lambda_.memory,
        f"Evaluates the flow {graph.name} before its first step, a Batch job",
    )


def _job(key: str, naming: _Naming, needed: Resources, config: LokkiConfig, about: str) -> Job:
    if not config.batch.job_queue:
        raise ConfigurationError(
            f"batch.job_queue is not set, and {key!r} runs on AWS Batch: name the queue in lokki.toml "
            '([batch] job_queue = "...") or in LOKKI_BATCH_JOB_QUEUE.',
            "batch.job_queue",
        )
    timeout = needed.timeout_seconds or config.batch.timeout_seconds
    if timeout < 60:
        raise BuildError(f"Step {key!r} has timeout_seconds={timeout}; AWS Batch allows 60 or more.", key)
    memory, vcpu = needed.memory_mb or config.batch.memory_mb, needed.vcpu or config.batch.vcpu
    if config.batch.platform == "fargate":
        _check_fargate(key, vcpu, memory)
    name = naming.job(key, config.batch.job_definition_name)
    return Job(key, naming.logical(key, "JobDefinition"), name, timeout, memory, vcpu, about)


def _check_fargate(step: str, vcpu: int, memory: int) -> None:
    if vcpu not in FARGATE:
        known = ", ".join(map(str, FARGATE))
        raise BuildError(f"Step {step!r} has {vcpu} virtual CPUs; on Fargate a job has {known} of them.", step)
    low, high, by = FARGATE[vcpu]
    if not low <= memory <= high or memory % by:
        raise BuildError(
            f"Step {step!r} has {memory} MB of memory; on Fargate a job with {vcpu} virtual CPUs has {low} to {high} "
            f"MB, in steps of {by}.",
            step,
        )


def _check_lambda(step: str, timeout: int, memory: int) -> None:
    if timeout > LAMBDA_SECONDS:
        raise BuildError(
            f"Step {step!r} has timeout_seconds={timeout}, and AWS Lambda allows {LAMBDA_SECONDS}: "
            'lower it, or use @step(job_type="batch").',
            step,
        )
    low, high = LAMBDA_MEMORY
    if not low <= memory <= high:
        raise BuildError(
            f"Step {step!r} has memory_mb={memory}, and AWS Lambda allows {low} to {high}: "
            'change it, or use @step(job_type="batch").',
            step,
        )


def _check_size(deployment: Deployment) -> None:
    # a function comes with its log group; the rest is roles, the machine, its schedule and the log group of jobs
    # and in a large flow policies of their own, for some forty functions each
    count = 2 * len(deployment.functions) + len(deployment.jobs) + 8 + 2 * (len(deployment.functions) // 40)
    if count > _MOST_RESOURCES:
        raise BuildError(
            f"Flow {deployment.graph.name!r} has {len(deployment.functions) + len(deployment.jobs)} different steps, "
            f"which needs about {count} resources; one CloudFormation stack holds {_MOST_RESOURCES}. Reuse steps, "
            "join small ones with .map([...], direct_pass=True), or split the flow."
        )


class _Naming:
    """Names that are unique, readable and short enough."""

    def __init__(self, flow: str) -> None:
        self.flow = flow
        self._keys: set[str] = set()
        self._logical: set[str] = set()
        self._functions: set[str] = set()

    def key(self, wanted: str) -> str:
        return _unique(wanted, self._keys)

    def logical(self, key: str, kind: str) -> str:
        """A name in the template: letters and digits."""
        name = pascal(_ascii(key))
        if len(name) > _LONGEST_LOGICAL_NAME:
            name = name[: _LONGEST_LOGICAL_NAME - 8] + _mark(key)
        return _unique(name + kind, self._logical, joint="")

    def function(self, key: str) -> str:
        return self._name("${FlowName}", key, LONGEST_FUNCTION_NAME)

    def job(self, key: str, base: str) -> str:
        return self._name(base or "${FlowName}", key, LONGEST_JOB_NAME)

    def _name(self, base: str, key: str, longest: int) -> str:
        """`<flow>-<step>`, the end of a long one replaced by a hash of all of it."""
        flow = _ascii(self.flow) if base == "${FlowName}" else base
        step = _ascii(key)
        whole = f"{flow}-{step}"
        if len(whole) > longest or (flow != self.flow and base == "${FlowName}"):
            mark = _mark(f"{self.flow}-{key}")
            room = longest - len(mark) - 2
            flow = flow[: max(room - len(step), room // 2)]
            return _unique(f"{flow}-{step[: room - len(flow)]}-{mark}", self._functions)
        return _unique(f"{base}-{step}", self._functions)


def _state_names(graph: FlowGraph, starts_alone: bool) -> dict[str, str]:
    """State names are unique in the whole machine, those inside maps included."""
    used = {pascal(START)} if starts_alone else set()
    names = {}
    for node in _states(graph):
        name = _unique(_state_name(node), used)
        if isinstance(node, Map) and node.direct_pass:
            while name + ITEMS in used:
                name = _unique(_state_name(node), used)
            used.add(name + ITEMS)
        names[node.id] = name
    return names


def _states(graph: FlowGraph) -> Iterator[Node]:
    """The nodes that are states: a body in one place has none of its own."""
    for node in graph.nodes:
        yield node
        if isinstance(node, Map) and not node.direct_pass:
            yield from _states(node.body)


def _state_name(node: Node) -> str:
    name = pascal(node.id) or node.id
    longest = LONGEST_STATE_NAME - len(ITEMS) - 4  # room for a number
    return name if len(name) <= longest else f"{name[: longest - 9]}-{_mark(node.id)}"


def _unique(wanted: str, used: set[str], joint: str = "-") -> str:
    name, number = wanted, 1
    while name in used:
        number += 1
        name = f"{wanted}{joint}{number}"
    used.add(name)
    return name


def _mark(name: str) -> str:
    """What stands for the end of a name that is too long."""
    return sha256(name.encode()).hexdigest()[:8]


def _ascii(name: str) -> str:
    """The name in letters, digits, `_` and `-`; what cannot be spelled so is replaced by a hash of all of it."""
    spelled = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spelled = re.sub(r"[^A-Za-z0-9_-]", "-", spelled)
    if spelled == name:
        return name
    return f"{spelled.strip('-')}-{_mark(name)}".lstrip("-")
