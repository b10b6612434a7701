"""Lambda: calls of functions, each answered by a process of its package, as Lambda answers."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterable
from uuid import uuid4

from lokki.simulate.counting import Tally
from lokki.simulate.machine import Function
from lokki.simulate.processes import Keeper
from lokki.simulate.sandbox import Message

_LOADING = 120  # so many seconds may pass until a package is loaded


class UnknownFunction(LookupError):
    """There is no function of that name."""


class Worker:
    """A process of a function; it answers one call at a time, until it is `over`."""

    def __init__(self, keeper: Keeper, function: Function) -> None:
        start = {"folder": function.folder, "handler": function.handler, "environment": _environment(function)}
        start["imports"] = function.imports
        self.function = function
        self.process = keeper.start("functions", start)
        self.over = False
        self._loaded = False

    def answer(self, payload: str, tally: Tally) -> tuple[bool, str]:
        """Whether a call succeeded, and its result or error as JSON."""
        request = str(uuid4())
        self.process.caller.tally = tally
        try:
            reply = self._load(tally) or self._call(payload, request)
        except TimeoutError:
            reply = self._timed_out(request)
        if reply is None:
            reply = self._exited(request)
        if self.over:
            self.process.end()
        tally.add("invocations", self.function.name)
        tally.add("billed_ms", self.function.name, math.ceil(reply.get("seconds", 0) * 1000))
        tally.wrote(self.function.name, self.process.written())
        return (True, reply["payload"]) if "payload" in reply else (False, json.dumps(reply["error"]))

    def _load(self, tally: Tally) -> Message | None:
        """Wait until the package is loaded; returns what went wrong."""
        if self._loaded:
            return None
        loaded = self.process.hear(max(_LOADING, self.function.timeout))
        if loaded is None:
            return self._exited("")
        tally.add("init_ms", self.function.name, math.ceil(loaded["seconds"] * 1000))
        self._loaded = True
        self.over = bool(loaded["error"])
        return {"error": loaded["error"]} if self.over else None

    def _call(self, payload: str, request: str) -> Message | None:
        timeout = self.function.timeout
        self.process.say({"payload": payload, "request": request, "arn": self.function.arn, "timeout": timeout})
        return self.process.hear(timeout)

    def _timed_out(self, request: str) -> Message:
        self.process.kill()
        self.over = True
        cause = f"RequestId: {request} Error: Task timed out after {self.function.timeout:.2f} seconds"
        return {"error": {"errorMessage": cause, "errorType": "Sandbox.Timedout"}, "seconds": self.function.timeout}

    def _exited(self, request: str) -> Message:
        self.over = True
        status = self.process.end()
        how = f"signal: {-status}" if status < 0 else f"exit status {status}"
        cause = f"RequestId: {request} Error: Runtime exited with error: {how}"
        return {"error": {"errorMessage": cause, "errorType": "Runtime.ExitError"}}


class Functions:
    """The functions that are deployed, and the processes that are kept warm for them.

    Args:
        keeper: starts the processes.
        at_once: so many calls are answered at a time, the others wait; as many idle processes are kept.
    """

    def __init__(self, keeper: Keeper, at_once: int = 0) -> None:
        self._keeper = keeper
        self._at_once = at_once or max(2, 2 * (os.cpu_count() or 1))
        self._turns = threading.Semaphore(self._at_once)
        self._lock = threading.Lock()
        self._known: dict[str, Function] = {}
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()

    def deploy(self, functions: Iterable[Function]) -> None:
        """Add functions, or replace those of the same name."""
        with self._lock:
            for function in functions:
                self._known[function.name] = self._known[function.arn] = function
            old = [worker for worker in self._idle if not self._current(worker)]
            self._idle = [worker for worker in self._idle if worker not in old]
        _end(old)

    def call(self, name: str, payload: str, tally: Tally) -> tuple[bool, str]:
        """Call a function by name or ARN: whether it succeeded, and its result or error as JSON."""
        function = self._known.get(name.removesuffix(":$LATEST"))
        if function is None:
            raise UnknownFunction(f"Function not found: {name}")
        with self._turns:
            worker = self._take(function)
            try:
                return worker.answer(payload, tally)
            finally:
                self._give_back(worker)

    def stop(self, tally: Tally) -> None:
        """End the processes that work for an execution."""
        with self._lock:
            for worker in self._busy:
                if worker.process.caller.tally is tally:
                    worker.process.kill()

    def _current(self, worker: Worker) -> bool:
        return self._known.get(worker.function.arn) is worker.function

    def _take(self, function: Function) -> Worker:
        with self._lock:
            warm = next((worker for worker in reversed(self._idle) if worker.function is function), None)
            if warm:
                self._idle.remove(warm)
                self._busy.add(warm)
        if warm:
            return warm
        worker = Worker(self._keeper, function)
        with self._lock:
            self._busy.add(worker)
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy.remove(worker)
            if not worker.over and self._current(worker):
                self._idle.append(worker)
                old = [self._idle.pop(0)] if len(self._idle) > self._at_once else []
            else:
                old = [worker]
        _end(old)


def _end(workers: Iterable[Worker]) -> None:
    for worker in workers:
        worker.process.kill()  # Lambda does not let an idle process finish anything either
        worker.process.end()


def _environment(function: Function) -> dict[str, str]:
    """What Lambda sets for a function, besides what is the same for all."""
    return {
        **function.environment,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "LAMBDA_TASK_ROOT": function.folder,
        "_HANDLER": function.handler,
    }
