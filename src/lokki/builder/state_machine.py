"""The state machine of a flow, in Amazon States Language with JSONPath.

No value travels through it: a state's data is the run id, whether results may be reused, and inside a map which items
a child has (`at`, an entry of the map's manifest) and which items its parent had (`over`). Everything else lies in S3
under keys that each function computes from these. So nothing can grow to the 256 KiB that a state may hold.

The text has names in it that are filled in when it is deployed: `${FlowName}`, `${S3Bucket}`, `${BatchJobQueue}`, and
for every function and job definition `${<logical name>Arn}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, assert_never

from lokki.builder.resources import ITEMS, Deployment, Function, Job, is_express, pascal
from lokki.errors import BuildError
from lokki.graph import Call, FlowGraph, Map, Node
from lokki.jsonable import plain
from lokki.kinds import json_of
from lokki.policy import RetryConfig

State = dict[str, Any]
LONGEST_DEFINITION = 1_048_576
_INVOKE = "arn:aws:states:::lambda:invoke"
_SUBMIT = "arn:aws:states:::batch:submitJob.sync"
_READ = "arn:aws:states:::s3:getObject"
_WRITE = "arn:aws:states:::s3:putObject"
_LABEL = 40
_MOST_DEFAULTS = 65_536
_MOST_ATTEMPTS = 99_999_999
_LONGEST_DELAY = 31_622_399
_SERVICE_ERRORS = {
    "ErrorEquals": [
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
    ],
    "IntervalSeconds": 1,
    "MaxAttempts": 6,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}
# A map starts up to 10,000 children at once, and an account may have a tenth of that in Lambda calls or less: the
# others wait for their turn.
_THROTTLED = {
    "ErrorEquals": ["Lambda.TooManyRequestsException"],
    "IntervalSeconds": 1,
    "MaxAttempts": 100,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}
_JOB_ERRORS = {
    "ErrorEquals": ["Batch.ServerException", "Batch.TooManyRequestsException", "Batch.SdkClientException"],
    "IntervalSeconds": 2,
    "MaxAttempts": 6,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}
# What an execution that ends in a function gives back: the run, and where its result lies.
_ANSWER: State = {
    "ResultSelector": {"run_id.$": "$.Payload.run_id", "result_url.$": "$.Payload.result_url"},
    "ResultPath": "$",
}
RETRYABLE = "LokkiRetryable"
"""The error under which a function ends when its step's policy wants another attempt."""


def build_state_machine(deployment: Deployment, defaults: Mapping[str, Any] | None = None) -> State:
    """The machine as data; `defaults` are parameters that an execution uses when its input does not give them."""
    return _Machine(deployment, dict(defaults or {})).definition()


def text_of(machine: State) -> str:
    """The machine as the text that is deployed."""
    text = json.dumps(machine, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > LONGEST_DEFINITION:
        raise BuildError(
            f"The state machine takes {len(text.encode()):,} bytes, and AWS allows {LONGEST_DEFINITION:,}: "
            "split the flow, or join small steps with .map([...], direct_pass=True)."
        )
    return text


class _Machine:
    def __init__(self, deployment: Deployment, defaults: dict[str, Any]) -> None:
        self._deployment = deployment
        self._defaults = defaults
        self._labels: set[str] = set()

    def definition(self) -> State:
        graph = self._deployment.graph
        states = self._states(graph, depth=0)
        if self._deployment.starts_alone:
            first = next(iter(states))
            start = self._deployment.functions[0]
            states = {pascal(start.key): {**self._first(start), "Next": first}, **states}
        return {"Comment": f"The flow {graph.name}, built by lokki", "StartAt": next(iter(states)), "States": states}

    def _states(self, graph: FlowGraph, depth: int) -> dict[str, State]:
        names = [self._deployment.states[node.id] for node in graph.nodes]
        states = {}
        for name, after, node in zip(names, [*names[1:], None], graph.nodes, strict=True):
            leads = {"End": True} if after is None else {"Next": after}
            states[name] = {**self._state(node, depth), **leads}
        return states

    def _state(self, node: Node, depth: int) -> State:
        match node:
            case Call():
                return self._task(node, node.step.retry)
            case Map():
                return self._map(node, depth)
            case _:
                assert_never(node)

    def _task(self, node: Call | Map, retry: RetryConfig | None) -> State:
        worker = self._deployment.workers[node.id]
        match worker:
            case Function() if node is self._deployment.graph.nodes[0]:
                return self._first(worker, node.id, retry)
            case Function():
                result = _ANSWER if node is self._deployment.graph.nodes[-1] else {"ResultPath": None}
                return {**_invoked(worker, {"lokki": node.id, "state.$": "$"}, retry), **result}
            case Job():
                return self._job(worker, node.id)
            case _:
                assert_never(worker)

    def _first(self, worker: Function, node: str | None = None, retry: RetryConfig | None = None) -> State:
        """The state that evaluates the flow with the parameters of this execution, and gives it its run id."""
        payload: State = {"lokki": node, "execution.$": "$$.Execution.Name", "params.$": "$$.Execution.Input"}
        if self._defaults:
            payload["defaults"] = _defaults(self._defaults)
        if len(self._deployment.graph.nodes) == 1 and node is not None:
            return {**_invoked(worker, payload, retry), **_ANSWER}
        run = {"run_id.$": "$.Payload.run_id", "cache.$": "$.Payload.flow.cache_enabled"}
        return {**_invoked(worker, payload, retry), "ResultSelector": run, "ResultPath": "$"}

    def _job(self, worker: Job, node: str) -> State:
        return {
            "Type": "Task",
            "Resource": _SUBMIT,
            "Parameters": {
                "JobName": worker.name,
                "JobQueue": "${BatchJobQueue}",
                "JobDefinition": f"${{{worker.logical}Arn}}",
                "ContainerOverrides": {
                    "Environment": [
                        {"Name": "LOKKI_NODE", "Value": node},
                        {"Name": "LOKKI_STATE", "Value.$": "States.JsonToString($)"},
                    ]
                },
            },
            "ResultPath": None,
            "Retry": [_JOB_ERRORS],
        }

    def _map(self, node: Map, depth: int) -> State:
        name = self._deployment.states[node.id]
        if node.direct_pass:
            inner: dict[str, State] = {name + ITEMS: {**self._task(node, None), "End": True}}
        else:
            inner = self._states(node.body, depth + 1)
        selector = {"run_id.$": "$.run_id", "cache.$": "$.cache", "at.$": "$$.Map.Item.Value"}
        if depth:
            selector["over.$"] = "$.at"
        limit = {} if node.concurrency_limit is None else {"MaxConcurrency": node.concurrency_limit}
        kind = "EXPRESS" if is_express(node, self._deployment.config) else "STANDARD"
        return {
            "Type": "Map",
            "Label": self._label(name),
            **limit,
            "ItemReader": {
                "Resource": _READ,
                "ReaderConfig": {"InputType": "JSON"},
                "Parameters": {"Bucket": "${S3Bucket}", "Key.$": self._manifest(node, depth)},
            },
            "ItemSelector": selector,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind},
                "StartAt": next(iter(inner)),
                "States": inner,
            },
            "ResultWriter": {
                "Resource": _WRITE,
                "Parameters": {"Bucket": "${S3Bucket}", "Prefix.$": self._key(f"{node.id}/results")},
            },
            "ResultPath": None,
        }

    def _manifest(self, node: Map, depth: int) -> str:
        """Where the manifest lies: the step that made the items wrote it, inside a map under its own items."""
        if depth == 0:
            return self._key(f"{node.over.node}/map_manifest.json")
        places = [*(f"$.at.index[{level}]" for level in range(depth - 1)), "$.at.first"]
        return self._key(f"{node.over.node}/{'/'.join('{}' for _ in places)}/map_manifest.json", *places)

    def _key(self, below: str, *places: str) -> str:
        arguments = ", ".join((f"'{self._deployment.root}/runs/{{}}/{below}'", "$.run_id", *places))
        return f"States.Format({arguments})"

    def _label(self, name: str) -> str:
        label = name if len(name) <= _LABEL and name.isascii() else _short(name)
        while label in self._labels:
            label = _short(label + "+")
        self._labels.add(label)
        return label


def _defaults(values: Mapping[str, Any]) -> str:
    """Parameters as the first state hands them on: as text, in which nothing is a path or a name to fill in."""
    text = json.dumps({name: _default(name, value) for name, value in values.items()}).replace("${", "\\u0024{")
    if len(text) > _MOST_DEFAULTS:
        raise BuildError(
            f"The parameters given to the build take {len(text):,} bytes, and a state machine holds "
            f"{_MOST_DEFAULTS:,} of them: give a location in place of the data."
        )
    return text


def _default(name: str, value: Any) -> Any:
    try:
        return plain(value, json_of)
    except TypeError as error:
        raise BuildError(f"The value of parameter {name!r} cannot become a default of the machine: {error}") from error


def _invoked(worker: Function, payload: State, retry: RetryConfig | None) -> State:
    attempt = {"attempt.$": "$$.State.RetryCount"}
    return {
        "Type": "Task",
        "Resource": _INVOKE,
        "Parameters": {"FunctionName": f"${{{worker.logical}Arn}}", "Payload": {**payload, **attempt}},
        "Retry": [*_retries(retry), _SERVICE_ERRORS, _THROTTLED],
    }


def _retries(retry: RetryConfig | None) -> list[State]:
    if retry is None or not retry.retries:
        return []
    longest = min(max(1, math.ceil(retry.max_delay)), _LONGEST_DELAY)
    return [
        {
            "ErrorEquals": [RETRYABLE],
            "MaxAttempts": min(retry.retries, _MOST_ATTEMPTS),
            "IntervalSeconds": min(max(1, math.ceil(retry.delay)), longest),
            "BackoffRate": max(1.0, float(retry.backoff)),
            "MaxDelaySeconds": longest,
        }
    ]


def _short(name: str) -> str:
    spelled = "".join(each for each in name if each.isascii() and each.isalnum())
    return f"{spelled[: _LABEL - 9]}-{sha256(name.encode()).hexdigest()[:8]}"
