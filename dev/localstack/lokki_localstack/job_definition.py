"""`AWS::Batch::JobDefinition` in templates: its properties are those of the API, an update registers a new revision."""

from __future__ import annotations

from typing import Any

from localstack.services.cloudformation import provider_utils
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent, ResourceProvider

_NAME, _ARN = "JobDefinitionName", "JobDefinitionArn"


class JobDefinition(ResourceProvider):
    """A job definition; LocalStack's clients for such providers change the spelling of the names."""

    TYPE = "AWS::Batch::JobDefinition"
    SCHEMA = {  # noqa: RUF012 - as LocalStack reads it
        "primaryIdentifier": [f"/properties/{_ARN}"],
        "readOnlyProperties": [f"/properties/{_ARN}"],
        "createOnlyProperties": [f"/properties/{_NAME}"],
        "properties": {},
    }

    def create(self, request: Any) -> Any:
        model = request.desired_state
        model[_NAME] = model.get(_NAME) or provider_utils.generate_default_name(
            stack_name=request.stack_name, logical_resource_id=request.logical_resource_id
        )
        return self._register(request, model)

    def update(self, request: Any) -> Any:
        before = request.previous_state
        request.aws_client_factory.batch.deregister_job_definition(JobDefinition=before[_ARN])
        return self._register(request, {**before, **request.desired_state})

    def delete(self, request: Any) -> Any:
        request.aws_client_factory.batch.deregister_job_definition(JobDefinition=request.desired_state[_ARN])
        return ProgressEvent(OperationStatus.SUCCESS, resource_model=request.desired_state)

    def read(self, request: Any) -> Any:
        return ProgressEvent(OperationStatus.SUCCESS, resource_model=request.desired_state)

    def _register(self, request: Any, model: dict[str, Any]) -> Any:
        properties = {name: value for name, value in model.items() if name != _ARN}
        answer = request.aws_client_factory.batch.register_job_definition(**properties)
        model[_ARN] = answer["jobDefinitionArn"]
        return ProgressEvent(OperationStatus.SUCCESS, resource_model=model)
