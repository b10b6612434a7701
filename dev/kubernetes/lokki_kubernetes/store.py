"""Objects by resource, namespace and name, with versions, selectors and watching."""

from __future__ import annotations

import bisect
import copy
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lokki_kubernetes.errors import Object, already_exists, bad_request, conflict, expired, not_found
from lokki_kubernetes.resources import BY_PLURAL, now

Match = Callable[[Object], bool]
HISTORY = 20_000


@dataclass(frozen=True)
class Change:
    version: int
    type: str  # ADDED, MODIFIED, DELETED
    plural: str
    object: Object
    before: Object | None


class Store:
    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in BY_PLURAL}
        self._changes: list[Change] = []
        self._version = 1
        self._oldest = 1

    @property
    def version(self) -> int:
        return self._version

    def _group(self, plural: str) -> str:
        return BY_PLURAL[plural].group

    def _record(self, kind: str, plural: str, after: Object, before: Object | None) -> None:
        self._version += 1
        after["metadata"]["resourceVersion"] = str(self._version)
        self._changes.append(Change(self._version, kind, plural, copy.deepcopy(after), before))
        if len(self._changes) > HISTORY:
            self._oldest = self._changes[HISTORY // 2].version
            del self._changes[: HISTORY // 2]
        self.changed.notify_all()

    def create(self, plural: str, obj: Object) -> Object:
        resource, obj = BY_PLURAL[plural], copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        with self.changed:
            if not metadata.get("name") and metadata.get("generateName"):
                metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
            key = (metadata.get("namespace", ""), metadata["name"])
            if key in self._objects[plural]:
                raise already_exists(plural, metadata["name"], resource.group)
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata["creationTimestamp"] = now()
            if plural in ("pods", "jobs"):
                metadata.setdefault("generation", 1)
            obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
            self._objects[plural][key] = obj
            self._record("ADDED", plural, obj, None)
            return copy.deepcopy(obj)

    def find(self, plural: str, namespace: str, name: str) -> Object | None:
        with self.changed:
            return copy.deepcopy(self._objects[plural].get((namespace, name)))

    def get(self, plural: str, namespace: str, name: str) -> Object:
        found = self.find(plural, namespace, name)
        if found is None:
            raise not_found(plural, name, self._group(plural))
        return found

    def list(self, plural: str, namespace: str = "", match: Match | None = None) -> list[Object]:
        with self.changed:
            return [
                copy.deepcopy(obj)
                for (space, _), obj in sorted(self._objects[plural].items())
                if (not namespace or space == namespace) and (match is None or match(obj))
            ]

    def each(self, plural: str) -> Iterable[Object]:
        """The objects themselves, not copies: to be looked at while `changed` is held."""
        return self._objects[plural].values()

    def after(self, version: int, seconds: float) -> list[Change]:
        """The changes after a version, waiting for one at most so long."""
        return self._after(version, time.monotonic() + seconds)

    def update(self, plural: str, obj: Object) -> Object:
        """Replace an object; its resourceVersion, when given, must be the current one."""
        metadata = obj["metadata"]
        with self.changed:
            key = (metadata.get("namespace", ""), metadata["name"])
            before = self._objects[plural].get(key)
            if before is None:
                raise not_found(plural, metadata["name"], self._group(plural))
            given = metadata.get("resourceVersion")
            if given and given != before["metadata"]["resourceVersion"]:
                raise conflict(plural, metadata["name"], self._group(plural))
            after = copy.deepcopy(obj)
            for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
                if name in before["metadata"]:
                    after["metadata"][name] = before["metadata"][name]
            after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            if after == before:
                return copy.deepcopy(before)
            if after.get("spec") != before.get("spec") and "generation" in before["metadata"]:
                after["metadata"]["generation"] += 1
            self._objects[plural][key] = after
            self._record("MODIFIED", plural, after, before)
            return copy.deepcopy(after)

    def change(self, plural: str, namespace: str, name: str, edit: Callable[[Object], None]) -> Object | None:
        """Edit the current object under the lock; None when it is gone."""
        with self.changed:
            current = self.find(plural, namespace, name)
            if current is None:
                return None
            edit(current)
            return self.update(plural, current)

    def mark_deleted(self, plural: str, namespace: str, name: str, grace: int) -> Object:
        with self.changed:
            key = (namespace, name)
            current = self._objects[plural].get(key)
            if current is None:
                raise not_found(plural, name, self._group(plural))
            before = copy.deepcopy(current)
            metadata = current["metadata"]
            if "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
                return copy.deepcopy(current)
            metadata.update(deletionTimestamp=now(), deletionGracePeriodSeconds=grace)
            self._record("MODIFIED", plural, current, before)
            return copy.deepcopy(current)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        with self.changed:
            gone = self._objects[plural].pop((namespace, name), None)
            if gone is not None:
                self._record("DELETED", plural, copy.deepcopy(gone), gone)

    def watch(
        self, plural: str, namespace: str, match: Match, since: int | None, seconds: float
    ) -> Iterator[tuple[str, Object]]:
        """(type, object) until `seconds` are over; `since` None starts with what is there."""
        deadline = time.monotonic() + seconds
        with self.changed:
            if since is None:
                current, since = self.list(plural, namespace, match), self._version
            else:
                current = []
                if since < self._oldest - 1:
                    raise expired(since)
        for obj in current:
            yield "ADDED", obj
        while batch := self._after(since, deadline):
            since = batch[-1].version
            for change in batch:
                if change.plural != plural:
                    continue
                if namespace and change.object["metadata"].get("namespace") != namespace:
                    continue
                kind = _seen(change, match)
                if kind:
                    yield kind, copy.deepcopy(change.object)

    def _after(self, since: int, deadline: float) -> list[Change]:
        """The changes after a version, waiting for one; none when the time is over."""
        with self.changed:
            while not (self._changes and self._changes[-1].version > since):
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                self.changed.wait(min(left, threading.TIMEOUT_MAX))
            start = bisect.bisect_right(self._changes, since, key=lambda change: change.version)
            return self._changes[start:]


def _seen(change: Change, match: Match) -> str:
    """What a change is to a watch that looks at matching objects only; empty when it is nothing."""
    is_in = match(change.object)
    was_in = change.before is not None and match(change.before)
    if change.type == "DELETED":
        return "DELETED" if was_in else ""
    if is_in:
        return "MODIFIED" if was_in else "ADDED"
    return "DELETED" if was_in else ""


def label_selector(text: str) -> Match:
    """`a=b,c!=d,e,!f,g in (h,i),j notin (k)`"""
    tests: list[Callable[[dict[str, str]], bool]] = []

    def require(key: str, values: set[str] | None, expected: bool) -> None:
        """The label is (or is not) one of `values`; None: it is there at all."""
        tests.append(lambda labels: (key in labels if values is None else labels.get(key) in values) == expected)

    for part in map(str.strip, re.findall(r"(?:[^,(]|\([^)]*\))+", text)):
        if sets := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", part):
            require(sets[1], {value.strip() for value in sets[3].split(",")}, sets[2] == "in")
        elif "!=" in part:
            key, value = (side.strip() for side in part.split("!=", 1))
            require(key, {value}, False)
        elif "=" in part:
            key, value = (side.strip() for side in part.replace("==", "=").split("=", 1))
            require(key, {value}, True)
        elif part.startswith("!"):
            require(part[1:], None, False)
        elif part:
            require(part, None, True)
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def field_selector(text: str) -> Match:
    """`metadata.name=x,status.phase!=Running`"""
    tests = []
    for part in filter(None, text.split(",")):
        if "=" not in part:
            raise bad_request(f'invalid selector: "{text}"; can\'t understand "{part}"')
        negated = "!=" in part
        path, value = part.replace("!=", "=").replace("==", "=").split("=", 1)
        tests.append((path.strip().split("."), value.strip(), negated))

    def match(obj: Object) -> bool:
        for path, value, negated in tests:
            found: object = obj
            for name in path:
                found = found.get(name) if isinstance(found, dict) else None
            if (str(found if found is not None else "") == value) == negated:
                return False
        return True

    return match
