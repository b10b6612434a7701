"""The resources served, and how they are named, listed and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lokki_kubernetes.errors import Object


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def age(since: str | None, until: str | None = None) -> str:
    if not since:
        return "<unknown>"
    end = parse_time(until) if until else datetime.now(UTC)
    seconds = int((end - parse_time(since)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (120, "m")):
        if seconds >= size:
            return f"{seconds // (60 if unit == 'm' else size)}{unit}"
    return f"{max(seconds, 0)}s"


Row = Callable[[Object], list[Any]]


@dataclass(frozen=True)
class Resource:
    plural: str
    kind: str
    group: str = ""
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("Name", "Age")
    row: Row = field(default=lambda o: [o["metadata"]["name"], age(o["metadata"].get("creationTimestamp"))])

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"


def _pod_row(pod: Object) -> list[Any]:
    status, statuses = pod.get("status", {}), pod.get("status", {}).get("containerStatuses", [])
    shown = status.get("reason") or status.get("phase", "Pending")
    for container in status.get("initContainerStatuses", []) + statuses:
        state = container.get("state", {})
        if "waiting" in state:
            shown = state["waiting"]["reason"]
        elif "terminated" in state and state["terminated"].get("exitCode"):
            shown = state["terminated"].get("reason", "Error")
    if status.get("phase") == "Succeeded":
        shown = "Completed"
    if pod["metadata"].get("deletionTimestamp"):
        shown = "Terminating"
    ready = sum(1 for c in statuses if c.get("ready"))
    restarts = sum(c.get("restartCount", 0) for c in statuses)
    total = len(pod["spec"].get("containers", []))
    return [pod["metadata"]["name"], f"{ready}/{total}", shown, restarts, age(pod["metadata"]["creationTimestamp"])]


def _job_row(job: Object) -> list[Any]:
    status = job.get("status", {})
    shown = "Suspended" if job["spec"].get("suspend") else "Running"
    for condition in status.get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            shown = condition["type"]
    duration = age(status["startTime"], status.get("completionTime")) if status.get("startTime") else ""
    wanted = job["spec"].get("completions", 1)
    done = f"{status.get('succeeded', 0)}/{wanted}"
    return [job["metadata"]["name"], shown, done, duration, age(job["metadata"]["creationTimestamp"])]


def _event_row(event: Object) -> list[Any]:
    about = event["involvedObject"]
    name = f"{about['kind'].lower()}/{about['name']}"
    return [age(event["lastTimestamp"]), event["type"], event["reason"], name, event["message"]]


def _node_row(node: Object) -> list[Any]:
    version = node["status"]["nodeInfo"]["kubeletVersion"]
    return [node["metadata"]["name"], "Ready", "<none>", age(node["metadata"]["creationTimestamp"]), version]


RESOURCES = [
    Resource("namespaces", "Namespace", namespaced=False, short=("ns",)),
    Resource(
        "nodes", "Node", namespaced=False, short=("no",),
        columns=("Name", "Status", "Roles", "Age", "Version"), row=_node_row,
    ),
    Resource(
        "pods", "Pod", short=("po",), subresources=("log", "status"),
        columns=("Name", "Ready", "Status", "Restarts", "Age"), row=_pod_row,
    ),
    Resource("configmaps", "ConfigMap", short=("cm",)),
    Resource("secrets", "Secret"),
    Resource("serviceaccounts", "ServiceAccount", short=("sa",)),
    Resource(
        "events", "Event", short=("ev",),
        columns=("Last Seen", "Type", "Reason", "Object", "Message"), row=_event_row,
    ),
    Resource(
        "jobs", "Job", group="batch", subresources=("status",),
        columns=("Name", "Status", "Completions", "Duration", "Age"), row=_job_row,
    ),
]  # fmt: skip
BY_PLURAL = {resource.plural: resource for resource in RESOURCES}
GROUPS = sorted({resource.group for resource in RESOURCES})


def api_resource_list(group: str) -> Object:
    entries = []
    for resource in RESOURCES:
        if resource.group != group:
            continue
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.kind.lower(),
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        entries.append(entry)
        for name in resource.subresources:
            verbs = ["get"] if name == "log" else ["get", "patch", "update"]
            entries.append(
                {
                    "name": f"{resource.plural}/{name}",
                    "singularName": "",
                    "namespaced": True,
                    "kind": resource.kind,
                    "verbs": verbs,
                }
            )
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": entries}


def table(resource: Resource, objects: list[Object], version: str) -> Object:
    """What `kubectl get` asks for: rows made on the server's side."""
    rows = []
    for shown in objects:
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"]}
        rows.append({"cells": resource.row(shown), "object": partial})
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": 0}
        for name in resource.columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    }
