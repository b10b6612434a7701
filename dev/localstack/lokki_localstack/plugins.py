"""What LocalStack finds of this package, by the entry points in `pyproject.toml`."""

from __future__ import annotations

from typing import Any

from localstack.runtime import hooks
from localstack.services.cloudformation.resource_provider import CloudFormationResourceProviderPlugin
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.plugins import Service, aws_provider


class ProcessExecutor(RuntimeExecutorPlugin):
    """What runs functions with `LAMBDA_RUNTIME_EXECUTOR=process`."""

    name = "process"

    def load(self, *args: Any, **kwargs: Any) -> Any:
        from lokki_localstack.executor import ProcessRuntimeExecutor

        return ProcessRuntimeExecutor


@hooks.on_infra_start()
def install() -> None:
    """Put into the LocalStack that starts what corrects it."""
    from lokki_localstack import corrections, definitions, images, maps, stacks

    for room in (corrections, definitions, images, maps, stacks):
        room.install()


@aws_provider()
def batch() -> Service:
    """AWS Batch."""
    from lokki_localstack.batch import BatchProvider

    return Service.for_provider(BatchProvider(), dispatch_table_factory=BatchProvider.dispatch_table)


@aws_provider()
def ecr() -> Service:
    """The API of ECR, from moto: repositories and records of images, but no registry."""
    from localstack.aws.skeleton import Skeleton
    from localstack.aws.spec import load_service
    from localstack.services.moto import call_moto

    service = load_service("ecr")
    operations = dict.fromkeys(service.operation_names, lambda context, _: call_moto(context))
    return Service(name="ecr", skeleton=Skeleton(service, operations))


class JobDefinitionPlugin(CloudFormationResourceProviderPlugin):
    """The job definitions of Batch in templates."""

    name = "AWS::Batch::JobDefinition"

    def __init__(self) -> None:
        self.factory: Any = None

    def load(self) -> None:
        from lokki_localstack.job_definition import JobDefinition

        self.factory = JobDefinition
