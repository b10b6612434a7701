"""What the tests serve: components that tell a test through named pipes where they are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from twingraph import BaseComponent, component, pipeline


@component
def load(n: int = 3) -> dict[str, Any]:
    """Rows."""
    print("loading", n)
    return {"rows": list(range(n))}


@component
def total(rows: list[int]) -> dict[str, int]:
    return {"total": sum(rows)}


@component
def hold(door: str, value: Any = None) -> Any:
    """Say the number of this process at the door, and wait until it is opened."""
    with open(door, "w") as out:
        out.write(str(os.getpid()))
    with open(f"{door}.open") as wait:
        wait.read()
    return value


@component(timeout=0)
def stubborn(door: str) -> None:
    """Run in the main thread, with a process of its own, and hear nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with open(door, "w") as out:
        out.write(str(other.pid))
    other.wait()


@component
def crash(how: str = "exit") -> None:
    """End the process."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGSEGV)


@component
def once(path: str, n: int = 0) -> int:
    """Fail unless there is a file."""
    with open(f"{path}.tries", "a") as out:
        out.write("x")
    with open(path) as file:
        return n + int(file.read())


@component
def mark(path: str, n: int) -> None:
    """Leave a mark in a file."""
    with open(path, "a") as out:
        out.write(f"{n}\n")


@component
def visit(port: int) -> None:
    """Come to a test of this machine, and stay until it says so."""
    with socket.create_connection(("127.0.0.1", port)) as talk:
        talk.recv(1)


@component(platform="docker", docker_image="python:3.13-slim", config={"network": "none"})
def far() -> None:
    """Run in a container until that is removed."""
    threading.Event().wait()


class Times(BaseComponent):
    """Multiply."""

    def execute(self, value: int) -> dict[str, int]:
        return {"product": value * int(self.config.get("by", 1))}


@pipeline(max_parallel=2)
def report(n: int = 3) -> int:
    """Adds up."""
    return int(total(load(n)["rows"])["total"])


@pipeline
def held(door: str) -> Any:
    return hold(door, load(2)["rows"])["result"]
