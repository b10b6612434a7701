"""The rules of pods and their containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lokki_kubernetes.causes import DNS_LABEL, ENV_NAME, Cause, quantity, required, unsupported, wrong
from lokki_kubernetes.errors import Object, bad_request

VOLUME_SOURCES = ("configMap", "secret", "emptyDir", "hostPath", "downwardAPI", "projected")
RESTARTS = ["Always", "OnFailure", "Never"]
PULLS = ["Always", "IfNotPresent", "Never"]
LABEL = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
VARIABLE = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', "
    "and must not start with a digit"
)
SOURCES = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"


def pod_spec(spec: Object, where: str) -> Iterator[Cause]:
    """What is wrong with the spec of a pod."""
    volumes: set[str] = set()
    for i, volume in enumerate(spec.get("volumes") or []):
        yield from _volume(volume, f"{where}.volumes[{i}]", volumes)
    names: set[str] = set()
    if not spec.get("containers"):
        yield required(f"{where}.containers")
    for group in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(group) or []):
            yield from _container(container, f"{where}.{group}[{i}]", names, volumes)
    if spec.get("restartPolicy", "Always") not in RESTARTS:
        yield unsupported(f"{where}.restartPolicy", spec["restartPolicy"], RESTARTS)
    seconds = spec.get("activeDeadlineSeconds", 1)
    if seconds < 1:
        yield wrong(f"{where}.activeDeadlineSeconds", seconds, "must be between 1 and 2147483647, inclusive")


def _volume(volume: Object, at: str, names: set[str]) -> Iterator[Cause]:
    name = volume.get("name", "")
    if not DNS_LABEL.fullmatch(name):
        yield wrong(f"{at}.name", name, LABEL)
    if name in names:
        yield f"{at}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'
    names.add(name)
    sources = [key for key in volume if key != "name"]
    if not sources:
        yield at, "FieldValueRequired", "Required value: must specify a volume type"
    elif len(sources) > 1:
        yield f"{at}.{sources[1]}", "FieldValueForbidden", "Forbidden: may not specify more than 1 volume type"
    elif sources[0] not in VOLUME_SOURCES:
        yield f"{at}.{sources[0]}", "FieldValueForbidden", "Forbidden: the stand-in does not serve this volume type"


def _container(container: Object, at: str, names: set[str], volumes: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{at}.name")
    elif not DNS_LABEL.fullmatch(name):
        yield wrong(f"{at}.name", name, LABEL)
    elif name in names:
        yield f"{at}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"'
    names.add(name)
    image = container.get("image", "")
    if not image:
        yield required(f"{at}.image")
    elif image != image.strip():
        yield wrong(f"{at}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy", "Always") not in PULLS:
        yield unsupported(f"{at}.imagePullPolicy", container["imagePullPolicy"], PULLS)
    for i, variable in enumerate(container.get("env") or []):
        yield from _variable(variable, f"{at}.env[{i}]")
    yield from _mounts(container.get("volumeMounts") or [], f"{at}.volumeMounts", volumes)
    yield from _resources(container.get("resources") or {}, f"{at}.resources")


def _variable(variable: Object, at: str) -> Iterator[Cause]:
    name, source = variable.get("name", ""), variable.get("valueFrom")
    if not ENV_NAME.fullmatch(name):
        yield wrong(f"{at}.name", name, VARIABLE)
    if source is not None:
        if variable.get("value"):
            yield wrong(f"{at}.valueFrom", "", "may not be specified when `value` is not empty")
        if len(source) != 1:
            yield wrong(f"{at}.valueFrom", "", SOURCES)


def _mounts(mounts: list[Object], at: str, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for i, mount in enumerate(mounts):
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if name not in volumes:
            yield f"{at}[{i}].name", "FieldValueNotFound", f'Not found: "{name}"'
        if path in paths:
            yield wrong(f"{at}[{i}].mountPath", path, "must be unique")
        paths.add(path)


def _resources(resources: Object, at: str) -> Iterator[Cause]:
    amounts: dict[str, dict[str, float]] = {"limits": {}, "requests": {}}
    for group, found in amounts.items():
        for name, value in (resources.get(group) or {}).items():
            found[name] = _amount(value, f"{at}.{group}.{name}")
            if found[name] < 0:
                yield wrong(f"{at}.{group}[{name}]", str(value), "must be greater than or equal to 0")
            if name not in ("cpu", "memory", "ephemeral-storage") and "/" not in name and "hugepages-" not in name:
                yield wrong(f"{at}.{group}[{name}]", name, "must be a standard resource type or fully qualified")
    for name, asked in amounts["requests"].items():
        if asked > amounts["limits"].get(name, float("inf")):
            limit = f"must be less than or equal to {name} limit of {resources['limits'][name]}"
            yield wrong(f"{at}.requests", str(resources["requests"][name]), limit)


def _amount(value: Any, at: str) -> float:
    try:
        return quantity(value)
    except ValueError:
        pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
        raise bad_request(f"{at}: quantities must match the regular expression '{pattern}'") from None
