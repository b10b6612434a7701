"""A simulation: a flow is built, what was built is executed in the engine, and its result is read from the store.

Functions are processes of the packaged code with the environment that the template gives them; jobs likewise. Where
the engine or this machine does otherwise than AWS, the outcome says so.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from lokki.builder.builder import Bundle, compile_flow
from lokki.builder.package import ZIP
from lokki.errors import ParameterError
from lokki.frozen import frozen, replace
from lokki.graph import FlowGraph, Map
from lokki.jsonable import plain
from lokki.runtime.invoke import Held, picked
from lokki.runtime.parts import Parts
from lokki.runtime.program import MENDING, parameters
from lokki.sentences import utc_now
from lokki.settings import LokkiConfig
from lokki.simulate.engine import Engine, Execution, Function, Job, Machine
from lokki.simulate.template import Template
from lokki.store.s3 import S3Store

_BUCKET = "lokki-simulation"
_QUEUE = "lokki-simulation"
_OWN_ENVIRONMENT = "Packages that the image would install are taken from this environment."
_OWN_PYTHON = "Functions run on this machine's Python and processor."
_RESOLVED = re.compile(r"\{\{resolve:secretsmanager:(?P<arn>arn:.+?):SecretString(?::(?P<key>[^:}]+))?\}\}")
_SECRETS = "Secrets have the values of the variables of the same names here, else a made-up one."


@frozen
class StepError:
    """A failure that a step left behind: which step, on which item, and what."""

    step: str
    index: tuple[int, ...]
    item: str
    error: str
    traceback: str


@frozen
class Outcome:
    """How a simulation ended; `value` is the flow's result where it succeeded, `errors` are the failures of steps."""

    bundle: Bundle
    execution: Execution
    value: Any
    errors: tuple[StepError, ...]
    substitutions: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Whether the execution reached its end."""
        return self.execution.status == "SUCCEEDED"


class Simulation:
    """A flow that was built and deployed to an engine; `execute` runs it, as often as one likes.

    Args:
        graph: what calling the flow returned.
        config: the configuration; what only AWS has is made up where it is missing.
        engine: where to deploy it.
        folder: where packages are unpacked; it has to stay as long as this is used.
        defaults: parameters that executions use when their input does not give them.
        items_limit: how many items of each map run at most; 0 for all.
    """

    def __init__(
        self,
        graph: FlowGraph,
        config: LokkiConfig,
        engine: Engine,
        folder: str,
        *,
        defaults: Mapping[str, Any] | None = None,
        items_limit: int = 0,
    ) -> None:
        self._engine = engine
        self._config = _for_simulation(config)
        self._graph = graph
        self.bundle = compile_flow(graph, self._config, defaults, here=True)
        self._template = Template(self.bundle.files["template.yaml"].decode())
        self._name = self._template.machine[0]
        self._secrets = _secret_values(self._config)
        limit = {"LOKKI_ITEMS_LIMIT": str(items_limit)} if items_limit else {}
        engine.deploy(self._machine(folder, limit))

    def execute(
        self,
        given: Mapping[str, Any] | None = None,
        name: str | None = None,
        timeout: float = 3600,
        watch: Callable[[Mapping[str, int]], None] | None = None,
    ) -> Outcome:
        """Execute the flow.

        Args:
            given: the execution's input: parameters, `run_id`.
            name: the execution's name, made up when none is given.
            timeout: seconds until it is ended.
            watch: called every second or so with the states that were entered so far, by name.
        """
        started = utc_now()
        execution = self._engine.execute(self._name, given or {}, name, timeout, watch)
        store = self._store()
        run_id = _run_id(execution, given or {})
        value: Any = None
        errors: tuple[StepError, ...] = ()
        if execution.status == "SUCCEEDED":
            value = self._result(store, run_id, execution.name if (given or {}).get(MENDING) else "")
        else:
            errors = tuple(self._errors(store, f"{self._name}/runs/{run_id}/errors", started))
        return Outcome(self.bundle, execution, value, errors, (*execution.substitutions, *self._substitutions()))

    def _result(self, store: S3Store, run_id: str, mending: str) -> Any:
        output = self._graph.output
        node = self._graph.node(output.node)
        parts = Parts(store, self._name, run_id, mending=mending)
        at_end = parts.gathered(node, None) if isinstance(node, Map) else parts.outputs(node.id, None)
        return picked(output, {node.id: Held(at_end[0].value)})

    def _store(self) -> S3Store:
        aws = self._config.aws
        return S3Store(
            self._engine.endpoint, bucket=aws.artifact_bucket, prefix=aws.prefix, client=self._engine.client("s3")
        )

    def _machine(self, folder: str, environment: Mapping[str, str]) -> Machine:
        name, definition = self._template.machine
        packages = os.path.join(folder, self.bundle.functions.digest[:16])
        jobs = os.path.join(folder, "jobs", self.bundle.jobs.digest[:16]) if self.bundle.jobs else ""
        _unpack(self.bundle, packages, jobs)
        self._folders = [each for each in (packages, jobs) if each]
        imports = "packaged" if self._config.lambda_.package_type == "zip" else "environment"
        return Machine(
            name,
            definition,
            tuple(
                Function(
                    each["FunctionName"],
                    arn,
                    packages,
                    environment={**self._variables(each["Environment"]["Variables"]), **environment},
                    timeout=each["Timeout"],
                    memory=each["MemorySize"],
                    imports=imports,
                )
                for arn, each in self._template.functions.items()
            ),
            tuple(
                Job(
                    each["JobDefinitionName"],
                    arn,
                    jobs,
                    tuple(each["ContainerProperties"]["Command"]),
                    {**self._variables(_of_container(each)), **environment},
                    each["Timeout"]["AttemptDurationSeconds"],
                    "environment",
                )
                for arn, each in self._template.jobs.items()
            ),
            self._config.aws.artifact_bucket,
            self._secrets,
        )

    def _variables(self, written: Mapping[str, str]) -> dict[str, str]:
        """An environment as the template writes it, with the secrets in it that CloudFormation would put there."""

        def value(found: re.Match[str]) -> str:
            text = self._secrets[found["arn"]]
            return str(json.loads(text)[found["key"]]) if found["key"] else text

        return {name: _RESOLVED.sub(value, each) for name, each in written.items()}

    def _errors(self, store: S3Store, under: str, started: str) -> Iterator[StepError]:
        """The failures of this execution, where earlier ones under its run id may have left others.

        Their tracebacks name the files that were packaged.
        """
        for key in store.keys(under):
            told = json.loads(store.blob(key))
            if told["ts"] < started:
                continue
            trace = told["traceback"]
            for folder in self._folders:
                trace = trace.replace(f"{folder}{os.sep}", f"{self.bundle.root}{os.sep}")
            yield StepError(told["step"], tuple(told["index"]), told["item"], told["error"], trace)

    def _substitutions(self) -> Iterator[str]:
        yield _OWN_PYTHON
        if self._config.lambda_.package_type == "image" or self.bundle.jobs:
            yield _OWN_ENVIRONMENT
        if self._config.secrets.secret_arns:
            yield _SECRETS


@contextmanager
def simulation(
    graph: FlowGraph,
    config: LokkiConfig,
    *,
    engine: Engine | None = None,
    defaults: Mapping[str, Any] | None = None,
    items_limit: int = 0,
) -> Iterator[Simulation]:
    """A simulation in a folder of its own, in an engine of its own unless one is given."""
    with (
        tempfile.TemporaryDirectory(prefix="lokki-simulation-") as folder,
        nullcontext(engine) if engine else Engine() as running,
    ):
        yield Simulation(graph, config, running, folder, defaults=defaults, items_limit=items_limit)


def input_of(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters as an execution's input; and those that JSON has no word for, which become defaults of the build."""
    given: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in params.items():
        try:
            is_json = plain(value) == value
        except TypeError:
            is_json = False
        (given if is_json else others)[name] = value
    return given, others


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same: equal, or where equality is no plain yes or no, of the same content."""
    from lokki.codec import encode

    if type(one) is not type(other):
        return False
    try:
        if bool(one == other):
            return True
    except Exception:  # noqa: BLE001 - an array or a frame has its own idea of equality
        equals = getattr(one, "equals", None)
        if equals is not None:
            return bool(equals(other))
    if isinstance(one, list | tuple) and len(one) == len(other):
        return all(map(same, one, other))
    if isinstance(one, dict) and one.keys() == other.keys():
        return all(same(one[key], other[key]) for key in one)
    return encode(one) == encode(other)


def _for_simulation(config: LokkiConfig) -> LokkiConfig:
    aws = replace(config.aws, artifact_bucket=config.aws.artifact_bucket or _BUCKET, endpoint="")
    return replace(config, aws=aws, batch=replace(config.batch, job_queue=config.batch.job_queue or _QUEUE))


def _unpack(bundle: Bundle, functions: str, jobs: str) -> None:
    """Put the packages where processes can run them."""
    if ZIP in bundle.files:
        import io
        from zipfile import ZipFile

        with ZipFile(io.BytesIO(bundle.files[ZIP])) as archive:
            archive.extractall(functions)
    for path, content in bundle.files.items():
        top, _, rest = path.partition("/")
        target = {"lambdas": functions, "batch": jobs}.get(top)
        if target and rest and path != ZIP:
            whole = os.path.join(target, rest)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "wb") as file:
                file.write(content)


def _of_container(job: Mapping[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in job["ContainerProperties"].get("Environment", ())}


def _secret_values(config: LokkiConfig) -> dict[str, str]:
    """A value for each secret: for one that a JSON key is picked from, an object with all keys that are."""
    plain_texts: dict[str, str] = {}
    objects: dict[str, dict[str, str]] = {}
    for name, each in config.secrets.secret_arns.items():
        arn, _, key = each.partition(":SecretString:")
        value = os.environ.get(name, f"simulated {name}")
        if key:
            objects.setdefault(arn, {})[key] = value
        else:
            plain_texts[arn] = value
    return {**plain_texts, **{arn: json.dumps(each) for arn, each in objects.items()}}


def _run_id(execution: Execution, given: Mapping[str, Any]) -> str:
    """Under which run id the functions left what they made."""
    try:
        return parameters({"params": given, "execution": execution.name})[1]
    except ParameterError:  # which is how the execution ended
        return execution.name
