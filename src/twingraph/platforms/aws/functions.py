"""The functions that calls run in: made, or brought up to date, once, by whoever calls first.

A function holds the worker and nothing of a component, so it changes only with the worker or with its settings. One
that somebody else made is never changed: a tag says which are ours.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from lokki.aws.client import code_of
from lokki.aws.pace import Pace
from lokki.frozen import field, frozen
from twingraph.errors import PlatformError
from twingraph.platforms.aws.account import Account, refusals, tags

HANDLER = "twingraph_worker.lambda_handler"
"""What a function that carries the worker has as its handler."""
_FILE = "twingraph_worker.py"
_CODE_TAG = "twingraph:code"
_BUSY = "ResourceConflictException"  # it is there already, or somebody changes it just now
_TRIES = 60  # while somebody changes it
_NEW_ROLE = "cannot be assumed by Lambda"  # also said of a role that was made in the last seconds
_ROLE_TRIES = 8


@frozen
class Wish:
    """What a function should be.

    Attributes:
        name: its name.
        role: the ARN of its role; empty if none may be made.
        settings: what it must have, in Lambda's words.
        first: what it gets besides when it is made.
        component: who wants it.
        labels: what it is tagged with when it is made.
    """

    name: str
    role: str
    settings: Mapping[str, Any]
    first: Mapping[str, Any] = field(default_factory=dict, compare=False)
    component: str = field(default="", compare=False)
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)


class Functions:
    """The functions that were seen to; each is seen to again when something else is wished of it."""

    def __init__(self, worker: bytes) -> None:
        self._worker = worker
        self._digest = sha256(worker).hexdigest()[:16]
        self._met: dict[tuple[Account, str], Wish] = {}
        self._locks: dict[tuple[Account, str], threading.Lock] = {}
        self._lock = threading.Lock()

    def ready(self, account: Account, wish: Wish) -> None:
        """See to it that the function is there and as it is wished; others that need it wait meanwhile."""
        key = account, wish.name
        with self._lock:
            mine = self._locks.setdefault(key, threading.Lock())
        with mine:
            if self._met.get(key) != wish:
                with refusals(f"make or update the function {wish.name!r}"):
                    _Change(account.client("lambda"), wish, self._worker, self._digest).carry_out()
                self._met[key] = wish

    def forget(self, account: Account, name: str) -> None:
        """Forget a function that is not there any more."""
        self._met.pop((account, name), None)


class _Change:
    def __init__(self, client: Any, wish: Wish, worker: bytes, digest: str) -> None:
        self._client = client
        self._wish = wish
        self._worker = worker
        self._digest = digest

    def carry_out(self) -> None:
        found = self._found()
        if found is None and not self._created():
            found = self._found()
        if found is not None and _CODE_TAG in found.get("Tags", {}):
            self._updated(found)
        if found is None or _CODE_TAG in found.get("Tags", {}):
            self._settled()

    def _found(self) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._client.get_function(FunctionName=self._wish.name)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        return answer

    def _created(self) -> bool:
        """Whether it was made here, and not by another process in between."""
        from botocore.exceptions import ClientError

        wish, pace = self._wish, Pace()
        request = {
            "FunctionName": wish.name,
            "Handler": HANDLER,
            "Code": {"ZipFile": self._code()},
            "Description": f"Runs calls of TwinGraph's component {wish.component}"[:256],
            "Tags": tags(wish.labels, code=self._digest, component=wish.component),
            **wish.first,
            **wish.settings,
            "Role": wish.role,
        }
        for left in reversed(range(_ROLE_TRIES)):
            try:
                self._client.create_function(**request)
                return True
            except ClientError as error:
                if code_of(error) == _BUSY:
                    return False
                if _NEW_ROLE not in str(error) or not left:
                    raise
            pace.wait()
        raise AssertionError

    def _updated(self, found: Mapping[str, Any]) -> None:
        configuration = found["Configuration"]
        if found["Tags"][_CODE_TAG] != self._digest:
            self._again("update_function_code", FunctionName=self._wish.name, ZipFile=self._code())
            self._settled()
            self._client.tag_resource(Resource=configuration["FunctionArn"], Tags={_CODE_TAG: self._digest})
        wished = {**self._wish.settings, "Role": self._wish.role}
        if other := {name: value for name, value in wished.items() if _of(configuration, name) != value}:
            self._again("update_function_configuration", FunctionName=self._wish.name, **other)

    def _again(self, operation: str, **request: Any) -> None:
        """Change it, as soon as nobody else does."""
        from botocore.exceptions import ClientError

        pace = Pace()
        for left in reversed(range(_TRIES)):
            try:
                getattr(self._client, operation)(**request)
                return
            except ClientError as error:
                if code_of(error) != _BUSY or not left:
                    raise
            pace.wait()

    def _settled(self) -> None:
        """Wait until Lambda is done with it."""
        pace = Pace()
        while True:
            now = self._client.get_function_configuration(FunctionName=self._wish.name)
            state, update = now.get("State", "Active"), now.get("LastUpdateStatus", "Successful")
            if state == "Failed" or update == "Failed":
                why = now.get("StateReason") if state == "Failed" else now.get("LastUpdateStatusReason")
                raise PlatformError(
                    f"Lambda could not make the function {self._wish.name!r} ready: {str(why).rstrip('.')}. "
                    "Correct its settings in config={...}, or delete it and let it be made anew."
                )
            if state != "Pending" and update != "InProgress":
                return
            pace.wait()

    def _code(self) -> bytes:
        from lokki.builder.package import zipped

        return zipped({_FILE: self._worker})


def _of(configuration: Mapping[str, Any], name: str) -> Any:
    """What a function has, as one would ask for it."""
    match name:
        case "Environment":
            return {"Variables": configuration.get("Environment", {}).get("Variables", {})}
        case "Layers":
            return [each["Arn"] for each in configuration.get("Layers", [])]
        case _:
            return configuration.get(name)
