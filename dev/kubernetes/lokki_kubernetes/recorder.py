"""Events about objects, counted up when they repeat."""

from __future__ import annotations

import contextlib
import hashlib

from lokki_kubernetes.errors import ApiError, Object
from lokki_kubernetes.resources import now
from lokki_kubernetes.store import Store


def record(store: Store, about: Object, kind: str, reason: str, message: str, source: str) -> None:
    metadata = about["metadata"]
    namespace = metadata.get("namespace", "default")
    digest = hashlib.sha256(f"{metadata['uid']}{reason}{message}".encode()).hexdigest()[:16]
    name = f"{metadata['name']}.{digest}"

    def again(event: Object) -> None:
        event["count"] += 1
        event["lastTimestamp"] = now()

    with store.changed:
        if store.change("events", namespace, name, again) is not None:
            return
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "kind": about["kind"],
                "namespace": namespace,
                "name": metadata["name"],
                "uid": metadata["uid"],
                "apiVersion": about["apiVersion"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": source},
            "reportingComponent": source,
            "reportingInstance": "",
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        with contextlib.suppress(ApiError):
            store.create("events", event)
