"""moto's Step Functions interpreter, made to do what AWS does where it does otherwise, and to count.

Each change is a small substitution in the interpreter's own classes, in this process only. Those that a reader of the
result should know of have a sentence, which is remembered for the executions in which they mattered. The history of
events is not kept: the counts are.
"""

# ruff: noqa: SLF001 - the private parts of the interpreter are what is replaced here

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, wraps
from types import ModuleType, SimpleNamespace
from typing import Any

from lokki.simulate.batch import Jobs, UnknownJob
from lokki.simulate.children import map_failure, run_children_as_aws_does, task_failure
from lokki.simulate.counting import Tally
from lokki.simulate.functions import Functions, UnknownFunction

RETRY = "Waits before a retry are cut to 0.05 seconds."
BATCH = (
    "A Batch job is a process without queue, image and limits; a task that submits one may be retried, as in AWS, "
    "where the interpreter alone would time out."
)
WRITER = (
    "A map's ResultWriter looks up its prefix in the map's input, as in AWS, where the interpreter alone would not; "
    "it writes its manifest only, not the results of the children."
)
_LONGEST_WAIT = 0.05
_POLL = 0.5


def import_parser() -> Any:
    """The interpreter's backends, without all of EC2: Batch's models would import it, and it needs only two names."""
    import moto

    absent = "moto.batch" not in sys.modules
    if absent:
        stub = ModuleType("moto.batch")
        stub.__path__ = [f"{folder}/batch" for folder in moto.__path__]
        sys.modules["moto.batch"] = stub
    from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    if absent:
        del sys.modules["moto.batch"]
    return stepfunctions_parser_backends


def readable(definition: str) -> tuple[str, frozenset[str]]:
    """The definition in the interpreter's grammar, and the names of the maps that lost their EXPRESS children by that.

    It knows STANDARD children only, and percentages only with a decimal point.
    """
    machine = json.loads(definition)
    changed: set[str] = set()
    _rewrite(machine.get("States", {}), changed)
    return json.dumps(machine), frozenset(changed)


def _rewrite(states: Mapping[str, Any], changed: set[str]) -> None:
    for name, state in states.items():
        processor = state.get("ItemProcessor", {})
        config = processor.get("ProcessorConfig", {})
        if config.get("ExecutionType") == "EXPRESS":
            config["ExecutionType"] = "STANDARD"
            changed.add(name)
        if "ToleratedFailurePercentage" in state:
            state["ToleratedFailurePercentage"] = float(state["ToleratedFailurePercentage"])
        for inner in (processor, *state.get("Branches", ())):
            _rewrite(inner.get("States", {}), changed)


def replaces(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put a function in the place of an attribute; its first argument is what was there."""
    found = vars(owner)[name]
    original = found.__func__ if isinstance(found, classmethod | staticmethod) else found

    def put(function: Callable[..., Any]) -> None:
        @wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return function(original, *args, **kwargs)

        kind = type(found) if isinstance(found, classmethod | staticmethod) else None
        setattr(owner, name, kind(replacement) if kind else replacement)

    return put


class Interpreter:
    """The substitutions.

    Args:
        functions: what tasks call.
        jobs: what Batch tasks submit.
        store: an S3 client for readers and writers of maps.
        tally_of: the counts of an execution, by its ARN.
        ended: called with an execution's ARN when it is over.
    """

    def __init__(
        self,
        functions: Functions,
        jobs: Jobs,
        store: Any,
        tally_of: Callable[[str], Tally],
        ended: Callable[[str], None],
    ) -> None:
        self._functions = functions
        self._jobs = jobs
        self._store = store
        self._tally_of = tally_of
        self._ended = ended

    def install(self) -> None:
        """Change the interpreter."""
        _parse_once()
        _keep_no_history()
        _count_states()
        _retry_soon()
        self._know_executions()
        self._call_functions()
        self._submit_jobs()
        self._reach_s3()
        run_children_as_aws_does()

    def _know_executions(self) -> None:
        """Every environment in which states are evaluated knows the counts of its execution."""
        from moto.stepfunctions.parser.asl.eval.environment import Environment
        from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker

        @replaces(ExecutionWorker, "_get_evaluation_environment")
        def environment(original: Any, worker: Any) -> Any:
            env = original(worker)
            env.tally = self._tally_of(worker._evaluation_details.execution_details.arn)
            return env

        @replaces(Environment, "as_inner_frame_of")
        def frame(original: Any, cls: Any, **kwargs: Any) -> Any:
            frame = original(cls, **kwargs)
            frame.tally = kwargs["env"].tally
            return frame

        @replaces(ExecutionWorker, "_execution_logic")
        def execute(original: Any, worker: Any) -> None:
            try:
                original(worker)
            finally:
                self._ended(worker._evaluation_details.execution_details.arn)

    def _call_functions(self) -> None:
        """A task calls a function here, not through a new client over HTTP."""
        from botocore.exceptions import ClientError
        from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils as tasks

        tasks.to_json_str = partial(tasks.to_json_str, separators=(",", ":"))  # AWS sends no spaces either

        @replaces(tasks, "execute_lambda_function_integration")
        def call(_original: Any, env: Any, parameters: dict[str, Any], **_: Any) -> None:
            payload = bytes(parameters.get("Payload", b"{}")).decode()
            env.tally.payload(payload)
            try:
                succeeded, result = self._functions.call(parameters["FunctionName"], payload, env.tally)
            except UnknownFunction as error:
                told = {"Code": "ResourceNotFoundException", "Message": str(error)}
                about = {"HTTPStatusCode": 404, "RequestId": "-"}
                raise ClientError({"Error": told, "ResponseMetadata": about}, "Invoke") from None
            if not succeeded:
                raise tasks.LambdaFunctionErrorException("Unhandled", result)
            env.stack.append({"ExecutedVersion": "$LATEST", "Payload": json.loads(result), "StatusCode": 200})

    def _submit_jobs(self) -> None:
        """A Batch task submits its job here, hears at once when it is over, and does not wait for a used-up token."""
        from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import (
            StateTaskServiceBatch,
        )

        @replaces(StateTaskServiceBatch, "_eval_service_task")
        def submit(_original: Any, task: Any, *, env: Any, normalised_parameters: dict[str, Any], **_: Any) -> None:
            try:
                submitted = self._jobs.submit(normalised_parameters, env.tally)
            except UnknownJob as error:
                raise task_failure(env, task, "Batch.ClientException", str(error)) from None
            env.tally.substituted(BATCH)
            env.job = submitted
            env.stack.append({name: submitted.describe()[name] for name in ("JobId", "JobName")})

        @replaces(StateTaskServiceBatch, "_build_sync_resolver")
        def resolver(_original: Any, task: Any, *, env: Any, **_: Any) -> Callable[[], Any]:
            env.stack.pop()
            submitted = env.job

            def resolve() -> Any:
                while env.is_running() and not submitted.over.wait(_POLL):
                    continue
                if submitted.status == "FAILED":
                    raise task_failure(env, task, "States.TaskFailed", json.dumps(submitted.describe()))
                return submitted.describe()

            return resolve

        StateTaskServiceBatch._eval_sync = lambda _task, sync_resolver, **_: sync_resolver()

    def _reach_s3(self) -> None:
        """Readers and writers of maps share a client; their requests count, and a reader's error has AWS's name."""
        from botocore.exceptions import ClientError
        from moto.stepfunctions.parser.asl.component.state.exec.state_map.item_reader.eval import (
            resource_eval_s3 as reader,
        )
        from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.resource_eval import (
            resource_eval_s3 as writer,
        )
        from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.result_writer_decl import (
            ResultWriter,
        )

        reader.boto_client_for = writer.boto_client_for = lambda **_: self._store

        @replaces(reader.ResourceEvalS3, "eval_resource")
        def read(original: Any, evaluator: Any, env: Any) -> None:
            env.tally.request("interpreter", "GET" if evaluator.resource.api_action == "getObject" else "LIST")
            try:
                original(evaluator, env)
            except ClientError as error:
                raise map_failure(env, "States.ItemReaderFailed", str(error)) from None

        @replaces(ResultWriter, "_eval_body")
        def write(_original: Any, evaluator: Any, env: Any) -> None:
            env.tally.request("interpreter", "PUT")
            env.tally.substituted(WRITER)
            results = env.stack.pop()
            env.stack.append(env.states.get_input())
            evaluator.parargs.eval(env=env)
            env.stack[-2] = results
            evaluator.resource_eval.eval_resource(env=env)


def _parse_once() -> None:
    """Parse a definition once, not for every execution, and a path once, not at every use; the results never change."""
    from moto.stepfunctions.parser.asl.component.common.path import result_path
    from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
    from moto.stepfunctions.parser.asl.utils import json_path

    AmazonStateLanguageParser.parse = staticmethod(lru_cache(32)(AmazonStateLanguageParser.parse))
    for module in (json_path, result_path):
        module.parse = lru_cache(4096)(module.parse)


def _keep_no_history() -> None:
    """Nobody reads the history of events or the reports of failures, which hold all that a machine ever said."""
    from moto.stepfunctions.parser.asl.component.eval_component import EvalComponent
    from moto.stepfunctions.parser.asl.eval.event.event_manager import EventManager

    def nothing(*_: Any, **__: Any) -> None:
        return None

    EventManager._publish_history_event = nothing
    EvalComponent._log_failure_event_exception = nothing
    EvalComponent._log_exception = nothing


def _count_states() -> None:
    """States entered, what they received and returned, and retries."""
    from moto.stepfunctions.parser.asl.component.common.retry.retry_outcome import RetryOutcome
    from moto.stepfunctions.parser.asl.component.state.exec.execute_state import ExecutionState
    from moto.stepfunctions.parser.asl.component.state.state import CommonStateField

    @replaces(CommonStateField, "_get_state_entered_event_details")
    def entered(original: Any, state: Any, env: Any) -> Any:
        details = original(state, env)
        env.tally.add("states", state.name)
        env.tally.payload(details["input"])
        return details

    @replaces(CommonStateField, "_get_state_exited_event_details")
    def exited(original: Any, state: Any, env: Any) -> Any:
        details = original(state, env)
        env.tally.payload(details["output"])
        return details

    @replaces(ExecutionState, "_handle_retry")
    def retry(original: Any, state: Any, *, env: Any, failure_event: Any) -> Any:
        outcome = original(state, env=env, failure_event=failure_event)
        if outcome == RetryOutcome.CanRetry:
            env.tally.add("retries")
            env.tally.substituted(RETRY)
        return outcome


def _retry_soon() -> None:
    """A simulation shows what is retried, not how long it takes."""
    from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl

    retrier_decl.time = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, _LONGEST_WAIT)))
