"""JSON patch, JSON merge patch, and the strategic merge patch of built-in types."""

from __future__ import annotations

import copy
from typing import Any

from lokki_kubernetes.errors import ApiError, Object, bad_request

# Lists that are merged by a key; every other list is replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "ownerReferences": "uid",
    "secrets": "name",
}
MERGED_VALUES = {"finalizers"}


def apply(content_type: str, obj: Object, patch: Any) -> Object:
    kind = content_type.partition(";")[0].strip()
    if kind == "application/json-patch+json":
        return _json_patch(obj, patch)
    if not isinstance(patch, dict):
        raise bad_request("a merge patch must be an object")
    if kind == "application/merge-patch+json":
        return dict(_merge(obj, patch))
    if kind == "application/strategic-merge-patch+json":
        return _strategic(obj, patch)
    raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {kind}")


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _strategic(target: Any, patch: Object) -> Object:
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [item for item in merged.get(name) or [] if item not in value]
        elif key == "$retainKeys":
            merged = {name: item for name, item in merged.items() if name in value}
        elif key.startswith("$"):
            continue
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _strategic(merged.get(key), value)
        elif isinstance(value, list) and key in MERGED_VALUES:
            merged[key] = list(merged.get(key) or []) + [v for v in value if v not in (merged.get(key) or [])]
        elif isinstance(value, list) and key in MERGE_KEYS:
            merged[key] = _strategic_list(merged.get(key) or [], value, MERGE_KEYS[key])
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _strategic_list(target: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = list(target)
    for item in patch:
        at = next((i for i, old in enumerate(merged) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(_strategic({}, item))
        else:
            merged[at] = _strategic(merged[at], item)
    return merged


def _json_patch(obj: Object, patch: Any) -> Object:
    if not isinstance(patch, list):
        raise bad_request("a JSON patch must be a list of operations")
    root: Any = copy.deepcopy(obj)
    for step in patch:
        path = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        try:
            root = _operate(root, step, path)
        except (KeyError, IndexError, ValueError, TypeError):
            message = f"the server rejected our request due to an error in our request: {step['op']} {step['path']}"
            raise ApiError(422, "Invalid", message) from None
    return dict(root)


def _operate(root: Any, step: Object, path: list[str]) -> Any:
    if step["op"] in ("move", "copy"):
        source = [part.replace("~1", "/").replace("~0", "~") for part in step["from"].split("/")[1:]]
        value = copy.deepcopy(_at(root, source))
        if step["op"] == "move":
            root = _operate(root, {"op": "remove"}, source)
        return _operate(root, {"op": "add", "value": value}, path)
    if not path:
        return copy.deepcopy(step["value"])
    parent, last = _at(root, path[:-1]), path[-1]
    key: Any = (len(parent) if last == "-" else int(last)) if isinstance(parent, list) else last
    if step["op"] == "test":
        if parent[key] != step["value"]:
            raise ValueError(path)
    elif step["op"] == "remove":
        del parent[key]
    elif step["op"] == "add" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(step["value"]))
    else:
        if step["op"] == "replace":
            parent[key]
        parent[key] = copy.deepcopy(step["value"])
    return root


def _at(root: Any, path: list[str]) -> Any:
    for part in path:
        root = root[int(part)] if isinstance(root, list) else root[part]
    return root
