"""Calls as jobs of Kubernetes: each runs one pod once, which opens the call's envelope and answers through its log.

| Room | What it is |
|---|---|
| `cluster` | the one door to an API server |
| `wishes`, `manifests` | what a component asks for, and the objects that are made of it |
| `payload`, `entry` | how the envelope gets into the pod and the answer out of it |
| `watching` | one watch for all pods of this process |
| `job`, `pods` | what is known of a call, and what the status of a pod means |
| `left` | what is there of calls that nobody waits for any more |
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any

from twingraph.envelope import pack
from twingraph.errors import PlatformError, PlatformUnavailableError
from twingraph.placed import Outcome, Placed
from twingraph.platforms import owners
from twingraph.platforms.kubernetes import manifests
from twingraph.platforms.kubernetes.cluster import Cluster, Clusters, Refused
from twingraph.platforms.kubernetes.job import Job
from twingraph.platforms.kubernetes.left import sweep
from twingraph.platforms.kubernetes.payload import contents, parcel_of
from twingraph.platforms.kubernetes.watching import Watching
from twingraph.platforms.kubernetes.wishes import OPTIONS, Wishes, wishes

_PATIENCE, _GLANCE = 20.0, 2.0
_MISSING, _EXISTS = 404, 409


class Kubernetes:
    """The platform.

    Args:
        patience: seconds for which an API server that is busy or away is asked again.
    """

    name = "kubernetes"
    options = OPTIONS

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._clusters = Clusters(patience)
        self._process = uuid.uuid4().hex[:16]
        self._watches: dict[Cluster, Watching] = {}
        self._lock = threading.Lock()

    def check(self) -> str:
        """What it would run on."""
        cluster = Cluster(None, None, None, min(self._patience, _GLANCE))
        return f"Kubernetes {cluster.version()} at {cluster.host}, namespace {cluster.namespace!r}"

    def start(self, call: Placed) -> Job:
        """Make the call's Secrets and its job."""
        asked, body = wishes(call), b"" if call.command else pack(call)
        cluster = self._clusters.of(asked.kubeconfig, asked.context, asked.namespace)
        job = Job(call, cluster, asked.start_timeout, None if call.command else parcel_of(call, call.placement.config))
        try:
            self._make(job, asked, [{}] if call.command else contents(call, body, job.parcel))
        except Refused as error:
            self.clear(job)
            raise _explained(error, job) from None
        except BaseException:
            self.clear(job)
            raise
        return job

    def poll(self, job: Job, seconds: float) -> Outcome | None:
        """What became of the call."""
        return job.wait(seconds)

    def cancel(self, job: Job) -> None:
        """End the pod: its job is deleted."""
        job.leave()
        self._delete_job(job)

    def clear(self, job: Job) -> None:
        """Delete what was made; what cannot be deleted goes ten minutes after the end of the job, by itself."""
        job.leave()
        self._watch(job.cluster).remove(job.name)
        self._delete_job(job)
        secrets, job.secrets = job.secrets, []
        for name in secrets:
            self._delete(job, "delete a secret", job.cluster.core.delete_namespaced_secret, name)
        if job.parcel is not None:
            try:
                job.parcel.remove()
            except PlatformError as error:
                job.call.log("warning", str(error))

    def sweep(self, config: Mapping[str, Any], orphaned: owners.Orphaned) -> None:
        """Delete what nobody waits for any more, in the namespace that this configuration leads to."""
        told = (config.get(name) for name in ("kubeconfig", "context", "namespace"))
        sweep(self._clusters.of(*told), orphaned)

    def _make(self, job: Job, asked: Wishes, held: list[dict[str, str]]) -> None:
        cluster, call = job.cluster, job.call
        namespace = cluster.namespace
        for secret in manifests.secrets(call, asked, self._process, held):
            job.secrets.append(secret["metadata"]["name"])
            _create(cluster, "create a secret", cluster.core.create_namespaced_secret, secret)
        self._watch(cluster).add(job.name, job)
        manifest = manifests.job(call, asked, self._process, held)
        job.made = True
        made = _create(cluster, "create a job", cluster.batch.create_namespaced_job, manifest)
        if made is None:
            made = cluster.ask("show a job", cluster.batch.read_namespaced_job, job.name, namespace)
        change = manifests.owned(made)
        for name in job.secrets:
            try:
                cluster.ask("change a secret", cluster.core.patch_namespaced_secret, name, namespace, change)
            except (Refused, PlatformUnavailableError):  # they are deleted when the call is over, as long as we live
                break

    def _watch(self, cluster: Cluster) -> Watching:
        with self._lock:
            if cluster not in self._watches:
                self._watches[cluster] = Watching(cluster, self._process)
            return self._watches[cluster]

    def _delete_job(self, job: Job) -> None:
        if job.made:
            job.made = False
            told = {"propagation_policy": "Background"}
            self._delete(job, "delete a job", job.cluster.batch.delete_namespaced_job, job.name, **told)

    def _delete(self, job: Job, doing: str, method: Any, name: str, **told: Any) -> None:
        """Delete an object, if it is still there; the call has its outcome, which a failure here must not hide."""
        try:
            job.cluster.ask(doing, method, name, job.cluster.namespace, **told)
        except Refused as error:
            if error.status != _MISSING:
                job.call.log("warning", str(error))
        except PlatformError as error:
            job.call.log("warning", str(error))


def _create(cluster: Cluster, doing: str, method: Any, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Create an object; None if it is there, because an answer got lost on its way and it was asked for again."""
    try:
        return cluster.ask(doing, method, cluster.namespace, manifest)
    except Refused as error:
        if error.status != _EXISTS:
            raise
        return None


def _explained(error: Refused, job: Job) -> PlatformError:
    namespace = job.cluster.namespace
    where = f"{job.call.who} on platform 'kubernetes'"
    if error.status == _MISSING:
        return PlatformError(
            f"{where}: there is no namespace {namespace!r} at {job.cluster.host}: name another one with "
            f"config={{'namespace': ...}}, or make it: kubectl create namespace {namespace}."
        )
    return PlatformError(f"{where}: {error}")
