"""Lambda functions as processes of this machine: zips and folders under its Python, images in containers of Docker."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localstack import config
from localstack.aws.api.lambda_ import PackageType
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import LambdaRuntimeException, RuntimeExecutor

from lokki_localstack import images
from lokki_localstack.environment import Environment, Limits
from lokki_localstack.process import Launch
from lokki_localstack.runtime_api import Invocation

HOST = "127.0.0.1"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_FOR_CONTAINERS = ("LOCALSTACK_RUNTIME_ID", "LOCALSTACK_RUNTIME_ENDPOINT", "LOCALSTACK_USER")


def python_of(runtime: str | None) -> Path:
    """The interpreter of a runtime such as `python3.13`, the newest there is for none."""
    home = Path(os.environ["LOKKI_FUNCTIONS"])
    version = (runtime or "").removeprefix("python")
    if version:
        python = home / f"functions-{version}" / "bin" / "python"
        if not python.exists():
            raise LambdaRuntimeException(
                f"There is no Python for the runtime {runtime}: start LocalStack with dev/localstack/start {version}"
            )
        return python
    found = sorted(home.glob("functions-3.*"), key=lambda path: int(path.name.partition(".")[2]))
    return found[-1] / "bin" / "python"


class ProcessRuntimeExecutor(RuntimeExecutor):
    """An execution environment of a version of a function, as LocalStack wants it."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002 - as LocalStack calls it
        super().__init__(id=id, function_version=function_version)
        self._environment: Environment | None = None
        self._tmp: Path | None = None

    def start(self, env_vars: dict[str, str]) -> None:
        self._tmp = Path(tempfile.mkdtemp(prefix="lambda-"))
        version = self.function_version
        limits = Limits(float(version.config.timeout), version.config.memory_size, version.id.qualifier)
        self._environment = Environment(_launch(version, env_vars, self._tmp), limits)
        self._environment.start()

    def stop(self) -> None:
        if self._environment:
            self._environment.stop()
        if self._tmp:
            shutil.rmtree(self._tmp, ignore_errors=True)

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        if self._environment is None:
            raise LambdaRuntimeException(f"The executor {self.id} was not started")
        call = payload["invoke-id"]
        invocation = Invocation(call, payload["payload"].encode(), payload["invoked-function-arn"], payload["trace-id"])
        outcome = self._environment.invoke(invocation)
        return InvocationResult(call, outcome.payload, is_error=outcome.is_error, logs=outcome.logs)

    def get_logs(self) -> str:
        return self._environment.history() if self._environment else ""

    def get_address(self) -> str:
        return HOST

    def get_endpoint_from_executor(self) -> str:
        return HOST

    def get_runtime_endpoint(self) -> str:
        return f"http://{HOST}:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        said = function_version.config
        if said.package_type == PackageType.Image:
            if images.folder(said.image.image_uri) is None and not images.in_docker(said.image.image_uri):
                raise LambdaRuntimeException(images.missing(said.image.image_uri))
        else:
            python_of(str(said.runtime))
            said.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """LocalStack removes what it unzipped."""


def _launch(version: FunctionVersion, env_vars: Mapping[str, Any], tmp: Path) -> Launch:
    said = version.config
    env = {name: str(value) for name, value in env_vars.items() if name not in _FOR_CONTAINERS}
    if said.package_type != PackageType.Image:
        code = Path(said.code.get_unzipped_code_location())
        return _process(code, str(said.handler), python_of(str(said.runtime)), env, tmp)
    uri = said.image.image_uri
    command = (said.image_config and said.image_config.command) or []
    if folder := images.folder(uri):
        return _process(folder, command[0] if command else images.handler(folder), python_of(None), env, tmp)
    return _container(uri, command, env, said.memory_size)


def _process(code: Path, handler: str, python: Path, env: Mapping[str, str], tmp: Path) -> Launch:
    """The real runtime client; what it sees is what Lambda's Python has, and nothing of LocalStack's own."""
    own = {
        "LANG": "C.UTF-8",
        "HOME": str(tmp),
        "TMPDIR": str(tmp),
        **env,
        "_HANDLER": handler,
        "LAMBDA_TASK_ROOT": str(code),
        "LD_LIBRARY_PATH": f"{code}:{code}/lib",
        "PATH": f"{python.parent}:{SYSTEM_PATH}",
    }
    return Launch([str(python), "-m", "awslambdaric", handler], own, code)


def _container(image: str, command: list[str], env: Mapping[str, str], memory_mb: int) -> Launch:
    """The image in Docker. Its entry point starts the runtime client where AWS_LAMBDA_RUNTIME_API is set."""
    name = f"lokki-lambda-{uuid.uuid4().hex}"
    memory = [f"--memory={memory_mb}m", f"--memory-swap={memory_mb}m"]
    handed = [f"--env={variable}" for variable in (*env, "AWS_LAMBDA_RUNTIME_API") if variable != "PATH"]
    run = ["docker", "run", "--rm", "--network=host", f"--name={name}", *memory, *handed, image, *command]
    return Launch(run, {**os.environ, **env, "PATH": os.environ["PATH"]}, Path("/"), name)
