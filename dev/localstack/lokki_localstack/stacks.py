"""What CloudFormation does and LocalStack's does not: events say which request led to them, and others' things stay.

- Events bear the `ClientRequestToken` of the request that they follow from.
- Removing a stack removes what the stack has made. LocalStack removes whatever has the name of a resource, also where
  the creation failed because something of somebody else's had that name.
"""

from __future__ import annotations

import functools
from typing import Any

from localstack.aws.api.cloudformation import ChangeAction, ResourceStatus
from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localstack.services.cloudformation.models import get_cloudformation_store
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.cloudformation.v2.entities import Stack
from localstack.services.cloudformation.v2.provider import (
    CloudformationProviderV2,
    find_change_set_v2,
    find_stack_v2,
)


def install() -> None:
    """Correct CloudFormation."""
    _name_requests()
    _leave_others_things()


def _name_requests() -> None:
    provider = CloudformationProviderV2
    execute, remove, store = provider.execute_change_set, provider.delete_stack, Stack._store_event

    @functools.wraps(execute)
    def executed(self: Any, context: Any, change_set_name: str, stack_name: str | None = None, **more: Any) -> Any:
        state = get_cloudformation_store(context.account_id, context.region)
        if found := find_change_set_v2(state, change_set_name, stack_name):
            found.stack.request_token = more.get("client_request_token")
        return execute(self, context, change_set_name=change_set_name, stack_name=stack_name, **more)

    @functools.wraps(remove)
    def removed(self: Any, context: Any, stack_name: str, **more: Any) -> Any:
        if found := find_stack_v2(get_cloudformation_store(context.account_id, context.region), stack_name):
            found.request_token = more.get("client_request_token")
        return remove(self, context, stack_name=stack_name, **more)

    def stored(self: Any, **told: Any) -> None:
        store(self, **told)
        if token := getattr(self, "request_token", None):
            self.events[0]["ClientRequestToken"] = token

    provider.execute_change_set, provider.delete_stack, Stack._store_event = executed, removed, stored


def _leave_others_things() -> None:
    act = ChangeSetModelExecutor._execute_resource_action

    @functools.wraps(act)
    def acted(self: Any, *, action: ChangeAction, logical_resource_id: str, **more: Any) -> Any:
        if action == ChangeAction.Remove and _is_others(self._change_set.stack, logical_resource_id):
            return ProgressEvent(OperationStatus.SUCCESS, resource_model={})
        return act(self, action=action, logical_resource_id=logical_resource_id, **more)

    ChangeSetModelExecutor._execute_resource_action = acted


def _is_others(stack: Stack, logical_resource_id: str) -> bool:
    """Whether a stack has not made what has the name of this resource."""
    made = stack.resolved_resources.get(logical_resource_id)
    if made is None:
        return True
    failed = made["ResourceStatus"] == ResourceStatus.CREATE_FAILED
    return failed and "already exist" in str(made.get("ResourceStatusReason", "")).lower()
