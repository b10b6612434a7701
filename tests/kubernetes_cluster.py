"""A Kubernetes for tests: the stand-in that `dev/kubernetes/start` starts, or any cluster of a kubeconfig."""

from __future__ import annotations

import json
import os
import ssl
import uuid
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import pytest

VARIABLE = "LOKKI_TEST_KUBERNETES"
CACHE = os.environ.get("LOKKI_DEV_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lokki-dev"
)
DEFAULT = os.path.join(CACHE, f"kubernetes-{os.environ.get('LOKKI_KUBERNETES_PORT') or 16180}", "kubeconfig")
FAULTS = "/_lokki/faults"
SECONDS = 90


@dataclass(frozen=True)
class Server:
    """A Kubernetes API server that answers."""

    kubeconfig: Path
    is_stand_in: bool


@dataclass(frozen=True)
class Kubernetes:
    """A namespace of one test, and what there is in it."""

    server: Server
    namespace: str = field(default_factory=lambda: f"lokki-test-{uuid.uuid4().hex[:10]}")

    @cached_property
    def api(self) -> Any:
        """The official client."""
        return _client(self.server.kubeconfig)

    @cached_property
    def core(self) -> Any:
        """Pods, secrets, events."""
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self.api)

    @cached_property
    def batch(self) -> Any:
        """Jobs."""
        from kubernetes.client import BatchV1Api

        return BatchV1Api(self.api)

    def ask(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> tuple[int, Any]:
        """The status of an answer and what it says, past what the official client checks by itself."""
        import yaml

        told = yaml.safe_load(self.server.kubeconfig.read_text())
        cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
        context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        sent = {"Authorization": f"Bearer {token or user['token']}", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        try:
            with opener.open(Request(cluster["server"] + path, data, sent, method=method), timeout=SECONDS) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def fail(self, verb: str, resource: str, code: int = 503, times: int = 1, **more: Any) -> None:
        """Let the next requests of that kind in this namespace fail; only the stand-in does so."""
        if not self.server.is_stand_in:
            pytest.skip("Only the stand-in of dev/kubernetes/start answers with faults when it is asked to")
        fault = {"verb": verb, "resource": resource, "namespace": self.namespace, "code": code, "times": times, **more}
        assert self.ask("POST", FAULTS, fault)[0] == 200

    def await_(self, what: str, found: Callable[[str, Any], Any], **selectors: str) -> Any:
        """Watch pods, jobs, secrets or events until `found`, told a change's type and object, says what it was."""
        from kubernetes.watch import Watch

        api = self.batch if what == "job" else self.core
        watch = Watch()
        listed = partial(getattr(api, f"list_namespaced_{what}"), self.namespace, **selectors)
        for change in watch.stream(listed, timeout_seconds=SECONDS):
            if result := found(change["type"], change["object"]):
                watch.stop()
                return result
        raise AssertionError(f"{SECONDS} seconds went by, and no {what} was as it should be")

    def await_none(self, what: str, **selectors: str) -> None:
        """Wait until there are no pods, jobs or secrets left."""
        from kubernetes.watch import Watch

        api = self.batch if what == "job" else self.core
        listed = partial(getattr(api, f"list_namespaced_{what}"), self.namespace, **selectors)
        while (left := listed()).items:
            watch = Watch()
            for change in watch.stream(
                listed, resource_version=left.metadata.resource_version, timeout_seconds=SECONDS
            ):
                if change["type"] == "DELETED":
                    watch.stop()
                    break
            else:
                raise AssertionError(f"{SECONDS} seconds went by, and there still is a {what}")

    def make(self) -> None:
        """Make the namespace, and wait for what pods in it need."""
        self.core.create_namespace({"metadata": {"name": self.namespace}})
        self.await_("service_account", lambda kind, account: account.metadata.name == "default")

    def clear(self) -> None:
        """Remove everything."""
        if self.server.is_stand_in:
            self.ask("DELETE", f"{FAULTS}?namespace={self.namespace}")
        self.batch.delete_collection_namespaced_job(self.namespace, propagation_policy="Background")
        self.core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=0)
        self.core.delete_namespace(self.namespace)
        self.api.close()


@pytest.fixture(scope="session")
def kubernetes_server() -> Server:
    """Skips where there is none."""
    told = os.environ.get(VARIABLE) or DEFAULT
    if told == "off":
        pytest.skip(f"{VARIABLE} is off")
    path = Path(told)
    if not path.is_file():
        pytest.skip(f"There is no kubeconfig at {path}: start a Kubernetes with dev/kubernetes/start")
    from kubernetes.client import VersionApi
    from urllib3.exceptions import HTTPError as Unreachable

    try:
        version = VersionApi(_client(path)).get_code()
    except Unreachable as error:
        pytest.skip(f"No Kubernetes answers as {path} says ({error}): start one with dev/kubernetes/start")
    return Server(path, version.git_version.endswith("-lokki"))


@pytest.fixture
def kubernetes(kubernetes_server: Server) -> Iterator[Kubernetes]:
    """A namespace of its own, which is gone with all that is in it when the test ends."""
    made = Kubernetes(kubernetes_server)
    made.make()
    yield made
    made.clear()


def _client(kubeconfig: Path) -> Any:
    from kubernetes.config import new_client_from_config

    client = new_client_from_config(str(kubeconfig))
    client.configuration.retries = False  # a server that is not there is not asked again
    return client
