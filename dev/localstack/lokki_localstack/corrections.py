"""What LocalStack accepts and then does not do, and what it does slowly.

- It listens on all interfaces, whatever `GATEWAY_LISTEN` says. Functions run on this machine itself, so nobody else
  may be able to create one.
- Of templates it drops `RetentionInDays` of log groups, and `EphemeralStorage` and `ReservedConcurrentExecutions` of
  functions. Resources of types that it does not know it reports as created; here they fail.
- It removes the code of a function when it has got new one, while a call that came just before still starts a process
  of the old code. AWS keeps it as long as it is in use; here it stays a minute longer.
- It remembers every thread of every execution, and with that the stack of each: after some runs of a map of 1,000 items
  no further thread can be started.
- Each task of a state machine assumes the role again and makes a new client, each JSONPath is parsed again, and each
  call of a function becomes figures in CloudWatch. These take most of the time of a state that calls a small function.
- It looks every half second whether a function is there, and every second whether one has got its new code, and once
  more for its new configuration. Both take a few hundredths of a second here.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from botocore.config import Config
from botocore.waiter import Waiter
from localstack import config
from localstack.aws.connect import connect_to
from localstack.runtime.server import twisted
from localstack.services.cloudformation.engine.v2 import change_set_model_executor
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.lambda_ import provider as functions
from localstack.services.lambda_.invocation import version_manager
from localstack.services.lambda_.invocation.lambda_models import S3Code
from localstack.services.lambda_.resource_providers.aws_lambda_function import LambdaFunctionProvider
from localstack.services.logs.resource_providers.aws_logs_loggroup import LogsLogGroupProvider
from localstack.services.stepfunctions.asl.component.common.path import result_path
from localstack.services.stepfunctions.asl.component.program import program
from localstack.services.stepfunctions.asl.component.state.state_execution import execute_state
from localstack.services.stepfunctions.asl.component.state.state_execution.state_map.iteration import (
    inline_iteration_component,
)
from localstack.services.stepfunctions.asl.component.state.state_execution.state_parallel import branch_worker
from localstack.services.stepfunctions.asl.utils import boto_client, json_path
from localstack.services.stepfunctions.backend import execution_worker

_CONNECTIONS = 100
_OLD_CODE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 300.0
Apply = Callable[[Mapping[str, Any], Any], None]


def install() -> None:
    """Correct the LocalStack that starts."""
    _listen_where_told()
    _follow_templates()
    _keep_old_code()
    _forget_threads()
    _be_quick()


def _listen_where_told() -> None:
    original = twisted.endpoints

    def endpoint(reactor: Any, port: int) -> Any:
        host = next(each.host for each in config.GATEWAY_LISTEN if each.port == port)
        return original.TCP4ServerEndpoint(reactor, port, interface=host)

    ends = {"TCP4ServerEndpoint": endpoint, "TCP6ServerEndpoint": original.TCP6ServerEndpoint}
    twisted.endpoints = SimpleNamespace(**ends)


def _follow_templates() -> None:
    for provider, apply in ((LogsLogGroupProvider, _keep_lines), (LambdaFunctionProvider, _limit)):
        for name in ("create", "update"):
            setattr(provider, name, _then(getattr(provider, name), apply))
    change_set_model_executor.should_ignore_unsupported_resource_type = lambda **_: False


def _then(method: Callable[..., Any], apply: Apply) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, request: Any) -> Any:
        try:
            event = method(self, request)
        except NotImplementedError:
            if not request.previous_state:
                raise
            # what `apply` does not change stays as it was
            model = {**request.previous_state, **request.desired_state}
            event = ProgressEvent(OperationStatus.SUCCESS, resource_model=model)
        if event.status == OperationStatus.SUCCESS:  # some providers are called again until they are done
            apply(event.resource_model or request.desired_state, request.aws_client_factory)
        return event

    return wrapper


def _keep_lines(model: Mapping[str, Any], clients: Any) -> None:
    name = model["LogGroupName"]
    if days := model.get("RetentionInDays"):
        clients.logs.put_retention_policy(logGroupName=name, retentionInDays=int(days))
    else:
        clients.logs.delete_retention_policy(logGroupName=name)


def _limit(model: Mapping[str, Any], clients: Any) -> None:
    name = model["FunctionName"]
    if storage := model.get("EphemeralStorage"):
        size = {"Size": int(storage["Size"])}
        clients.lambda_.update_function_configuration(FunctionName=name, EphemeralStorage=size)
        clients.lambda_.get_waiter("function_updated_v2").wait(FunctionName=name)
    if (reserved := model.get("ReservedConcurrentExecutions")) is not None:
        clients.lambda_.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=int(reserved))
    else:
        clients.lambda_.delete_function_concurrency(FunctionName=name)


def _keep_old_code() -> None:
    remove = S3Code.destroy

    def later(self: Any) -> None:
        timer = threading.Timer(_OLD_CODE_SECONDS, remove, [self])
        timer.daemon = True
        timer.start()

    S3Code.destroy = later


def _forget_threads() -> None:
    for room in (program, execute_state, execution_worker, inline_iteration_component, branch_worker):
        room.TMP_THREADS = deque(maxlen=0)


def _be_quick() -> None:
    for room in (json_path, result_path):
        room.parse = lru_cache(maxsize=4096)(room.parse)
    boto_client.connect_to = _KnownRoles()
    version_manager.start_thread = _unless_for_figures(version_manager.start_thread)
    functions.poll_condition = functools.partial(functions.poll_condition, interval=_LOOK_SECONDS)
    Waiter.wait = _looking_often(Waiter.wait)


class _KnownRoles:
    """In place of `connect_to`, as far as tasks of state machines use it."""

    @staticmethod
    @lru_cache(maxsize=256)
    def with_assumed_role(role_arn: str, service_principal: Any, region_name: str, config: Config) -> Any:
        factory = connect_to.with_assumed_role(
            role_arn=role_arn,
            service_principal=service_principal,
            region_name=region_name,
            config=config.merge(Config(max_pool_connections=_CONNECTIONS)),
        )
        return SimpleNamespace(get_client=lru_cache(maxsize=None)(lambda service: factory.get_client(service=service)))


def _unless_for_figures(start_thread: Callable[..., Any]) -> Callable[..., Any]:
    def started(method: Any, *given: Any, name: str | None = None, **more: Any) -> Any:
        for_figures = name is not None and name.startswith("record-cloudwatch-metric")
        return None if for_figures else start_thread(method, *given, name=name, **more)

    return started


def _looking_often(wait: Callable[..., Any]) -> Callable[..., Any]:
    often = {"Delay": _LOOK_SECONDS, "MaxAttempts": int(_PATIENCE_SECONDS / _LOOK_SECONDS)}

    @functools.wraps(wait)
    def waited(self: Any, **given: Any) -> Any:
        if self.name == "FunctionUpdatedV2":
            given.setdefault("WaiterConfig", often)
        return wait(self, **given)

    return waited
