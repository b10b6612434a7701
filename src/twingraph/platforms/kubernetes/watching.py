"""One watch for all pods that this process has in a namespace: one connection, whatever the number of calls.

It begins with the first call and ends some time after the last. A watch that breaks off begins anew with a list, so no
change is missed; a server that stays away for longer than it is waited for is told to every call.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Protocol

from twingraph.errors import PlatformError
from twingraph.platforms.kubernetes.cluster import Away, Cluster, passes
from twingraph.platforms.kubernetes.manifests import CALL, PROCESS

_SECONDS, _QUIET = 40, 60.0  # that one watch lasts, and after which one without an end is given up
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0


class Watched(Protocol):
    """A call whose pod is watched."""

    pod: dict[str, Any] | None

    def tell(self, pod: dict[str, Any], gone: bool) -> None:
        """Its pod is so now, or was so when it went."""

    def lose(self, error: PlatformError) -> None:
        """Nothing will be heard of its pod."""


class Watching:
    """The watch of one namespace.

    Args:
        cluster: where to watch.
        process: what the pods' label says of the process.
    """

    def __init__(self, cluster: Cluster, process: str) -> None:
        self._cluster = cluster
        self._told = {"label_selector": f"{PROCESS}={process}"}
        self._calls: dict[str, Watched] = {}
        self._lock = threading.Lock()
        self._running = False

    def add(self, call: str, watched: Watched) -> None:
        """Tell this call of its pod from now on; before the pod is made."""
        with self._lock:
            self._calls[call] = watched
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="twingraph-kubernetes", daemon=True).start()

    def remove(self, call: str) -> None:
        """Tell this call no more."""
        with self._lock:
            self._calls.pop(call, None)

    def _run(self) -> None:
        since: float | None = None
        pause = _FIRST_WAIT
        while self._wanted():
            try:
                version = self._list()
                since = None
                self._watch(version)
                pause = _FIRST_WAIT
            except PlatformError as error:
                since = time.monotonic() if since is None else since
                if not passes(error) or time.monotonic() - since > self._cluster.patience:
                    self._lose(error)
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_WAIT)

    def _wanted(self) -> bool:
        with self._lock:
            self._running = bool(self._calls)
            return self._running

    def _list(self) -> str:
        """Tell each call of its pod as it is; the version from which changes are to be watched."""
        core, namespace = self._cluster.core, self._cluster.namespace
        with self._lock:
            before = {call: (each, each.pod) for call, each in self._calls.items()}
        found = self._cluster.ask("list pods", core.list_namespaced_pod, namespace, **self._told)
        there = set()
        for pod in found.get("items") or ():
            there.add(self._tell(pod))
        for call in before.keys() - there:
            watched, pod = before[call]
            if pod is not None:
                watched.tell(pod, True)
        return str(found["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        core, namespace = self._cluster.core, self._cluster.namespace
        told = {**self._told, "resource_version": version, "watch": True, "timeout_seconds": _SECONDS}
        answer = self._cluster.stream("watch pods", _QUIET, core.list_namespaced_pod, namespace, **told)
        try:
            rest = b""
            for piece in answer.stream(None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    self._change(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the boundary: a connection breaks in many ways
            raise self._cluster.judged(error, "watch pods") from None
        finally:
            answer.close()

    def _change(self, change: dict[str, Any]) -> None:
        if change["type"] == "ERROR":
            raise Away(f"The watch of pods ended: {change['object'].get('message')}.")
        self._tell(change["object"], gone=change["type"] == "DELETED")

    def _tell(self, pod: dict[str, Any], gone: bool = False) -> str:
        call = str(pod["metadata"]["labels"].get(CALL))
        with self._lock:
            watched = self._calls.get(call)
        if watched is not None:
            watched.tell(pod, gone)
        return call

    def _lose(self, error: PlatformError) -> None:
        with self._lock:
            calls = list(self._calls.values())
        for each in calls:
            each.lose(error)
