"""The process of a simulation: moto's S3, Secrets Manager and Step Functions, the functions and the jobs.

It does what it reads from its standard input, where `lokki.simulate.engine` writes, and ends when that is closed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from functools import lru_cache
from typing import Any

from lokki.simulate.batch import Jobs
from lokki.simulate.counting import Tally
from lokki.simulate.front import front
from lokki.simulate.functions import Functions
from lokki.simulate.interpreter import Interpreter, import_parser, readable
from lokki.simulate.machine import Execution, Machine, packed, unpacked_machine
from lokki.simulate.processes import SECRET, Caller, Keeper
from lokki.simulate.sandbox import Message, receive, send

ACCOUNT = "123456789012"


class Refused(Exception):
    """What was asked for cannot be done; the message says why."""


class Running:
    """An execution that was started."""

    def __init__(self, express: frozenset[str]) -> None:
        self.tally = Tally(express)
        self.over = threading.Event()


class Server:
    """What the parent asks for.

    Args:
        region: the region of all that is deployed.
        keeper: starts the processes of functions and jobs.
    """

    def __init__(self, region: str, keeper: Keeper) -> None:
        self._region = region
        self._functions = Functions(keeper)
        self._jobs = Jobs(keeper)
        self._keeper = keeper
        self._express: dict[str, frozenset[str]] = {}
        self._running: dict[str, Running] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def open(self, socket: Any) -> None:
        """Serve AWS's APIs at a socket, and let the interpreter use what is here."""
        from moto.core.config import default_user_config

        default_user_config["stepfunctions"]["execute_state_machine"] = True
        self._machines = import_parser()[ACCOUNT][self._region]
        store = self._store(self._keeper.caller("interpreter"))
        Interpreter(self._functions, self._jobs, store, self._tally, self._ended).install()
        _serve(socket, self._keeper.callers)

    def deploy(self, machine: Machine) -> None:
        """Make or replace a machine and what it needs."""
        self._functions.deploy(machine.functions)
        self._jobs.deploy(machine.jobs)
        self._make_bucket(machine.bucket)
        for arn, value in machine.secrets.items():
            _keep_secret(arn, value)
        self._make(machine)

    def _make(self, machine: Machine) -> None:
        from moto.stepfunctions.parser.api import InvalidDefinition

        definition, express = readable(machine.definition)
        role = f"arn:aws:iam::{ACCOUNT}:role/simulated"
        with self._lock:
            try:
                made = self._machines.create_state_machine(machine.name, definition, role)
                if made.definition != definition:
                    self._machines.update_state_machine(made.arn, definition)
            except InvalidDefinition as error:
                message = f"The interpreter cannot read the state machine {machine.name!r}: {error.message}"
                raise Refused(message) from None
            self._express[made.arn] = express

    def execute(self, machine: str, given: Any, name: str, timeout: float) -> Execution:
        """Start an execution and wait until it is over."""
        arn = f"arn:aws:states:{self._region}:{ACCOUNT}:stateMachine:{machine}"
        if arn not in self._express:
            raise Refused(f"There is no state machine {machine!r} in the engine: deploy it first.")
        running = self._expect(f"arn:aws:states:{self._region}:{ACCOUNT}:execution:{machine}:{name}", arn)
        execution = self._machines.start_execution(arn, name, json.dumps(given))
        ended = running.over.wait(timeout)
        if not ended:
            self._stop(execution, running)
        return _outcome(name, execution, running.tally, ended)

    def progress(self, machine: str, name: str) -> dict[str, int]:
        """The states that an execution has entered so far; none when it is over."""
        running = self._running.get(f"arn:aws:states:{self._region}:{ACCOUNT}:execution:{machine}:{name}")
        return {} if running is None else dict(running.tally.counts().states)

    def _expect(self, execution: str, machine: str) -> Running:
        with self._lock:
            if execution in self._used:
                raise Refused(f"There was an execution {execution.rpartition(':')[2]!r} of this state machine already.")
            self._used.add(execution)
            return self._running.setdefault(execution, Running(self._express.get(machine, frozenset())))

    def _stop(self, execution: Any, running: Running) -> None:
        execution.stop(stop_date=None, error=None, cause=None)
        self._functions.stop(running.tally)
        self._jobs.stop(running.tally)
        running.over.wait(10)

    def _tally(self, execution: str) -> Tally:
        """The counts of an execution, also of one that somebody started over HTTP."""
        if execution not in self._running:
            self._expect(execution, execution.rpartition(":")[0].replace(":execution:", ":stateMachine:"))
        return self._running[execution].tally

    def _ended(self, execution: str) -> None:
        self._running.pop(execution).over.set()

    def _make_bucket(self, name: str) -> None:
        from moto.s3.models import s3_backends

        backend = s3_backends[ACCOUNT]["aws"]
        with self._lock:
            if name and name not in backend.buckets:
                backend.create_bucket(name, self._region)

    def _store(self, caller: Caller) -> Any:
        from boto3.session import Session

        session = Session(caller.key, SECRET, region_name=self._region)
        return session.client("s3", endpoint_url=self._keeper.environment["AWS_ENDPOINT_URL"])


def _keep_secret(arn: str, value: str) -> None:
    """Keep a secret under the ARN that the configuration names, in that ARN's region."""
    from moto.secretsmanager.models import secretsmanager_backends

    region, name = arn.split(":")[3], arn.rpartition(":")[2]
    secrets = secretsmanager_backends[ACCOUNT][region]
    secrets.secrets.pop(arn)
    secrets.create_secret(name, value, None, None, None, None, None, [], False)
    secrets.secrets[name].arn = arn


def _outcome(name: str, execution: Any, tally: Tally, ended: bool) -> Execution:
    status = str(execution.exec_status.value) if ended else "TIMED_OUT"
    return Execution(
        name=name,
        status="FAILED" if status == "RUNNING" else status,
        output=json.loads(json.dumps(execution.output, default=str)) if status == "SUCCEEDED" else None,
        error=execution.error or "",
        cause=execution.cause or "",
        counts=tally.counts(),
        failures=tuple(tally.failures),
        substitutions=tally.substitutions,
        logs=tuple(tally.logs),
    )


def _serve(socket: Any, callers: dict[str, Caller]) -> None:
    """Serve moto's services at a socket, in threads that end with this process."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):  # type: ignore[misc]
        disable_nagle_algorithm = True

        def log(self, *_: Any) -> None:
            """Say nothing of requests."""

    names = {"states": "stepfunctions", "s3": "s3", "secretsmanager": "secretsmanager"}
    others = DomainDispatcherApplication(create_backend_app)  # finding the service out costs it as much as serving

    @lru_cache
    def service(signed: str) -> Any:
        return create_backend_app(names[signed]) if signed in names else others

    application = front(service, callers)
    host, port = socket.getsockname()
    server = make_server(host, port, application, threaded=True, request_handler=Handler, fd=socket.fileno())
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


class Talk:
    """The conversation with the parent: each request is answered from a thread of its own."""

    def __init__(self, hear: int, say: int, server: Server) -> None:
        self._hear = hear
        self._say = say
        self._server = server
        self._lock = threading.Lock()

    def until_over(self) -> None:
        """Answer requests until the parent is gone."""
        while (request := receive(self._hear)) is not None:
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def tell(self, message: Message) -> None:
        """Say something to the parent."""
        try:
            with self._lock:
                send(self._say, message)
        except BrokenPipeError:
            return  # it is gone, which `until_over` notices too

    def _answer(self, request: Message) -> None:
        try:
            value = self._do(request)
        except Refused as error:
            self.tell({"id": request["id"], "error": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            self.tell({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            self.tell({"id": request["id"], "value": value})

    def _do(self, request: Message) -> Any:
        match request:
            case {"do": "deploy", "machine": machine}:
                return self._server.deploy(unpacked_machine(machine))
            case {"do": "execute", "machine": machine, "input": given, "name": name, "timeout": timeout}:
                return packed(self._server.execute(machine, given, name, timeout))
            case {"do": "progress", "machine": machine, "name": name}:
                return self._server.progress(machine, name)
            case _:
                raise Refused(f"The engine does not know what {request} means.")


def main(folder: str, region: str, imports: str, fork: bool) -> None:
    """Be the process of a simulation."""
    import socket

    hear, say = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what moto prints is no answer
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    endpoint = "http://127.0.0.1:{1}".format(*listener.getsockname())
    environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    logging.disable()
    keeper = Keeper(folder, imports, fork, environment)
    server = Server(region, keeper)
    talk = Talk(hear, say, server)
    try:
        server.open(listener)
    except ImportError as error:
        talk.tell({"missing": str(error)})
    else:
        caller = keeper.caller("parent")
        talk.tell({"endpoint": endpoint, "key": caller.key, "secret": SECRET})
        talk.until_over()
    keeper.close()
    shutil.rmtree(folder, ignore_errors=True)
