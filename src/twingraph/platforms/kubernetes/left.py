"""What is there of calls in a namespace, found by its labels: what nobody waits for any more is deleted."""

from __future__ import annotations

from typing import Any

from twingraph.errors import PlatformError
from twingraph.platforms.kubernetes.cluster import Cluster
from twingraph.platforms.kubernetes.manifests import CALL, LAUNCH, MACHINE, OWNER, RUN
from twingraph.platforms.owners import Left, Orphaned


def sweep(cluster: Cluster, orphaned: Orphaned) -> None:
    """Delete the jobs of a namespace that are orphaned, and then the Secrets; what is refused stays."""
    core, batch = cluster.core, cluster.batch
    kinds = (
        ("job", batch.list_namespaced_job, batch.delete_namespaced_job),
        ("secret", core.list_namespaced_secret, core.delete_namespaced_secret),
    )
    for kind, listed, delete in kinds:
        told = {"label_selector": f"{MACHINE},{CALL}"}
        found = cluster.ask(f"list {kind}s", listed, cluster.namespace, **told).get("items") or ()
        for each in found:
            if orphaned(_left(each["metadata"])):
                _delete(cluster, f"delete a {kind}", delete, each["metadata"]["name"])


def _left(metadata: dict[str, Any]) -> Left:
    labels, notes = metadata["labels"], metadata.get("annotations") or {}
    run = notes.get(RUN) or labels.get(RUN, "")
    return Left(labels[MACHINE], labels.get(OWNER, ""), run, labels[CALL] if LAUNCH in labels else "")


def _delete(cluster: Cluster, doing: str, method: Any, name: str) -> None:
    try:
        cluster.ask(doing, method, name, cluster.namespace, propagation_policy="Background")
    except PlatformError:  # it is gone, or is to stay for who does not let us; its own limits end it
        return
