"""A Step Functions engine on this machine: deploy what was built, execute it, and see what it did.

The engine is a process of its own (`lokki.simulate.server`), which ends with this one, however this one ends. It holds
moto's S3, Secrets Manager and Step Functions interpreter, at an address that only this machine reaches and for callers
whom it gave a key. Functions and jobs are processes of their packaged code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from time import monotonic
from types import TracebackType
from typing import Any
from uuid import uuid4

from lokki.errors import SimulationError
from lokki.simulate.machine import Counts, Execution, Failure, Function, Job, Line, Machine, packed, unpacked_execution
from lokki.simulate.sandbox import Message, receive, send

__all__ = ["Counts", "Engine", "Execution", "Failure", "Function", "Job", "Machine"]

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SERVER = "import sys; sys.path.append({!r}); from lokki.simulate.server import main; main(*{!r})"
_MISSING = "A simulation needs moto and what it builds on ({}): pip install 'lokki-twingraph[simulate]'."
_START = 120
_GLANCE = 1.0  # seconds between two looks at an execution
_MARGIN = 60  # the answer about an execution may come so long after its time was up


class Engine:
    """A context manager; within it, machines are deployed and executed, from several threads if need be.

    Args:
        imports: what functions and jobs may import beside their package and the standard library, when they do not say
            it themselves: `packaged`, only what Lambda brings, or `environment`, all that is installed here.
        region: the region of what is deployed.
        fork: start processes of functions by forking, which is fast; by default on Linux.
    """

    def __init__(self, imports: str = "packaged", *, region: str = "us-east-1", fork: bool | None = None) -> None:
        self._imports = imports
        self._region = region
        self._fork = sys.platform == "linux" if fork is None else fork
        self._hello: Future[Message] = Future()
        self._answers: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._lock = threading.Lock()
        self._logs: list[Line] = []
        self._ended: SimulationError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""

    def __enter__(self) -> Engine:
        if find_spec("moto") is None:
            raise SimulationError(_MISSING.format("moto"))
        self._folder = tempfile.mkdtemp(prefix="lokki-simulate-")
        with open(os.path.join(self._folder, "engine.log"), "wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", _SERVER.format(_ROOT, self._arguments())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for this process, which ends the other
            )
        threading.Thread(target=self._listen, args=(self._process,), name="lokki-engine", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the engine and all that runs in it."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        self._process = None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        """The address of its services."""
        return str(self._greeting()["endpoint"])

    @property
    def environment(self) -> dict[str, str]:
        """What lets a process of its own, such as an S3 client in this one, reach the services."""
        hello = self._greeting()
        return {
            "AWS_ACCESS_KEY_ID": hello["key"],
            "AWS_SECRET_ACCESS_KEY": hello["secret"],
            "AWS_ENDPOINT_URL": hello["endpoint"],
            "AWS_DEFAULT_REGION": self._region,
        }

    def client(self, service: str) -> Any:
        """A boto3 client of one of its services; nothing that this machine is configured for gets in its way."""
        from boto3.session import Session
        from botocore.config import Config
        from botocore.session import Session as Settings

        nowhere = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        settings = Settings({"profile": (None, None, None, None), **nowhere})
        hello = self._greeting()
        session = Session(hello["key"], hello["secret"], region_name=self._region, botocore_session=settings)
        return session.client(service, endpoint_url=hello["endpoint"], config=Config(proxies={}))

    def deploy(self, machine: Machine) -> None:
        """Make the machine, its functions, jobs, bucket and secrets, or replace those of the same name."""
        self._ask({"do": "deploy", "machine": packed(machine)}, _START)

    def execute(
        self,
        machine: str,
        given: Mapping[str, Any],
        name: str | None = None,
        timeout: float = 3600,
        watch: Callable[[Mapping[str, int]], None] | None = None,
    ) -> Execution:
        """Execute a machine and wait until that is over.

        Args:
            machine: its name.
            given: the execution's input.
            name: the execution's name, made up when none is given.
            timeout: after so many seconds it is ended, its functions and jobs too, with the status TIMED_OUT.
            watch: called every second or so with the states that were entered so far, by name.
        """
        name = name or str(uuid4())
        what = {"machine": machine, "input": dict(given), "name": name, "timeout": timeout}
        answer = self._send({"do": "execute", **what})
        until = monotonic() + timeout + _MARGIN
        while watch is not None and not _over(answer, _GLANCE) and monotonic() < until:
            watch(self._ask({"do": "progress", "machine": machine, "name": name}, _MARGIN))
        execution = unpacked_execution(self._awaited(answer, max(until - monotonic(), 0)))
        self._logs.extend(execution.logs)
        return execution

    def logs(self) -> list[Line]:
        """The lines of all executions so far, each with the name of its function or job."""
        return list(self._logs)

    def _arguments(self) -> tuple[str, str, str, bool]:
        return self._folder, self._region, self._imports, self._fork

    def _greeting(self) -> Message:
        if self._process is None:
            raise SimulationError("The engine is not running: use it as a context manager, `with Engine() as engine`.")
        hello = self._hello.result(_START)
        if "missing" in hello:
            raise SimulationError(_MISSING.format(hello["missing"]))
        return hello

    def _ask(self, request: Message, seconds: float) -> Any:
        return self._awaited(self._send(request), seconds)

    def _send(self, request: Message) -> Future[Any]:
        self._greeting()
        answer: Future[Any] = Future()
        with self._lock:
            process = self._process
            if process is None or process.stdin is None:
                raise SimulationError("The engine has ended.")
            if self._ended is not None:
                raise self._ended
            number = next(self._numbers)
            self._answers[number] = answer
            with suppress(BrokenPipeError):
                send(process.stdin.fileno(), {"id": number, **request})
        return answer

    def _awaited(self, answer: Future[Any], seconds: float) -> Any:
        try:
            return answer.result(seconds)
        except TimeoutError:
            raise SimulationError(f"The engine did not answer within {seconds:g} seconds.") from None

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Hand each answer to who waits for it; a thread of its own does this until the engine ends."""
        if process.stdout is None:
            return
        with process.stdout as answers:
            while (message := receive(answers.fileno())) is not None:
                if "id" not in message:
                    self._hello.set_result(message)
                elif waiting := self._answers.pop(message["id"], None):
                    _settle(waiting, message)
        with self._lock:
            self._ended = SimulationError(f"The engine's process ended unexpectedly. {self._last_words()}".strip())
            for waiting in [self._hello, *self._answers.values()]:
                if not waiting.done():
                    waiting.set_exception(self._ended)

    def _last_words(self) -> str:
        with (
            suppress(OSError),
            open(os.path.join(self._folder, "engine.log"), encoding="utf-8", errors="replace") as log,
        ):
            return " ".join(log.read().split("\n")[-4:])
        return ""


def _over(answer: Future[Any], seconds: float) -> bool:
    """Whether the answer came within so many seconds."""
    return bool(wait([answer], seconds).done)


def _settle(waiting: Future[Any], message: Message) -> None:
    if "error" in message:
        waiting.set_exception(SimulationError(message["error"]))
    else:
        waiting.set_result(message["value"])


def _environment() -> dict[str, str]:
    """This environment without what would lead the engine's own clients elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MOTO_")) and not name.upper().endswith("_PROXY")
    }
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return kept | nowhere | {"MOTO_DISABLE_GLOBAL_CORS": "true"}
