"""Executions as jobs of Kubernetes and of Batch, against one PostgreSQL; and what killed processes leave there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.components_image import components_image, docker_run  # noqa: F401 - the first is a fixture
from tests.kubernetes_cluster import Kubernetes
from tests.localstack_server import LocalStack
from tests.twingraph.platforms.amazon import account_with_bucket, lead_there
from tests.twingraph.server.served import PIPES, Served
from twingraph.cli import console
from twingraph.executions import requests
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.server.launching import Launch, Launching

LIBRARIES = ("sqlalchemy", "psycopg*", "typing_extensions.py")
pytestmark = pytest.mark.timeout(300)  # an image is made, and pods come and go
QUEUE, IMAGE = "of-launches", "twingraph-launches-of-tests:1"
URL = "postgresql://db/graph"
VISIT = [{"id": "a", "component": "visit"}]


class Gate:
    """Where executions come to, wherever on this machine they run, and wait."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(60)
        self.port = self._socket.getsockname()[1]
        self._visits: list[socket.socket] = []

    def reached(self) -> Callable[[], None]:
        """Wait until somebody comes; what lets him go."""
        made, _ = self._socket.accept()
        self._visits.append(made)
        return made.close

    def close(self) -> None:
        """Let all go."""
        for each in (self._socket, *self._visits):
            each.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture(scope="session")
def image(components_image: str) -> str:  # noqa: F811 - it is the fixture
    """An image with this library, what it needs of others for PostgreSQL, and what the tests serve."""
    name = f"{components_image}-launched"
    with tempfile.TemporaryDirectory() as folder:
        libraries = Path(folder) / "libraries"
        libraries.mkdir()
        for each in (found for name in LIBRARIES for found in Path(sysconfig.get_path("purelib")).glob(name)):
            copy: Any = shutil.copytree if each.is_dir() else shutil.copy
            copy(each, libraries / each.name)
        shutil.copy(PIPES, folder)
        told = f"FROM {components_image}\nCOPY libraries /libraries\nCOPY {PIPES.name} {PIPES}\n"
        (Path(folder) / "Dockerfile").write_text(told)
        docker_run("docker", "build", "--network=none", f"--tag={name}", folder, DOCKER_BUILDKIT="0")
    return name


@pytest.fixture
def on_kubernetes(kubernetes: Kubernetes, image: str, postgres: str, tmp_path: Path, stack: ExitStack) -> Any:
    """Starts servers that launch executions in the namespace of a test."""
    config = {"kubeconfig": str(kubernetes.server.kubeconfig), "host_network": True, "pull_policy": "Never"}

    def start() -> Served:
        options = ("--db", postgres, "--home", str(tmp_path / "home"), "--launch", "kubernetes", "--image", image)
        more = ("--namespace", kubernetes.namespace, "--launch-config", json.dumps(config))
        made = Served([PIPES], *options, *more)
        stack.callback(made.close)
        return made

    return start


@pytest.fixture
def graph(postgres: str, tmp_path: Path) -> Iterator[Repository]:
    """The graph of that database, from here."""
    recorder = Recorder(postgres.replace("postgresql://", "postgresql+psycopg://"), str(tmp_path / "home"))
    yield recorder.repository()
    recorder.close()


@pytest.fixture
def account(localstack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """An account with a queue, and an image that is a folder: jobs are processes."""
    made = account_with_bucket(localstack)
    lead_there(made, monkeypatch)
    batch = made.client("batch")
    batch.create_compute_environment(computeEnvironmentName="machines", type="MANAGED")
    order = [{"order": 1, "computeEnvironment": "machines"}]
    batch.create_job_queue(jobQueueName=QUEUE, priority=1, computeEnvironmentOrder=order)
    made.put_folders({IMAGE: tmp_path})
    return made


def test_an_execution_is_a_job_that_needs_no_server_to_go_on(
    on_kubernetes: Callable[..., Served], kubernetes: Kubernetes, postgres: str, gate: Gate
) -> None:
    first = on_kubernetes()
    told = first.run("report", n=4)
    assert (told["error"], told["outputs"]) == (None, 6)
    kubernetes.await_none("job")

    first.store("visit", VISIT)
    execution = first.ask("visit", port=gate.port)
    leave = gate.reached()
    (job,) = kubernetes.batch.list_namespaced_job(kubernetes.namespace).items
    (container,) = job.spec.template.spec.containers
    assert container.command == ["twingraph", "worker", "--once", execution, str(PIPES)]
    assert postgres.rpartition("/")[2] not in str(job)  # the database is told in a Secret
    for each in (first.process.pid, *_children(first.process.pid)):
        os.kill(each, 9)
    second = on_kubernetes()
    assert second.http.get(f"/api/executions/{execution}").json()["status"] == "running"
    leave()
    assert second.over(execution)["status"] == "completed"


def test_a_job_ends_when_its_execution_is_stopped_and_its_execution_fails_when_it_dies(
    on_kubernetes: Callable[..., Served], kubernetes: Kubernetes, gate: Gate
) -> None:
    served = on_kubernetes()
    served.store("visit", VISIT)
    stopped, lost = (served.ask("visit", port=gate.port) for _ in range(2))
    for _ in range(2):
        gate.reached()
    served.http.post(f"/api/executions/{stopped}/stop")
    assert served.over(stopped)["status"] == "stopped"
    kubernetes.core.delete_collection_namespaced_pod(
        kubernetes.namespace, label_selector=f"twingraph/run={lost}", grace_period_seconds=0
    )
    told = served.over(lost)
    assert (told["status"], told["error"]["type"]) == ("failed", "crashed")
    assert "its pod was deleted before it returned" in told["error"]["message"]
    kubernetes.await_none("job")


def test_a_job_that_cannot_begin_says_why(kubernetes: Kubernetes, graph: Repository) -> None:
    config = {
        "kubeconfig": str(kubernetes.server.kubeconfig),
        "namespace": kubernetes.namespace,
        "pull_policy": "Never",
    }
    launching = Launching(Launch("kubernetes", "twingraph-never-made:1", config), [], graph.url)
    _ask(graph, "one", "load", {})
    ticket = launching.ticket()
    assert requests.claim(graph, f"somebody {ticket}", "one") == "one"
    launched = launching.begin(graph, "one", f"somebody {ticket}", ticket)
    launched.channel.socket.setblocking(True)
    assert (launched.hear(), launched.silent, launched.is_lost()) == ([], True, True)
    launched.channel.close()
    assert launched.why().startswith("Execution 'one' on platform 'kubernetes': the image 'twingraph-never-made:1' is ")
    assert "ErrImageNeverPull" in launched.why()
    kubernetes.await_none("job")


def test_an_execution_is_a_job_of_batch(
    account: LocalStack, postgres: str, tmp_path: Path, stack: ExitStack, gate: Gate
) -> None:
    variables = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    options = ("--db", postgres, "--home", str(tmp_path / "home"), "--launch", "batch", "--image", IMAGE)
    more = ("--job-queue", QUEUE, "--memory", "1G", "--launch-config", json.dumps({"environment": variables}))
    served = Served([PIPES], *options, *more)
    stack.callback(served.close)
    told = served.run("report", n=4)
    assert (told["error"], told["outputs"]) == (None, 6)

    served.store("visit", VISIT)
    stopped = served.ask("visit", port=gate.port)
    gate.reached()
    job = _job_of(account, stopped)
    assert job["container"]["resourceRequirements"] == [{"type": "MEMORY", "value": "1024"}]
    served.http.post(f"/api/executions/{stopped}/stop")
    assert served.over(stopped)["status"] == "stopped"

    lost = served.ask("visit", port=gate.port)
    gate.reached()
    account.client("batch").terminate_job(jobId=_job_of(account, lost)["jobId"], reason="A test does so")
    told = served.over(lost)
    assert (told["status"], told["error"]["type"]) == ("failed", "crashed")
    assert "needed more memory than the job has, 1,024 MiB" in told["error"]["message"]
    assert len(account.client("batch").describe_job_definitions()["jobDefinitions"]) == 1


FAR = """
import threading
from twingraph import component

@component(platform={platform!r}, docker_image={image!r}, config={config!r})
def far():
    threading.Event().wait()
"""


def test_what_a_killed_server_left_on_kubernetes_is_removed(
    serve: Callable[..., Served], kubernetes: Kubernetes, tmp_path: Path
) -> None:
    config = {"kubeconfig": str(kubernetes.server.kubeconfig), "namespace": kubernetes.namespace}
    text = FAR.format(platform="kubernetes", image="python:3.13-slim", config=config)
    runs = partial(kubernetes.await_, "pod", lambda _, pod: pod.status.phase == "Running")
    _killed_while_far(serve, tmp_path, text, runs)
    for kind in ("job", "pod", "secret"):
        kubernetes.await_none(kind, label_selector="app.kubernetes.io/managed-by=twingraph")


def test_what_a_killed_server_left_on_batch_is_ended(
    serve: Callable[..., Served], account: LocalStack, tmp_path: Path
) -> None:
    text = FAR.format(platform="batch", image=IMAGE, config={"job_queue": QUEUE})
    execution = _killed_while_far(serve, tmp_path, text, lambda: _job_of(account, "", "RUNNING"))
    while (job := _job_of(account, execution))["status"] != "FAILED":
        pass
    assert job["statusReason"] == "The process of TwinGraph that waited for it is no more"


def test_a_worker_runs_one_execution_and_says_how_it_went(postgres: str, graph: Repository, tmp_path: Path) -> None:
    options = ("--db", postgres, "--home", str(tmp_path / "home"))
    _ask(graph, "one", "load", {"n": 2})
    _ask(graph, "two", "crash", {})
    assert _once(*options) == 0
    assert (requests.status(graph, "one"), requests.status(graph, "two")) == ("completed", "pending")
    assert _once("two", *options) == 3
    assert _once("two", *options) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["kubernetes", "--image", "flows:1"], "need a database that they reach: --db postgresql://"),
        (["kubernetes", "--db", URL], "Name the image that executions run in"),
        (["batch", "--db", URL, "--image", "a", "--job-definition", "b"], "Name either a job definition or the image"),
        (["batch", "--db", URL, "--launch-config", '{"array_size": 2}'], "has no option 'array_size'; it has "),
        (["batch", "--db", URL, "--launch-config", "fast"], "--launch-config takes a JSON object such as"),
    ],
)
def test_what_cannot_be_launched_is_said_at_once(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        console(["worker", "--launch", *options])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err


def _killed_while_far(serve: Callable[..., Served], folder: Path, text: str, begun: Callable[[], Any]) -> str:
    """The execution of a server that is killed with all its processes, and that another one has found."""
    file = folder / "far.py"
    file.write_text(text)
    first = serve(files=[file])
    first.store("far", [{"id": "far", "component": "far"}])
    execution = first.ask("far")
    begun()
    nursery = _children(first.process.pid)
    for pid in (first.process.pid, *nursery, *(child for each in nursery for child in _children(each))):
        os.kill(pid, 9)
    assert serve(files=[file]).over(execution)["error"]["type"] == "interrupted"
    return execution


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


def _job_of(account: LocalStack, execution: str, status: str = "") -> dict[str, Any]:
    """The job of an execution, or of any, when it has that status."""
    batch = account.client("batch")
    while True:
        names = [each["jobId"] for each in batch.list_jobs(jobQueue=QUEUE, filters=ALL)["jobSummaryList"]]
        for job in batch.describe_jobs(jobs=names)["jobs"] if names else ():
            if status in ("", job["status"]) and execution in ("", job["tags"]["twingraph:run"]):
                return dict(job)


ALL = [{"name": "JOB_NAME", "values": ["*"]}]


def _ask(graph: Repository, execution: str, component: str, inputs: dict[str, Any]) -> None:
    from twingraph.executions import definitions

    nodes = {"nodes": [{"id": "a", "component": component}], "edges": []}
    definitions.put(graph, component, name=component, definition=nodes, metadata={}, tags=[], status="active")
    requests.ask(graph, [requests.Asked(execution, component, component, inputs, {})])


def _once(*options: str) -> int:
    command = [sys.executable, "-c", "from twingraph.cli import console; console()", "worker", str(PIPES), "--once"]
    return subprocess.run([*command, *options], timeout=60, check=False).returncode
