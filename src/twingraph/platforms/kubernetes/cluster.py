"""The one door to a Kubernetes API server: the official client, asked again while the server is busy or away.

Objects come as plain dicts, as the server wrote them, so that any version of the client serves.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from twingraph.errors import PlatformError, PlatformUnavailableError

INSTALL = "install the client with pip install 'lokki-twingraph[kubernetes]'"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECT, _READ = 5.0, 60.0  # seconds
_CONNECTIONS = 256  # that are kept for the next request; each call that runs has one for its log
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_BUSY = 429
_FAULT = 500


class Refused(PlatformError):
    """What the API server refused.

    Attributes:
        status: the HTTP status of its answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """An API server, and the namespace that calls have there.

    Args:
        kubeconfig: the path of a kubeconfig; None for the usual one, or what pods of a cluster have.
        context: one of its contexts; None for the current one.
        namespace: the namespace; None for the context's own.
        patience: seconds for which a server that is busy or away is asked again.
    """

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None, patience: float) -> None:
        self.patience = patience
        self._client, found = _configured(kubeconfig, context)
        self.namespace = namespace or found or "default"
        self.host: str = self._client.configuration.host

    @cached_property
    def core(self) -> Any:
        """The client's part for pods, secrets and events."""
        from kubernetes.client import CoreV1Api

        return CoreV1Api(self._client)

    @cached_property
    def batch(self) -> Any:
        """The client's part for jobs."""
        from kubernetes.client import BatchV1Api

        return BatchV1Api(self._client)

    def version(self) -> str:
        """What the server says that it is."""
        from kubernetes.client import VersionApi

        return str(self.ask("say its version", VersionApi(self._client).get_code)["gitVersion"])

    def ask(self, doing: str, method: Callable[..., Any], *arguments: Any, **told: Any) -> dict[str, Any]:
        """What the server answers.

        Args:
            doing: what the server is to do, as in "The Kubernetes API at ... refused to `create a job`".
            method: a method of the client.
            arguments: what it takes.
            told: what it takes by name.
        """
        for wait in self.waits():
            try:
                answer = method(*arguments, _preload_content=False, _request_timeout=(_CONNECT, _READ), **told)
                return dict(json.loads(answer.data))
            except Exception as error:  # noqa: BLE001 - the boundary: the client raises its own and urllib3's
                wait(self.judged(error, doing))
        raise AssertionError

    def stream(self, doing: str, quiet: float, method: Callable[..., Any], *arguments: Any, **told: Any) -> Any:
        """An answer that comes piece by piece, as a `urllib3.HTTPResponse`; asked for once.

        Args:
            doing: as in `ask`.
            quiet: seconds without a piece after which the answer breaks off.
            method: a method of the client.
            arguments: what it takes.
            told: what it takes by name.
        """
        try:
            return method(*arguments, _preload_content=False, _request_timeout=(_CONNECT, quiet), **told)
        except Exception as error:  # noqa: BLE001 - as above
            raise self.judged(error, doing) from None

    def waits(self) -> Iterator[Callable[[PlatformError], None]]:
        """For each time that the server is asked, what waits until the next: it raises what lasts or took too long."""
        deadline, pause = time.monotonic() + self.patience, _FIRST_WAIT

        def wait(error: PlatformError) -> None:
            if not passes(error) or time.monotonic() + pause > deadline:
                raise error from None
            time.sleep(max(pause, min(getattr(error, "after", 0.0), _LONGEST_WAIT)))

        while True:
            yield wait
            pause = min(pause * 2, _LONGEST_WAIT)

    def judged(self, error: Exception, doing: str) -> PlatformError:
        """An error of the client as one that says what to do; one that is not the server's is raised."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        if isinstance(error, PlatformError):
            return error
        if isinstance(error, ApiException) and error.status:
            return self._refused(error, doing)
        if isinstance(error, HTTPError | ValueError | OSError):  # also half an answer that is no JSON
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Away(
                f"The Kubernetes API at {self.host} does not answer ({told}): check the address in the kubeconfig and "
                "that this machine reaches it."
            )
        raise error

    def _refused(self, error: Any, doing: str) -> PlatformError:
        status, said = int(error.status), _said(error)
        where = f"The Kubernetes API at {self.host}"
        if status == _BUSY or status >= _FAULT:
            busy = Away(f"{where} could not {doing}: {said} ({status}); try again when it is well.")
            with suppress(TypeError, ValueError, AttributeError):
                busy.after = float(error.headers.get("Retry-After"))
            return busy
        if status == 401:
            return PlatformUnavailableError(
                f"{where} does not accept these credentials: sign in again, or renew the kubeconfig."
            )
        if status == 403:
            return PlatformUnavailableError(f"{where} refused to {doing}: {said}. Have somebody allow it.")
        return Refused(f"{where} refused to {doing}: {said}.", status)


class Away(PlatformUnavailableError):
    """The server is away or busy, which may pass; `after` says in how many seconds, if the server did."""

    after = 0.0


def passes(error: BaseException) -> bool:
    """Whether it may help to ask again."""
    return isinstance(error, Away)


class Clusters:
    """The clusters that a process talks to, each with one client."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._known: dict[tuple[Any, ...], Cluster] = {}
        self._lock = threading.Lock()

    def of(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
        """The cluster that a call names; made once, and anew when the kubeconfig has changed."""
        path = _path(kubeconfig)
        key = (path, context, namespace, tuple(map(_changed, path.split(os.pathsep))))
        with self._lock:
            if key not in self._known:
                self._known[key] = Cluster(kubeconfig, context, namespace, self._patience)
            return self._known[key]


def _path(kubeconfig: str | None) -> str:
    return os.path.expanduser(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")


def _changed(path: str) -> float:
    with suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


def _configured(kubeconfig: str | None, context: str | None) -> tuple[Any, str | None]:
    """A client, and the namespace that its configuration names."""
    try:
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import load_incluster_config, load_kube_config
    except ImportError as error:
        raise PlatformUnavailableError(
            f"Platform 'kubernetes' needs the Python client of Kubernetes ({error}): {INSTALL}."
        ) from None
    settings, path, namespace = Configuration(), _path(kubeconfig), None
    try:
        if any(map(os.path.exists, path.split(os.pathsep))):
            load_kube_config(path, context, client_configuration=settings)
            namespace = _namespace(path, context)
        elif kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(client_configuration=settings)
            namespace = (_ACCOUNT / "namespace").read_text("utf-8").strip()
        else:
            raise PlatformUnavailableError(
                f"There is no kubeconfig at {path}, and this is no pod of a cluster: name one with "
                "config={'kubeconfig': ...} or KUBECONFIG."
            )
    except PlatformUnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - the client trips over a file that is none, and plugins may do anything
        raise PlatformUnavailableError(f"The Kubernetes configuration {path} cannot be used: {error}.") from None
    settings.retries = False  # the server is asked again here, with pauses and without a line for each time
    settings.connection_pool_maxsize = _CONNECTIONS
    return ApiClient(settings), namespace


def _namespace(path: str, context: str | None) -> str | None:
    from kubernetes.config import list_kube_config_contexts

    contexts, active = list_kube_config_contexts(path)
    found = next((each for each in contexts if each["name"] == context), active)
    name: str | None = found.get("context", {}).get("namespace")
    return name


def _said(error: Any) -> str:
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason or "no reason given"
    return str(message).rstrip(".")
