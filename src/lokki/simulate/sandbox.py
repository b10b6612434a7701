"""Where the packaged code of a function or a job runs: its own process, which sees its package and not this project.

The file needs nothing but the standard library, and is run as a script in two roles:

- the *keeper*, one per engine. It imports what Lambda brings (boto3), then starts processes when the engine asks: by
  forking itself, which costs a few milliseconds, or as fresh interpreters. It ends when the engine does, and what it
  started ends with it.
- a *process*: it settles in its package, with the environment it was given and no other, and answers calls of its
  handler until the engine hangs up, or runs one command.

A process sees what stands in its package, the standard library, and of the packages that are installed here either
none but those that Lambda brings, or all (for images, whose Dockerfile installs them); lokki itself and what is
installed in editable form never.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from types import TracebackType
from typing import Any

BROUGHT = frozenset({"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"})
PACKED = frozenset({"lokki", "twingraph"})
LARGEST_RESPONSE = 6 * 1024 * 1024
_OURS = (__file__, importlib.__file__)
_GRACE = 0.5  # so long a process may take to end once the engine no longer talks with it

Message = dict[str, Any]


def send(descriptor: int, message: Message) -> None:
    """Write a message: its length in four bytes, then JSON."""
    data = json.dumps(message).encode()
    view = memoryview(len(data).to_bytes(4, "big") + data)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int, until: float = math.inf) -> Message | None:
    """The next message, or None when the other side has hung up; a TimeoutError at the (monotonic) time `until`."""
    head = _read(descriptor, 4, until)
    body = head and _read(descriptor, int.from_bytes(head, "big"), until)
    message: Message | None = json.loads(body) if body else None
    return message


def _read(descriptor: int, count: int, until: float) -> bytes:
    parts = []
    while count:
        if until < math.inf:
            _await(descriptor, until)
        try:
            part = os.read(descriptor, min(count, 1 << 20))
        except ConnectionError:
            part = b""
        if not part:
            return b""
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _await(descriptor: int, until: float) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError


class Brought:
    """Finds the packages that Lambda brings, where they are installed here."""

    def __init__(self, site: Sequence[str]) -> None:
        self._site = list(site)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """The package, when it is one of them."""
        return PathFinder.find_spec(name, self._site) if path is None and name in BROUGHT else None


class Packed:
    """Finds lokki in the package, and nowhere else."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """The packed module; where there is none, it does not exist."""
        if path is not None or name not in PACKED:
            return None
        if spec := PathFinder.find_spec(name, sys.path[:1]):
            return spec
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def see_little(site: Sequence[str]) -> None:
    """Let this process import the standard library and what Lambda brings, from the folders of `site`."""
    own = os.path.dirname(os.__file__)
    installed = (f"{os.sep}site-packages", f"{os.sep}dist-packages")
    inside = [path for path in sys.path if path == own or path.startswith(own + os.sep) or path.endswith(".zip")]
    sys.path[:] = [path for path in inside if not any(name in path for name in installed)]
    sys.meta_path[:] = [Packed(), BuiltinImporter, FrozenImporter, PathFinder, Brought(site)]
    importlib.invalidate_caches()


def settle(start: Message, log: int) -> None:
    """Make this process one of the package's: its folder, environment and modules; output goes to the log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(start["environment"])
    time.tzset()
    os.chdir(start["folder"])
    sys.path[:] = [start["folder"], *sys.path, *start["site"]]
    if any(_stands_in(start["folder"], name) for name in BROUGHT):
        _forget(BROUGHT)
    importlib.invalidate_caches()


def _stands_in(folder: str, name: str) -> bool:
    return os.path.isdir(os.path.join(folder, name)) or os.path.isfile(os.path.join(folder, f"{name}.py"))


def _forget(packages: frozenset[str]) -> None:
    """A package may hold another boto3 than the one that was imported ahead."""
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


class Context:
    """What Lambda hands a handler beside the event."""

    def __init__(self, call: Message) -> None:
        self.aws_request_id: str = call["request"]
        self.invoked_function_arn: str = call["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self.log_stream_name = f"simulation/[$LATEST]{os.getpid()}"
        self.client_context = None
        self.identity = None
        self._until = time.monotonic() + call["timeout"]

    def get_remaining_time_in_millis(self) -> int:
        """How long the call may still take."""
        left = self._until - time.monotonic()
        return int(max(0.0, left) * 1000)


Handler = Callable[[Any, Context], Any]


def serve(engine: int, name: str) -> None:
    """Load the handler, say so, and answer calls of it until the engine hangs up."""
    begun = time.perf_counter()
    failure: Message | None = None
    handler: Handler | None = None
    try:
        handler = load(name)
    except Exception as error:  # noqa: BLE001 - any error of the package is the answer
        failure = told(*_init_error(error, name), error.__traceback__)
    send(engine, {"seconds": time.perf_counter() - begun, "error": failure})
    while handler and (call := receive(engine)) is not None:
        send(engine, answer(handler, call))


def load(name: str) -> Handler:
    """The handler that `module.function` names."""
    module, _, function = name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module.replace("/", ".")), function)
    return handler


def _init_error(error: Exception, name: str) -> tuple[str, str]:
    module, _, function = name.rpartition(".")
    match error:
        case ImportError():
            return "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}"
        case SyntaxError():
            return "Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}"
        case AttributeError(name=missing) if missing == function:
            return "Runtime.HandlerNotFound", f"Handler '{function}' missing on module '{module}'"
        case _:
            return type(error).__name__, str(error)


def answer(handler: Handler, call: Message) -> Message:
    """What the handler makes of the call's event, as Lambda would say it, and how long it took."""
    begun = time.perf_counter()
    reply = _answer(handler, call)
    sys.stdout.flush()
    sys.stderr.flush()
    return reply | {"seconds": time.perf_counter() - begun}


def _answer(handler: Handler, call: Message) -> Message:
    try:
        result = handler(json.loads(call["payload"]), Context(call))
    except Exception as error:  # noqa: BLE001 - any error of the package is the answer
        return {"error": told(type(error).__name__, str(error), error.__traceback__)}
    try:
        payload = json.dumps(result)
    except (TypeError, ValueError) as error:
        return {"error": told("Runtime.MarshalError", f"Unable to marshal response: {error}", None)}
    if (size := len(payload.encode())) > LARGEST_RESPONSE:
        cause = (
            f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({LARGEST_RESPONSE} bytes)."
        )
        return {"error": told("Function.ResponseSizeTooLarge", cause, None)}
    return {"payload": payload}


def told(kind: str, message: str, trace: TracebackType | None) -> Message:
    """An error in Lambda's form, also told to the log; frames of this file are not the reader's business."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(trace) if frame.filename not in _OURS]
    stack = traceback.format_list(frame for frame in frames if not frame.filename.startswith("<frozen importlib"))
    sys.stderr.write("".join([f"[ERROR] {kind}: {message}\n", *stack]))
    return {"errorMessage": message, "errorType": kind, "stackTrace": stack}


def run(engine: int, command: list[str]) -> None:
    """Run the command of a job; a Python one in this process."""
    if command[0] not in ("python", "python3"):
        os.set_inheritable(engine, True)  # that it is closed is how the engine hears of the end
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - the command is the package's own
    import runpy

    sys.argv[:] = command[1:]
    if command[1] == "-m":
        sys.argv[:] = command[2:]
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(command[1], run_name="__main__")


def live(engine: int, log: int) -> None:
    """What a process does: the first message says what it is."""
    os.set_inheritable(engine, False)
    start = receive(engine)
    if start is None:
        return
    settle(start, log)
    if "handler" in start:
        serve(engine, start["handler"])
    else:
        run(engine, start["command"])


class Keeper:
    """Starts processes for the engine at the other end of a socket, and ends them when it is gone.

    Args:
        engine: the socket.
        arguments: with which this script becomes a process; none to fork instead.
    """

    def __init__(self, engine: socket.socket, arguments: Sequence[str]) -> None:
        self._engine = engine
        self._arguments = arguments
        self._children: dict[int, subprocess.Popen[bytes] | None] = {}

    def keep(self) -> Callable[[], None] | None:
        """Do what the engine asks for; returns when the engine is gone, and in a forked process what that is to do."""
        while request := self._next():
            asked, descriptors = request
            if "wait" in asked:
                self._say({"status": self._wait(asked["wait"])})
                continue
            child, task = self._start(*descriptors)
            if task:
                return task
            for descriptor in descriptors:
                os.close(descriptor)
            self._say({"process": child})
        for child in list(self._children):
            self._kill(child)
        return None

    def _next(self) -> tuple[Message, list[int]] | None:
        try:
            head, descriptors, _, _ = socket.recv_fds(self._engine, 4, 2)
        except ConnectionError:
            return None
        body = head and _read(self._engine.fileno(), int.from_bytes(head, "big"), math.inf)
        return (json.loads(body), descriptors) if body else None

    def _say(self, message: Message) -> None:
        try:
            send(self._engine.fileno(), message)
        except ConnectionError:
            return

    def _start(self, engine: int, log: int) -> tuple[int, Callable[[], None] | None]:
        if self._arguments:
            arguments = [*self._arguments, str(engine), str(log)]
            child = subprocess.Popen(arguments, pass_fds=(engine, log), start_new_session=True)  # noqa: S603
            self._children[child.pid] = child
            return child.pid, None
        process = os.fork()
        if process == 0:
            os.setsid()
            self._engine.close()
            return 0, lambda: live(engine, log)
        self._children[process] = None
        return process, None

    def _wait(self, process: int) -> int:
        """How a process ended that talks no more: its exit status, or minus the number of the signal that ended it."""
        until = time.monotonic() + _GRACE
        while (status := self._ended(process)) is None:
            if time.monotonic() > until:
                return self._kill(process)
            time.sleep(0.002)
        del self._children[process]
        return status

    def _ended(self, process: int) -> int | None:
        if child := self._children[process]:
            return child.poll()
        found, status = os.waitpid(process, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None

    def _kill(self, process: int) -> int:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)
        child = self._children.pop(process)
        return child.wait() if child else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def warm() -> None:
    """Import ahead of time what nearly every function needs, and let it read its files once."""
    try:
        from boto3.session import Session
    except ImportError:
        return
    Session("none", "none", region_name="us-east-1").client("s3")
    gc.freeze()


def main(arguments: Sequence[str]) -> None:
    """Be the keeper, or the process that the arguments describe."""
    role, site, *rest = arguments
    see_little(json.loads(site))
    if role == "process":
        live(*map(int, rest))
        return
    if role == "fork":
        warm()
    script = [sys.executable, "-I", "-u", "-X", "utf8", __file__, "process", site]
    task = Keeper(socket.socket(fileno=0), [] if role == "fork" else script).keep()
    if task:
        task()


if __name__ == "__main__":
    main(sys.argv[1:])
