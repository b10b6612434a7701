"""Calls as invocations of AWS Lambda functions, which hold the worker and are given the component with each call.

A call waits in a thread of its own for its function, because Lambda tells what became of an invocation to nobody else.
What is larger than Lambda passes on goes through a bucket. An invocation cannot be ended: one that nobody waits for any
more goes on until it is done or its function's time is up.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from functools import cached_property
from math import ceil
from time import time
from typing import Any

from lokki.aws.client import code_of
from twingraph.envelope import pack, unpack, worker_source
from twingraph.errors import ComponentError, PlatformError
from twingraph.placed import Outcome, Placed, Raised
from twingraph.platforms.aws import options
from twingraph.platforms.aws.account import Account, Accounts, described, refusals
from twingraph.platforms.aws.function_failures import LARGEST, failure, foreign, too_large
from twingraph.platforms.aws.function_log import FunctionLog
from twingraph.platforms.aws.functions import Functions, Wish
from twingraph.platforms.aws.parcels import Parcels

_LONGEST = 900  # seconds that a function may run
_LONGEST_NAME = 64
_PER_PROCESSOR = 1769  # MB of memory with which a function has one whole processor
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds between two tries of what Lambda was too busy for
_AGAIN = (
    "TooManyRequestsException",  # of all functions together, or of this one
    "ResourceConflictException",  # it is being made or changed just now
    "ResourceNotReadyException", "CodeArtifactUserPendingException",
    "EC2ThrottledException", "ENILimitReachedException", "ServiceException", "ServiceUnavailableException",
)  # fmt: skip
_TOO_LARGE = ("RequestTooLargeException", "RequestEntityTooLargeException", "413")
_NAME_ONE = (
    "name one that carries TwinGraph's worker in config={'function_name': ...}, or let one be made by naming the role "
    "that it shall have in config={'role': ...} or TWINGRAPH_LAMBDA_ROLE."
)
_ENVELOPE, _ANSWER = "envelope", "answer"


class Lambda:
    """The platform."""

    name = "lambda"
    options = frozenset({
        "function_name", "runtime", "memory_size", "timeout", "environment", "layers", "role", "architecture", "bucket",
        "region", "endpoint", "retries", "pickle",
    })  # fmt: skip

    def __init__(self) -> None:
        self._accounts = Accounts()
        self._lock = threading.Lock()

    def check(self) -> str:
        return described(self._accounts.of({}), "AWS Lambda")

    def start(self, call: Placed) -> _Invocation:
        account = self._accounts.of(call.placement.config)
        wish = _wish(call, account)
        job = _Invocation(call, account, wish, self._functions)
        threading.Thread(target=job.work, name=f"lambda-{call.id}", daemon=True).start()
        return job

    def poll(self, job: _Invocation, seconds: float) -> Outcome | None:
        job.done.wait(seconds)
        return job.outcome

    def cancel(self, job: _Invocation) -> None:
        job.leave()

    def clear(self, job: _Invocation) -> None:
        job.parcels.remove()

    @cached_property
    def _functions(self) -> Functions:
        return Functions(worker_source().encode())


class _Invocation:
    """A call on its way.

    Attributes:
        done: raised when there is an outcome.
        left: raised when nobody waits for it any more.
        outcome: what became of it.
        parcels: its objects in the bucket.
    """

    def __init__(self, call: Placed, account: Account, wish: Wish, functions: Functions) -> None:
        self.done = threading.Event()
        self.left = threading.Event()
        self.outcome: Outcome | None = None
        self.parcels = Parcels(account, call.id, (call.placement.timeout or _LONGEST) + _LONGEST)
        self._call = call
        self._account = account
        self._wish = wish
        self._functions = functions
        self._tries = options.whole(call, "retries", 0, 1_000_000)
        self._began = time()
        self._made_again = False

    def leave(self) -> None:
        """Nobody waits for it any more; its answer, should there be one, is thrown away."""
        self.left.set()
        if self._account.bucket:
            self.parcels.mine(_ANSWER)

    def work(self) -> None:
        """See the call through."""
        try:
            self.outcome = self._outcome()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits gets it
            self.outcome = Raised(error)
        self.done.set()
        if self.left.is_set():
            self.parcels.remove()

    def _outcome(self) -> Outcome:
        envelope = pack(self._call)
        if self._wish.role:
            self._functions.ready(self._account, self._wish)
        with refusals(f"call the function {self._wish.name!r}"):
            answer = self._invoked(self._event(envelope))
            payload = answer["Payload"].read()
        self._log(answer)
        if "FunctionError" in answer:
            raise failure(self._account, self._wish.name, self._call.component, payload)
        return self._read(payload)

    def _event(self, envelope: bytes) -> bytes:
        """What Lambda is given: the envelope, or a link to it; and one for the answer, should that be too large."""
        if not self._account.bucket:
            if len(envelope) > LARGEST:
                raise too_large(f"What component {self._call.component!r} is given")
            return envelope
        link = self.parcels.to_write(_ANSWER)
        whole = json.dumps({**json.loads(envelope), _ANSWER: link}).encode()
        if len(whole) <= LARGEST:
            return whole
        self.parcels.put(_ENVELOPE, envelope)
        return json.dumps({_ENVELOPE: self.parcels.to_read(_ENVELOPE), _ANSWER: link}).encode()

    def _invoked(self, event: bytes) -> Any:
        """The function's answer; what Lambda is too busy for is tried again, ever more slowly, until nobody waits."""
        from botocore.exceptions import ClientError

        pause, tries = _FIRST_PAUSE, 0
        while True:
            try:
                return self._account.invoker().invoke(
                    FunctionName=self._wish.name, InvocationType="RequestResponse", LogType="Tail", Payload=event
                )
            except ClientError as error:
                code = code_of(error)
                if code == "ResourceNotFoundException":
                    self._missing()
                elif code in _TOO_LARGE:
                    raise too_large(f"What component {self._call.component!r} is given") from error
                elif code not in _AGAIN or tries == self._tries:
                    raise
            tries += 1
            if self.left.wait(pause * random.uniform(0.5, 1)):  # noqa: S311 - spreads calls, hides nothing
                raise PlatformError("Nobody waits for this call any more.")
            pause = min(_LONGEST_PAUSE, pause * 1.6)

    def _missing(self) -> None:
        """The function is not there: it is made again, once, or else an error."""
        if not self._wish.role:
            raise PlatformError(f"There is no function {self._wish.name!r} in {self._account.region}: {_NAME_ONE}")
        if self._made_again:
            raise PlatformError(f"The function {self._wish.name!r} is removed again and again while it is called.")
        self._made_again = True
        self._functions.forget(self._account, self._wish.name)
        self._functions.ready(self._account, self._wish)

    def _log(self, answer: Any) -> None:
        request = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amzn-requestid", "")
        log = FunctionLog(self._account, self._wish.name, request, self._began)
        log.tell(self._call, answer.get("LogResult", ""), self.left)

    def _read(self, payload: bytes) -> Outcome:
        """What the worker answered, here or in the bucket."""
        try:
            told = json.loads(payload)
        except ValueError:
            told = None
        if isinstance(told, dict) and told.keys() == {_ANSWER}:
            self.parcels.mine(_ANSWER)
            spilled = self.parcels.get(_ANSWER)
            if spilled is None:
                raise PlatformError(f"The answer of component {self._call.component!r} is gone from the bucket.")
            return unpack(spilled, self._call)
        if not isinstance(told, dict) or "twingraph" not in told:
            raise foreign(self._wish.name, f"it answered {payload[:100].decode(errors='replace')!r}")
        if "too large for an answer of Lambda" in str(told.get("error", {}).get("message", "")):
            raise too_large(f"What component {self._call.component!r} returned")
        return unpack(payload, self._call)


def _wish(call: Placed, account: Account) -> Wish:
    """The function that the call wants."""
    if call.placement.image is not None:
        raise ComponentError(
            f"Component {call.component!r}: docker_image has no effect on Lambda, where functions run in Lambda's own "
            "image. Leave it out, and bring libraries in config={'layers': [...]}."
        )
    if options.graphics(call):
        raise ComponentError(f"Component {call.component!r}: Lambda has no GPUs; platform='batch' has.")
    settings = _settings(call)
    role = _role(options.text(call, "role") or account.role, account)
    name = options.text(call, "function_name") or (role and _own_name(call.component))
    if not name:
        raise PlatformError(f"Component {call.component!r} does not say which function runs it: {_NAME_ONE}")
    first = {
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Timeout": min(_LONGEST, max(1, ceil(call.placement.timeout or _LONGEST))),
        "MemorySize": 512,
        "Architectures": [options.text(call, "architecture") or "x86_64"],
    }
    return Wish(name, role, settings, first, call.component, call.placement.labels)


def _settings(call: Placed) -> dict[str, Any]:
    """What the component asks of its function, in Lambda's words."""
    memory = options.mebibytes(call, "memory_size", 128, 10240)
    if memory is None and (wanted := options.processors(call, "")) is not None:
        memory = min(10240, max(128, ceil(wanted * _PER_PROCESSOR)))
    variables = options.mapping(call, "environment")
    settings = {
        "Runtime": options.text(call, "runtime") or None,
        "MemorySize": memory,
        "Timeout": options.whole(call, "timeout", 1, _LONGEST),
        "Environment": None if variables is None else {"Variables": variables},
        "Layers": options.texts(call, "layers"),
    }
    return {name: value for name, value in settings.items() if value is not None}


def _role(named: str, account: Account) -> str:
    """The ARN of a role that may be named without its account."""
    if not named or named.startswith("arn:"):
        return named
    with refusals("ask AWS whose these credentials are"):
        return f"arn:{account.caller.partition}:iam::{account.caller.account}:role/{named}"


def _own_name(component: str) -> str:
    import re
    from hashlib import sha256

    name = "twingraph-" + re.sub(r"[^\w-]", "-", component, flags=re.ASCII)
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}-{sha256(component.encode()).hexdigest()[:8]}"
