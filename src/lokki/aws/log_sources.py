"""Where a deployed flow writes its log: one group for each of its functions, one for all of its Batch jobs.

Names are asked for, not put together, because those of functions are shortened where they are long: the state machine
names all that it calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lokki.aws.client import Aws, refusals
from lokki.aws.machines import Machine
from lokki.errors import LogsError, nearest
from lokki.frozen import frozen

_SHORTENED = re.compile(r"-[0-9a-f]{8}(-\d+)?$")
_FUNCTION_ARN = re.compile(r"arn:[a-z-]+:lambda:[a-z0-9-]+:\d{12}:function:([\w-]+)", re.ASCII)
_JOB_ARN = re.compile(r"arn:[a-z-]+:batch:[a-z0-9-]+:\d{12}:job-definition/[\w-]+(?::\d+)?", re.ASCII)


@frozen
class Source:
    """A place that lines come from.

    Attributes:
        group: the log group.
        steps: the steps that write there, by how the names of their streams begin; a function is alone in its group.
        whole: whether all streams count, and not only those of these steps.
    """

    group: str
    steps: Mapping[str, str]
    whole: bool = True

    def step_of(self, stream: str) -> str | None:
        """The step that writes this stream; None when it does not count."""
        begins = stream.partition("/")[0]
        return self.steps.get("") or self.steps.get(begins, begins if self.whole else None)


def log_sources(aws: Aws, machine: Machine, step: str | None = None) -> tuple[Source, ...]:
    """Where a flow logs.

    Args:
        aws: the account and region.
        machine: the flow's state machine.
        step: only the source of this step.
    """
    flow = machine.name
    with refusals(f"find the log groups of {flow!r}", LogsError):
        text = aws.client("stepfunctions").describe_state_machine(stateMachineArn=machine.arn)["definition"]
        functions, jobs = (list(dict.fromkeys(arn.findall(text))) for arn in (_FUNCTION_ARN, _JOB_ARN))
        found = (*_of_functions(aws, flow, functions), *_of_jobs(aws, flow, jobs))
    if not found:
        raise LogsError(f"The state machine {flow!r} calls neither functions nor jobs: nothing logs.")
    return found if step is None else _of_step(found, step, flow)


def _of_step(found: Iterable[Source], step: str, flow: str) -> tuple[Source, ...]:
    known: set[str] = set()
    chosen = []
    for source in found:
        known |= set(source.steps.values())
        steps = {begins: each for begins, each in source.steps.items() if each == step}
        if steps:
            chosen.append(Source(source.group, steps, whole=False))
    if not chosen:
        hint = nearest(step, known) or f"; what it runs is named {', '.join(sorted(known))}"
        raise LogsError(f"Nothing of flow {flow!r} is named {step!r}{hint}")
    return tuple(chosen)


def _of_functions(aws: Aws, flow: str, names: Iterable[str]) -> Iterator[Source]:
    for name in names:
        yield Source(f"/aws/lambda/{name}", {"": _step_of(aws, flow, name)})


def _step_of(aws: Aws, flow: str, function: str) -> str:
    """The step that a function runs; its name tells, unless it is shortened or begins with another name."""
    from botocore.exceptions import ClientError

    step = function.removeprefix(f"{flow}-")
    if step != function and not _SHORTENED.search(step):
        return step
    try:
        settings = aws.client("lambda").get_function_configuration(FunctionName=function)
    except ClientError:  # a name to show is not worth a failure
        return step
    named: str = settings.get("Environment", {}).get("Variables", {}).get("LOKKI_STEP_NAME") or step
    return named


def _of_jobs(aws: Aws, flow: str, definitions: Sequence[str]) -> Iterator[Source]:
    """Each job definition says in which group its jobs log, and how the names of their streams begin."""
    groups: dict[str, dict[str, str]] = {}
    for at in range(0, len(definitions), 100):
        answer = aws.client("batch").describe_job_definitions(jobDefinitions=list(definitions[at : at + 100]))
        for each in answer["jobDefinitions"]:
            options = each.get("containerProperties", {}).get("logConfiguration", {}).get("options", {})
            name = each["jobDefinitionName"]
            step = options.get("awslogs-stream-prefix", name)
            # where the prefix is not heeded, as in stand-ins, the name of the definition takes its place
            groups.setdefault(options.get("awslogs-group", f"/aws/batch/{flow}"), {}).update({step: step, name: step})
    yield from (Source(group, steps) for group, steps in groups.items())
