"""What the server fills in where a manifest is silent."""

from __future__ import annotations

import base64

from lokki_kubernetes.causes import quantity
from lokki_kubernetes.errors import Object
from lokki_kubernetes.resources import Resource


def set_defaults(resource: Resource, obj: Object) -> None:
    if resource.plural == "jobs":
        spec = obj["spec"]
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        for name, value in (
            ("parallelism", 1),
            ("backoffLimit", 6),
            ("completionMode", "NonIndexed"),
            ("suspend", False),
        ):
            if spec.get(name) is None:
                spec[name] = value
        _pod_defaults(spec["template"]["spec"])
    elif resource.plural == "pods":
        _pod_defaults(obj["spec"])
        obj.setdefault("status", {"phase": "Pending", "qosClass": _qos_class(obj["spec"])})
    elif resource.plural == "secrets":
        data = dict(obj.get("data") or {})
        for key, value in (obj.pop("stringData", None) or {}).items():
            data[key] = base64.b64encode(value.encode()).decode()
        obj["data"] = data
        obj.setdefault("type", "Opaque")
    elif resource.plural == "namespaces":
        obj["spec"], obj["status"] = {"finalizers": ["kubernetes"]}, {"phase": "Active"}


def _pod_defaults(spec: Object) -> None:
    for name, value in (
        ("restartPolicy", "Always"),
        ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        if spec.get(name) is None:
            spec[name] = value
    spec.setdefault("securityContext", {})
    for container in (spec.get("initContainers") or []) + spec["containers"]:
        tag = container["image"].rsplit("/", 1)[-1].partition(":")[2]
        latest = "@" not in container["image"] and tag in ("", "latest")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        resources = container.setdefault("resources", {})
        for name, value in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, value)


def _qos_class(spec: Object) -> str:
    every = [c.get("resources", {}) for c in spec["containers"]]
    if not any(r.get("limits") or r.get("requests") for r in every):
        return "BestEffort"
    for resources in every:
        for name in ("cpu", "memory"):
            limit = resources.get("limits", {}).get(name)
            if limit is None or quantity(limit) != quantity(resources.get("requests", {}).get(name, limit)):
                return "Burstable"
    return "Guaranteed"
