"""Calls in containers of a Docker engine.

A container runs Python with the worker, which it is sent together with the call; nothing is mounted and the image needs
nothing but Python 3.8 or newer. A *warm* container serves later calls of the same component too. A container that loses
this process ends itself, and the next process that uses Docker here removes it.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from time import monotonic
from typing import Any

from lokki.runtime.failure import Cancelled
from twingraph.envelope import pack
from twingraph.errors import PlatformError, PlatformUnavailableError
from twingraph.placed import Outcome, Placed, Raised
from twingraph.platforms import owners
from twingraph.platforms.docker_idle import Idle
from twingraph.platforms.docker_options import HOST, OPTIONS, OWNER, Wanted, wanted
from twingraph.platforms.docker_stream import Stream
from twingraph.platforms.serving import BOOT, Hearing, first_frame, frame

_SECONDS = 600  # for an answer of the engine
_ENDING = 10  # seconds for a container to end whose stdout and stderr have
_CONNECTIONS = 64
_KEPT = 8  # idle containers of one component
_IDLE = 600.0  # seconds
_MISSING = ("no such file or directory", "executable file not found")  # what is said of a Python that is not there
_NO_INIT = '"docker-init"'  # what is said of an engine's own first process that is not there


class Docker:
    """A Docker engine: the one of `DOCKER_HOST`, or of this machine."""

    name = "docker"
    options = OPTIONS

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._idle: Idle[Container] = Idle(_KEPT, _IDLE)
        self._pythons: dict[tuple[str, ...], str] = {}
        self._pulls: dict[str, threading.Lock] = {}
        self._init = True

    def check(self) -> str:
        """What it would run on."""
        with self._lock:
            engine = self._engine
        return f"Docker {engine.version()['Version']} at {_address()}"

    def sweep(self, _config: Mapping[str, Any], _orphaned: owners.Orphaned) -> None:
        """Remove the containers of processes of this machine that are no more, as every first use does."""
        self.check()

    def start(self, call: Placed) -> Job:
        """Begin the call."""
        want = wanted(call)
        body = pack(call)
        with self._lock:
            engine = self._engine
        key = want.key(call.component) if want.warm else ""
        hearing = Hearing(call)
        while key and (kept := self._idle.take(key)) is not None:
            if kept.send(body):
                return Job(call, key, kept, hearing)
            kept.remove(call)
        container = self._made(engine, call, want)
        if not container.send(body):
            error = container.lost(call)
            container.remove(call)
            raise error
        return Job(call, key, container, hearing)

    def poll(self, job: Job, seconds: float) -> Outcome | None:
        """What became of the call."""
        deadline = monotonic() + seconds
        while True:
            there = job.container.stream.receive(job.hearing, max(deadline - monotonic(), 0))
            if job.hearing.over:
                job.fit = there and job.hearing.tidy
                return job.hearing.outcome()
            if not there:
                job.hearing.close()
                return Raised(job.container.lost(job.call))
            if monotonic() >= deadline:
                return None

    def cancel(self, job: Job) -> None:
        """End the container: it is removed with all that runs in it."""
        job.fit = False

    def clear(self, job: Job) -> None:
        """Remove the container, or keep a warm one for later calls."""
        if job.key and job.fit and self._idle.keep(job.key, job.container):
            return
        job.container.remove(job.call)

    def close(self) -> None:
        """Remove the containers that no call has."""
        self._idle.close()
        if "_engine" in vars(self):
            self._engine.close()

    @cached_property
    def _engine(self) -> Any:
        """The client; containers of processes that are no more are removed when it is made."""
        try:
            import docker
        except ImportError:
            raise PlatformUnavailableError(
                "Platform 'docker' needs the client library of Docker: pip install 'lokki-twingraph[docker]'."
            ) from None
        try:
            _knock()
            engine = docker.from_env(timeout=_SECONDS, max_pool_size=_CONNECTIONS).api
            with ExitStack() as failed:
                failed.callback(engine.close)
                _sweep(engine)
                failed.pop_all()
        except (docker.errors.DockerException, OSError) as error:
            raise PlatformUnavailableError(
                f"No Docker engine answers at {_address()} ({_reason(error)}): start Docker, or set DOCKER_HOST."
            ) from error
        atexit.register(self.close)
        return engine

    def _made(self, engine: Any, call: Placed, want: Wanted) -> Container:
        """A container that runs, and was sent the worker."""
        if want.pull == "Always":
            self._pull(engine, call, want.image)
        names = (want.image, *want.pythons)
        known = self._pythons.get(names)
        for python in (known,) if known else want.pythons:
            container = self._started(engine, call, want, python)
            if container is not None:
                self._pythons[names] = python
                return container
        raise PlatformError(
            f"Component {call.component!r}: image {want.image!r} has no {' or '.join(want.pythons)}: "
            f"use an image with Python 3.8 or newer, or say with config={{'python': ...}} where it is."
        )

    def _started(self, engine: Any, call: Placed, want: Wanted, python: str) -> Container | None:
        """A container that runs this Python; None when it has no such."""
        container = Container(engine, call.id, self._created(engine, call, want, python), want)
        try:
            with _asking(call, "Docker cannot start its container"):
                container.stream = Stream(engine.attach_socket(call.id, params=_ATTACH))
                engine.start(call.id)
                if container.stream.ready(call.stop):
                    container.stream.send(first_frame())
                    return container
            raise container.lost(call)
        except BaseException as error:
            container.remove(call)
            if _NO_INIT in str(error):
                self._init = False
                return self._started(engine, call, want, python)
            if isinstance(error, PlatformError) and any(each in str(error).lower() for each in _MISSING):
                return None
            raise

    def _created(self, engine: Any, call: Placed, want: Wanted, python: str) -> str:
        import docker

        config = _config(engine, call, want, python, self._init)
        for pulled in (False, True):
            try:
                with _asking(call, "Docker refuses its container"):
                    return str(engine.create_container_from_config(config, call.id)["Id"])
            except docker.errors.ImageNotFound:
                if want.pull == "Never" or pulled:
                    raise PlatformError(
                        f"Component {call.component!r}: Docker has no image {want.image!r}, and pull_policy is "
                        f"{want.pull}: pull or build it."
                    ) from None
                self._pull(engine, call, want.image)
        raise AssertionError

    def _pull(self, engine: Any, call: Placed, image: str) -> None:
        import docker

        with self._lock:
            lock = self._pulls.setdefault(image, threading.Lock())
        with lock:
            call.log("info", f"pulling image {image}")
            name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
            whole = "@" in image
            try:
                steps = engine.pull(image if whole else name, tag=None if whole else tag, stream=True, decode=True)
                for each in steps:
                    if "error" in each:
                        raise docker.errors.APIError(each["error"])
                    if call.stop.is_set():
                        raise Cancelled(f"component {call.component!r} was stopped")
            except docker.errors.APIError as error:
                raise PlatformError(
                    f"Component {call.component!r}: image {image!r} is not here and cannot be pulled "
                    f"({_reason(error)}): build it, or mend its name."
                ) from error


class Container:
    """A container with the worker in it."""

    stream: Stream

    def __init__(self, engine: Any, name: str, made: str, want: Wanted) -> None:
        self._engine = engine
        self._name = name
        self._id = made
        self._want = want

    def send(self, body: bytes) -> bool:
        """Send a call; False when the container is no longer there."""
        return self.stream.alive() and self.stream.send(frame(body))

    def lost(self, call: Placed) -> PlatformError:
        """Why it ended before it answered."""
        import docker

        where = f"Component {call.component!r}: its container"
        try:
            _knock()
            self._engine.wait(self._id, timeout=_ENDING)
            state = self._engine.inspect_container(self._id)["State"]
        except docker.errors.NotFound:
            return PlatformError(f"{where} was removed by somebody else before it returned.")
        except (docker.errors.DockerException, OSError) as error:
            return PlatformError(f"{where} was lost, because Docker does not answer: {_reason(error)}")
        if state["OOMKilled"]:
            limit = self._want.host.get("mem_limit")
            had = f" of {limit / 2**20:.0f} MiB" if limit else ""
            return PlatformError(f"{where} ran out of its memory{had}: give it more with config={{'memory': ...}}.")
        code = state["ExitCode"]
        how = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        last = f" (it last said: {self.stream.last})" if self.stream.last else ""
        return PlatformError(f"{where} {how} before it returned{last}.")

    def remove(self, call: Placed | None = None) -> None:
        """Remove it with all that runs in it; what the engine says against that is told in the log."""
        import docker

        if hasattr(self, "stream"):
            self.stream.close()
        try:
            _knock()
            self._engine.remove_container(self._id, force=True, v=True)
        except docker.errors.NotFound:
            pass
        except (docker.errors.DockerException, OSError) as error:
            if getattr(error, "status_code", 0) == 409:  # it ended by itself a moment ago, and is being removed
                with suppress(docker.errors.DockerException, OSError):
                    self._engine.wait(self._id, timeout=_SECONDS, condition="removed")
            elif call is not None:
                call.log("warning", f"container {self._name} could not be removed: {_reason(error)}")


class Job:
    """A call in a container; `fit` says that the container can serve another."""

    def __init__(self, call: Placed, key: str, container: Container, hearing: Hearing) -> None:
        self.call = call
        self.key = key
        self.container = container
        self.hearing = hearing
        self.fit = False


_ATTACH = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}


def _config(engine: Any, call: Placed, want: Wanted, python: str, init: bool) -> Any:
    labels = {
        **call.placement.labels,
        "twingraph": call.id,
        "twingraph.run": call.run,
        "twingraph.node": call.node,
        "twingraph.component": call.component,
        OWNER: owners.owner(),
        HOST: owners.machine(),
    }
    config = engine.create_container_config(
        want.image,
        ["-c", BOOT, "--serve"],
        entrypoint=[python],
        stdin_open=True,
        user=want.user,
        environment=dict(want.environment),
        labels=labels,
    )
    config["StdinOnce"] = True  # when this process is gone, so is the container
    silent = {"type": "none", "config": {}}  # the log goes to the call; answers are on stdout too
    config["HostConfig"] = engine.create_host_config(**want.host, init=init, log_config=silent)
    return config


@contextmanager
def _asking(call: Placed, failed: str) -> Iterator[None]:
    """What the engine says against a request is a `PlatformError`; that an image is not there is for the caller."""
    import docker

    try:
        yield
    except docker.errors.ImageNotFound:
        raise
    except docker.errors.APIError as error:
        raise PlatformError(f"Component {call.component!r}: {failed}: {_reason(error)}") from error
    except OSError as error:
        raise PlatformUnavailableError(
            f"Component {call.component!r}: the Docker engine at {_address()} does not answer: {_reason(error)}"
        ) from error


def _sweep(engine: Any) -> None:
    """Remove the containers of processes of this machine that are no more."""
    import docker

    for each in engine.containers(all=True, filters={"label": f"{HOST}={owners.machine()}"}):
        if owners.is_gone(each["Labels"].get(OWNER, "")):
            with suppress(docker.errors.APIError):
                engine.remove_container(each["Id"], force=True, v=True)


def _address() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _knock() -> None:
    """See whether somebody listens; the client would leave a socket open where nobody does."""
    scheme, _, path = _address().partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.connect(path)


def _reason(error: Any) -> str:
    """What the engine says, in one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())
