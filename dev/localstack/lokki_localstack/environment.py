"""An execution environment: it runs the calls of a function one after the other, and says of each what Lambda says."""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from lokki_localstack.process import Launch, RuntimeProcess
from lokki_localstack.runtime_api import Exited, InitError, Invocation, Ready, Result, error

_INIT_SECONDS = 60.0


class EnvironmentStopped(RuntimeError):
    """The environment was stopped while it started or worked."""


@dataclass(frozen=True)
class Limits:
    """What a version of a function may take, and its name."""

    timeout: float
    memory_mb: int
    version: str = "$LATEST"


@dataclass(frozen=True)
class Outcome:
    """What a call answered, and the log of it."""

    payload: bytes
    is_error: bool
    logs: str


@dataclass(frozen=True)
class _Ending:
    """How a call ended: `status` is what Lambda reports of one that did not answer, `note` what it logs."""

    payload: bytes
    is_error: bool
    status: str = ""
    note: str = ""


class Environment:
    """Runs calls, one at a time.

    A process that exits, takes too long or cannot load the handler is replaced at the next call. That the handler could
    not be loaded is the answer of that call, so that its log is kept like that of any other.
    """

    def __init__(self, launch: Launch, limits: Limits) -> None:
        self._launch = launch
        self._limits = limits
        self._process: RuntimeProcess | None = None
        self._failure: bytes | None = None
        self._failure_logs = ""
        self._stopped = False
        self._state_lock = threading.Lock()
        self._work_lock = threading.Lock()

    def start(self) -> None:
        """Start the process, and wait until it has loaded the handler or failed to."""
        with self._work_lock:
            self._boot()

    def invoke(self, invocation: Invocation) -> Outcome:
        """Run a call to its end."""
        with self._work_lock:
            if self._process and not self._process.alive():
                self._discard()  # it ended between two calls
            if self._failure is None and self._process is None:
                self._boot()
            if self._process is None:
                return self._failed(invocation)
            return self._run(self._process, invocation)

    def stop(self) -> None:
        """End the process; a call that it works on raises EnvironmentStopped."""
        with self._state_lock:
            self._stopped = True
            process = self._process
        if process:
            process.kill()

    def history(self) -> str:
        """What the present process has printed."""
        process = self._process
        return process.logs.history() if process else self._failure_logs

    def _boot(self) -> None:
        self._failure, self._failure_logs = None, ""
        started = time.monotonic()
        with self._state_lock:
            if self._stopped:
                raise EnvironmentStopped
            try:
                self._process = process = RuntimeProcess(self._launch)
            except OSError as problem:
                self._failure = error("Runtime.InvalidEntrypoint", str(problem))
                return
        event = process.next_event(_INIT_SECONDS)
        seconds = time.monotonic() - started
        if isinstance(event, Ready):
            process.init_ms = seconds * 1000
            return
        status = "timeout" if event is None else "error"
        match event:
            case InitError(payload):
                self._failure = payload
            case Exited(code):
                self._failure = error("Runtime.ExitError", _exit_text(code))
            case _:
                self._failure = error("Sandbox.Timedout", f"Initialization timed out after {seconds:.2f} seconds")
        self._discard()
        report = f"INIT_REPORT Init Duration: {seconds * 1000:.2f} ms\tPhase: init\tStatus: {status}\n"
        self._failure_logs = process.logs.take() + report
        if self._stopped:
            raise EnvironmentStopped

    def _failed(self, invocation: Invocation) -> Outcome:
        payload, logs = self._failure or b"{}", self._failure_logs
        self._failure, self._failure_logs = None, ""
        said = self._head(invocation) + self._report(invocation, 0.0, status="error")
        return Outcome(payload, is_error=True, logs=logs + said)

    def _run(self, process: RuntimeProcess, invocation: Invocation) -> Outcome:
        before = process.logs.take()
        started = time.monotonic()
        process.api.offer(invocation, int((time.time() + self._limits.timeout) * 1000))
        result = self._result(process, invocation, started + self._limits.timeout)
        elapsed_ms = (time.monotonic() - started) * 1000
        memory = process.peak_memory_mb()
        if not isinstance(result, Result):
            if self._stopped:
                raise EnvironmentStopped
            self._discard()
        ending = self._ending(result, invocation)
        text = process.logs.take() + ending.note
        text += "" if not text or text.endswith("\n") else "\n"
        report = self._report(invocation, elapsed_ms, memory, process.init_ms, ending.status)
        process.init_ms = None
        return Outcome(ending.payload, ending.is_error, before + self._head(invocation) + text + report)

    def _result(self, process: RuntimeProcess, invocation: Invocation, deadline: float) -> Result | Exited | None:
        while True:
            event = process.next_event(deadline - time.monotonic())
            if event is None or isinstance(event, Exited):
                return event
            if isinstance(event, Result) and event.request_id == invocation.request_id:
                return event  # the others are the Ready after each result

    def _ending(self, result: Result | Exited | None, invocation: Invocation) -> _Ending:
        asked = f"RequestId: {invocation.request_id} Error: "
        match result:
            case Result():
                return _Ending(result.payload, result.is_error)
            case Exited(code):
                said = asked + _exit_text(code)
                note = f"{said}\nRuntime.ExitError\n"
                return _Ending(error("Runtime.ExitError", said), is_error=True, status="error", note=note)
            case None:
                said = f"Task timed out after {self._limits.timeout:.2f} seconds"
                now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
                note = f"{now} {invocation.request_id} {said}\n"
                return _Ending(error("Sandbox.Timedout", asked + said), is_error=True, status="timeout", note=note)

    def _discard(self) -> None:
        """Drop the process; the next call starts another."""
        if process := self._process:
            process.kill()
            process.join(5.0)
            with self._state_lock:
                self._process = None

    def _head(self, invocation: Invocation) -> str:
        return f"START RequestId: {invocation.request_id} Version: {self._limits.version}\n"

    def _report(
        self,
        invocation: Invocation,
        elapsed_ms: float,
        used_mb: int | None = None,
        init_ms: float | None = None,
        status: str = "",
    ) -> str:
        memory = self._limits.memory_mb
        fields = [
            f"REPORT RequestId: {invocation.request_id}",
            f"Duration: {elapsed_ms:.2f} ms",
            f"Billed Duration: {math.ceil(elapsed_ms)} ms",
            f"Memory Size: {memory} MB",
            f"Max Memory Used: {used_mb or memory} MB",
            *([] if init_ms is None else [f"Init Duration: {init_ms:.2f} ms"]),
            *([f"Status: {status}"] if status else []),
        ]
        return f"END RequestId: {invocation.request_id}\n" + "\t".join(fields) + "\t\n"


def _exit_text(returncode: int) -> str:
    if returncode >= 0:
        return f"Runtime exited with error: exit status {returncode}"
    name = (signal.strsignal(-returncode) or str(-returncode)).lower()
    return f"Runtime exited with error: signal: {name}"
