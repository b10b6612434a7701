"""Calls as jobs of Kubernetes: of the stand-in, or of a real cluster."""

# ruff: noqa: T201 - components print
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.platform import PlatformContract
from tests.docker_engine import Docker
from tests.kubernetes_cluster import Kubernetes as Namespace
from tests.twingraph.calling import Heard, placed
from twingraph.errors import ComponentError, PlatformError, PlatformUnavailableError
from twingraph.placed import Placed
from twingraph.placement import Placement
from twingraph.platforms.base import run
from twingraph.platforms.kubernetes import Kubernetes

IMAGE = "python:3.13-slim"
HERE = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
OURS = "app.kubernetes.io/managed-by=twingraph"


def places(namespace: Namespace, config: Any = None, **told: Any) -> Placement:
    """Where calls run: in the namespace of a test."""
    told.setdefault("image", IMAGE)
    own = {"kubeconfig": str(namespace.server.kubeconfig), "namespace": namespace.namespace, **(config or {})}
    return Placement("kubernetes", config=own, **told)


def leftovers(namespace: Namespace) -> list[str]:
    """What is still there when everything that is being deleted is gone."""
    for what in ("pod", "job", "secret"):
        namespace.await_none(what, label_selector=OURS)
    return []


class TestKubernetes(PlatformContract):
    many = 24  # each is a container that takes half a second of a processor to come and go
    at_once = 12
    enough = 8.0

    @pytest.fixture
    def platform(self, kubernetes: Namespace) -> Kubernetes:
        self.namespace = kubernetes
        return Kubernetes()

    def place(self, **changes: Any) -> Placement:
        return places(self.namespace, **changes)

    def left(self, calls: list[Placed]) -> list[str]:
        return leftovers(self.namespace)


class Calls:
    """Calls in the namespace of a test."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.platform = Kubernetes(patience=3)
        self.heard = Heard()

    def __call__(self, fn: Any, *args: Any, config: Any = None, **told: Any) -> Any:
        return run(self.platform, placed(fn, *args, heard=self.heard, place=places(self.namespace, config, **told)))

    def started(self, fn: Any, **told: Any) -> tuple[Placed, threading.Thread, list[Exception]]:
        """A call in a thread; what it raises is put into a list."""
        call = placed(fn, heard=self.heard, place=places(self.namespace, **told))
        raised: list[Exception] = []

        def body() -> None:
            try:
                run(self.platform, call)
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        return call, thread, raised

    def running(self) -> Any:
        """The first pod that runs."""
        return self.namespace.await_("pod", lambda kind, pod: pod if pod.status.phase == "Running" else None)


@pytest.fixture
def calls(kubernetes: Namespace) -> Iterator[Calls]:
    yield Calls(kubernetes)
    assert leftovers(kubernetes) == []


def nothing() -> None:
    pass


def long() -> None:
    time.sleep(600)


def test_a_job_is_made_as_it_is_asked_for(calls: Calls) -> None:
    node = calls.namespace.core.list_node().items[0].metadata.name
    config = {
        "resources": {"limits": {"memory": "256Mi"}, "cpu": "250m"},
        "node_selector": {"kubernetes.io/hostname": node},
        "pull_policy": "never",
        "service_account": "default",
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    told = {"labels": {"team/owner": "Ada L.", "Ünits": "5"}, "resources": {"memory": "1G"}, "timeout": 90}
    call, thread, raised = calls.started(long, config=config, environment={"SECRET": "$(HOME) hush"}, **told)
    pod = calls.running()
    job = calls.namespace.batch.read_namespaced_job(call.id, calls.namespace.namespace)
    secret = calls.namespace.core.read_namespaced_secret(call.id, calls.namespace.namespace)
    calls.namespace.batch.delete_namespaced_job(call.id, calls.namespace.namespace, propagation_policy="Background")
    thread.join()
    (error,) = raised
    assert isinstance(error, PlatformError)
    assert "was deleted before it returned: somebody ended it" in str(error)
    (container,) = pod.spec.containers
    assert container.resources.limits == {"memory": "256Mi", "cpu": "250m"}
    assert container.resources.requests == {"memory": "256Mi", "cpu": "250m"}
    assert container.image_pull_policy == "Never"
    assert pod.spec.service_account_name == "default"
    assert pod.spec.tolerations[0].key == "dedicated"
    assert (job.spec.backoff_limit, job.spec.active_deadline_seconds, job.spec.ttl_seconds_after_finished) == (
        0,
        150,
        600,
    )
    assert secret.metadata.owner_references[0].uid == job.metadata.uid
    assert "hush" not in str(job)
    labels = {"team/owner": "Ada-L", "nits": "5", "twingraph/component": "long", "twingraph/run": "run"}
    assert labels.items() <= pod.metadata.labels.items()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"pull_policy": "Newer"}, r"pull_policy'\] is one of Always, IfNotPresent, Never, not 'Newer'; did you mean"),
        ({"resources": {"request": {}}}, r"has no 'request'; did you mean 'requests'"),
        ({"resources": {"memory": "lots"}}, r"resources\['memory'\]: 'lots' is no amount"),
        ({"resources": {"gpu": "two"}}, r"resources\['gpu'\]: 'two' is no number of GPUs"),
        ({"node_selector": "gold"}, r"config\['node_selector'\] takes a dict, not 'gold'"),
        ({"store": "gs://bucket"}, r"store is written 's3://bucket/prefix', not 'gs://bucket'"),
    ],
)
def test_what_cannot_be_meant_is_refused(kubernetes: Namespace, config: Any, words: str) -> None:
    with pytest.raises(ComponentError, match=words):
        Calls(kubernetes)(nothing, config=config)
    assert kubernetes.batch.list_namespaced_job(kubernetes.namespace).items == []


PENDING: dict[str, tuple[Any, Any, str]] = {
    "image": (
        {"start_timeout": 60}, {"image": "no.such.registry.invalid/x:1"},
        r"the image 'no.such.registry.invalid/x:1' cannot be pulled \(ImagePullBackOff: .+\): check its name",
    ),
    "absent": ({"pull_policy": "Never"}, {"image": "not-here:1"}, r"'not-here:1' is not on the node, and pull_policy"),
    "name": ({}, {"image": "Not A Name"}, r"'Not A Name' is no name of an image \(InvalidImageName"),
    "cpu": (
        {"resources": {"requests": {"cpu": "500"}}, "start_timeout": 1}, {},
        r"no node takes its pod \(Unschedulable: .*Insufficient cpu.*\): ask for less in resources.*waited 1 s",
    ),
    "gpu": ({"start_timeout": 1}, {"resources": {"gpu": True}}, "Insufficient nvidia.com/gpu"),
    "account": ({"service_account": "nobody"}, {}, r"cannot be made \(FailedCreate: .*nobody.* not found.*service_acc"),
    "python": ({}, {"image": "{python-less}"}, r"the image 'lokki-test-.*' needs a python3 of version 3.8 or newer"),
}  # fmt: skip


@pytest.fixture
def pythonless(docker: Docker, tmp_path: Path) -> str:
    """An image in which there is nothing but a file."""
    (tmp_path / "only").write_text("this")
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(tmp_path / "only", "only")
    docker("import", str(tmp_path / "image.tar"), f"{docker.tag}:none")
    return f"{docker.tag}:none"


@pytest.mark.parametrize("case", PENDING)
def test_a_pod_that_cannot_start_says_why(calls: Calls, case: str, request: pytest.FixtureRequest) -> None:
    config, told, words = PENDING[case]
    if case == "python":
        told = {"image": request.getfixturevalue("pythonless")}
    with pytest.raises(PlatformError, match=words):
        calls(nothing, config=config, **told)
    if case in ("cpu", "gpu"):
        assert any(level == "warning" and "no node takes its pod" in line for level, line in calls.heard.lines)


def test_a_container_that_is_killed_or_dies_says_how(calls: Calls) -> None:
    def hog() -> int:
        return len(bytes(bytearray(b"1" * (300 << 20))))

    def die(number: int) -> None:
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV) if number < 0 else os._exit(number)

    with pytest.raises(
        PlatformError, match=r"more memory than its limit of 64Mi and was killed .OOMKilled.: ask for more"
    ):
        calls(hog, resources={"memory": "64Mi"})
    with pytest.raises(PlatformError, match="its pod ended with exit code 7 before it returned"):
        calls(die, 7)
    assert calls.heard.lines == [("info", "last words")]
    with pytest.raises(PlatformError, match="its answer did not come whole through the log"):
        calls(die, 0)


def test_a_pod_that_is_deleted_says_so(calls: Calls) -> None:
    _, thread, raised = calls.started(long)
    pod = calls.running().metadata.name
    calls.namespace.core.delete_namespaced_pod(pod, calls.namespace.namespace, grace_period_seconds=0)
    thread.join()
    assert isinstance(raised[0], PlatformError)
    assert "its pod was deleted before it returned" in str(raised[0])


def test_a_server_that_is_busy_is_asked_again(calls: Calls) -> None:
    for verb, resource, code in [
        ("create", "secrets", 429), ("create", "jobs", 503), ("watch", "pods", 500), ("list", "pods", 503),
        ("log", "pods", 500), ("delete", "jobs", 429), ("delete", "secrets", 503), ("patch", "secrets", 500),
    ]:  # fmt: skip
        calls.namespace.fail(verb, resource, code, 2)

    def work() -> str:
        print("heard once")
        return "done"

    assert calls(work) == "done"
    assert calls.heard.lines == [("info", "heard once")]


def test_a_server_that_stays_busy_or_refuses_is_an_error_that_says_so(calls: Calls) -> None:
    calls.namespace.fail("create", "jobs", 503, 1000)
    with pytest.raises(PlatformUnavailableError, match=r"could not create a job: fault injected.*503"):
        calls(nothing)
    assert leftovers(calls.namespace) == []
    calls.namespace.fail("create", "secrets", 403, 1)
    with pytest.raises(PlatformUnavailableError, match=r"refused to create a secret: .*Have somebody allow it"):
        calls(nothing)


def test_a_namespace_that_is_not_there_is_named(calls: Calls) -> None:
    with pytest.raises(
        PlatformError, match=r"there is no namespace 'nowhere-at-all' at https:.*kubectl create namespace"
    ):
        calls(nothing, config={"namespace": "nowhere-at-all"})


def test_two_pythons_may_differ_and_the_default_is_ones_own(calls: Calls) -> None:
    def version() -> Any:
        return sys.version_info[:2]

    assert calls(version) == (3, 13)
    job = Calls(calls.namespace)
    call, thread, _ = job.started(long, image=None, config={"start_timeout": 1, "pull_policy": "Never"})
    pod = job.namespace.await_("pod", lambda kind, pod: pod, label_selector=f"twingraph/call={call.id}")
    assert pod.spec.containers[0].image == HERE
    call.stop.set()
    thread.join()


def test_check_says_what_it_would_run_on(kubernetes: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.server.kubeconfig))
    told = Kubernetes().check()
    assert told.startswith("Kubernetes v1.")
    assert "at https://127.0.0.1:" in told
    assert told.endswith("namespace 'default'")


def test_without_the_client_a_call_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['kubernetes'] = None\n"
        "from twingraph.platforms.kubernetes import Kubernetes\n"
        "try: Kubernetes().check()\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(
        "PlatformUnavailableError Platform 'kubernetes' needs the Python client of Kubernetes"
    )
    assert "pip install 'lokki-twingraph[kubernetes]'" in done.stdout


def test_without_a_cluster_check_and_calls_say_what_is_missing(at_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(PlatformUnavailableError, match=r"no kubeconfig at .*\.kube/config, and this is no pod"):
        Kubernetes().check()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    with pytest.raises(PlatformUnavailableError, match="cannot be used: Service token file does not exist"):
        Kubernetes().check()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        kubeconfig = at_home / "kubeconfig"
        kubeconfig.write_text(
            "{current-context: c, contexts: [{name: c, context: {cluster: c}}], users: [], clusters: "
            f"[{{name: c, cluster: {{server: 'https://127.0.0.1:{nobody.getsockname()[1]}'}}}}]}}"
        )
        place = Placement("kubernetes", config={"kubeconfig": str(kubeconfig)})
        with pytest.raises(PlatformUnavailableError, match=r"does not answer .*check the address in the kubeconfig"):
            run(Kubernetes(patience=0.3), placed(nothing, place=place))
        kubeconfig.write_text("contexts: 3")
        with pytest.raises(PlatformUnavailableError, match="cannot be used: "):
            run(Kubernetes(), placed(nothing, place=place))
