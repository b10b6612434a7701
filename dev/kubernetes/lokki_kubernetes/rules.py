"""The rules that a manifest must keep and that schemas cannot say."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from lokki_kubernetes.causes import DATA_KEY, DNS_SUBDOMAIN, LABEL_KEY, LABEL_VALUE, Cause, unsupported, wrong
from lokki_kubernetes.errors import Object, bad_request, invalid
from lokki_kubernetes.pod_rules import pod_spec
from lokki_kubernetes.resources import Resource

SUBDOMAIN = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
KEY = "name part must consist of alphanumeric characters, '-', '_' or '.'"
VALUE = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
DATA = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"


def check_rules(resource: Resource, obj: Object) -> None:
    causes = [*_metadata(resource, obj["metadata"])]
    if resource.plural == "jobs":
        causes += _job(obj.get("spec") or {})
    elif resource.plural == "pods":
        causes += pod_spec(obj.get("spec") or {}, "spec")
    elif resource.plural in ("configmaps", "secrets"):
        causes += _data(resource, obj)
    if causes:
        raise invalid(resource.kind, obj["metadata"].get("name", ""), resource.group, causes)


def check_update(resource: Resource, before: Object, after: Object) -> None:
    """Fields that never change once an object is there."""
    if resource.plural == "jobs":
        old, new = before["spec"], after["spec"]
        frozen = [
            name for name in ("completions", "selector", "template", "completionMode") if old.get(name) != new.get(name)
        ]
        if "template" in frozen and old.get("suspend") and not before.get("status", {}).get("startTime"):
            frozen.remove("template")
        causes = [(f"spec.{name}", "FieldValueInvalid", "Invalid value: field is immutable") for name in frozen]
    elif resource.plural == "pods":
        keep = [
            {k: v for k, v in o["spec"].items() if k not in ("activeDeadlineSeconds", "tolerations")}
            for o in (before, after)
        ]
        causes = []
        if keep[0] != keep[1]:
            message = "Forbidden: pod updates may not change fields other than `spec.activeDeadlineSeconds`"
            causes = [("spec", "FieldValueForbidden", message)]
    elif resource.plural in ("configmaps", "secrets") and before.get("immutable"):
        same = all(before.get(name) == after.get(name) for name in ("data", "binaryData", "immutable"))
        causes = (
            [] if same else [("data", "FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set")]
        )
    else:
        causes = []
    if causes:
        raise invalid(resource.kind, after["metadata"]["name"], resource.group, causes)


def _metadata(resource: Resource, metadata: Object) -> Iterator[Cause]:
    name = metadata.get("name")
    if not name and not metadata.get("generateName"):
        yield "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
    elif name and (len(name) > 253 or not DNS_SUBDOMAIN.fullmatch(name)):
        yield wrong("metadata.name", name, SUBDOMAIN)
    elif name and resource.plural == "jobs" and len(name) > 63:
        yield wrong("spec.template.labels", name, "must be no more than 63 characters")
    yield from _labels("metadata", metadata)


def _labels(where: str, metadata: Object) -> Iterator[Cause]:
    for key, value in (metadata.get("labels") or {}).items():
        if not LABEL_KEY.fullmatch(key):
            yield wrong(f"{where}.labels", key, KEY)
        if not LABEL_VALUE.fullmatch(value):
            yield wrong(f"{where}.labels", value, VALUE)
    for key in metadata.get("annotations") or {}:
        if not LABEL_KEY.fullmatch(key):
            yield wrong(f"{where}.annotations", key, KEY)


def _job(spec: Object) -> Iterator[Cause]:
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if (spec.get(name) or 0) < 0:
            yield wrong(f"spec.{name}", spec[name], "must be greater than or equal to 0")
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        yield "spec.completions", "FieldValueRequired", "Required value: when completion mode is Indexed"
    if spec.get("completionMode") not in (None, "Indexed", "NonIndexed"):
        yield unsupported("spec.completionMode", spec["completionMode"], ["Indexed", "NonIndexed"])
    template = spec.get("template") or {}
    yield from _labels("spec.template", template.get("metadata") or {})
    pod = template.get("spec") or {}
    yield from pod_spec(pod, "spec.template.spec")
    if pod.get("restartPolicy", "Always") == "Always":
        yield unsupported("spec.template.spec.restartPolicy", "Always", ["OnFailure", "Never"])


def _data(resource: Resource, obj: Object) -> Iterator[Cause]:
    size = 0
    for group in ("data", "stringData", "binaryData"):
        for key, value in (obj.get(group) or {}).items():
            if not DATA_KEY.fullmatch(key) or key in (".", ".."):
                yield wrong(f"{group}[{key}]", key, DATA)
            is_encoded = group == "binaryData" or (group == "data" and resource.plural == "secrets")
            size += len(_decoded(resource.kind, f"{group}.{key}", value) if is_encoded else value.encode())
    if size > 1024 * 1024:
        where = "data" if resource.plural == "secrets" else ""
        yield where, "FieldValueTooLong", "Too long: must have at most 1048576 bytes"


def _decoded(kind: str, where: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        head = f'{kind} in version "v1" cannot be handled as a {kind}'
        raise bad_request(f"{head}: illegal base64 data in {where}") from None
