"""The official schemas of Kubernetes, which every manifest is held against."""

from __future__ import annotations

import functools
from typing import Any

import jsonschema
from kubernetes_validate import utils as official
from referencing import Registry
from referencing import Resource as SchemaResource

from lokki_kubernetes.causes import Cause
from lokki_kubernetes.errors import Object, bad_request, invalid
from lokki_kubernetes.resources import Resource


@functools.cache
def _validator(kind: str, group: str, version: str) -> jsonschema.Draft202012Validator:
    folder = f"v{version}-local-strict"
    name = f"{kind.lower()}-{group.split('.', maxsplit=1)[0] + '-' if group else ''}v1.json"
    schema = official.schema_contents(f"kubernetes-json-schema/{folder}/{name}", version)
    definitions = official.schema_contents(f"kubernetes-json-schema/{folder}/_definitions.json", version)
    registry: Registry[Any] = SchemaResource.from_contents(definitions) @ (
        SchemaResource.from_contents(schema) @ Registry()
    )
    return jsonschema.Draft202012Validator(schema, registry=registry)


def schema_version(wanted: str | None) -> str:
    versions = official.all_versions()
    if wanted is None:
        return str(versions[-1])
    return str(next(v for v in versions if official.major_minor(v) == official.major_minor(wanted.lstrip("v"))))


def check_schema(resource: Resource, obj: Object, version: str) -> None:
    """Unknown fields and wrong types are refused as a server refuses them under fieldValidation=Strict."""
    head = f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: '
    causes: list[Cause] = []
    for error in _validator(resource.kind, resource.group, version).iter_errors(_without_nulls(obj)):
        path = _path(error.absolute_path)
        if error.validator == "additionalProperties":
            known = set(error.schema.get("properties", {}))
            names = sorted(set(error.instance) - known)
            unknown = ", ".join(f'unknown field "{f"{path}.{name}".lstrip(".")}"' for name in names)
            raise bad_request(f"{head}strict decoding error: {unknown}")
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            causes += [(f"{path}.{name}".lstrip("."), "FieldValueRequired", "Required value") for name in missing]
        elif error.validator == "enum":
            causes.append((path, "FieldValueNotSupported", f"Unsupported value: {error.instance!r}"))
        else:
            raise bad_request(f"{head}{path}: {error.message}")
    if causes:
        raise invalid(resource.kind, obj.get("metadata", {}).get("name", ""), resource.group, causes)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
