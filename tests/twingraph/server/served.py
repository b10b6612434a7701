"""Servers of the tests: real processes on free ports of loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

PIPES = Path(__file__).with_name("pipes.py")
_WAIT = 60.0


class Process:
    """A command of ours as a process."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from twingraph.cli import console; console()", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TWINGRAPH_RATE_LIMIT": "0"},
        )
        self.said: list[str] = []

    def hear(self, word: str) -> str:
        """The next line that has this in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if word in line:
                return line
        raise AssertionError(f"it ended: {''.join(self.said)}")

    def kill(self) -> None:
        """End it as the system would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Served(Process):
    """`twingraph serve`."""

    def __init__(self, files: Sequence[Path], *options: str) -> None:
        super().__init__("serve", "--port", "0", *options, *map(str, files))
        self.url = self.hear("TwinGraph at ").split()[2]
        self.http = httpx.Client(base_url=self.url, timeout=_WAIT)

    def close(self) -> None:
        """End it."""
        self.http.close()
        super().close()

    def store(self, id: str, nodes: Any, edges: Any = (), **more: Any) -> dict[str, Any]:  # noqa: A002
        """Store a workflow."""
        definition = {"nodes": nodes, "edges": [{"source": a, "target": b} for a, b in edges]}
        answer = self.http.put(f"/api/workflows/{id}", json={"name": id, "definition": definition, **more})
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def ask(self, workflow: str, **inputs: Any) -> str:
        """Ask for an execution; its id."""
        answer = self.http.post("/api/executions", json={"workflow_id": workflow, "inputs": inputs})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["execution_id"])

    def over(self, execution: str) -> dict[str, Any]:
        """An execution, when it is over."""
        while True:
            told: dict[str, Any] = self.http.get(f"/api/executions/{execution}", params={"wait": 30}).json()
            if told["status"] in ("completed", "failed", "stopped"):
                return told

    def run(self, workflow: str, **inputs: Any) -> dict[str, Any]:
        """What became of an execution."""
        return self.over(self.ask(workflow, **inputs))

    def nodes(self, execution: str) -> dict[str, str]:
        """The status of each node."""
        told = self.http.get(f"/api/graph/execution/{execution}").json()
        return {each["id"]: each["status"] for each in told["nodes"]}


class Door:
    """What `hold` of the pipes waits at."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(self.path)
        os.mkfifo(f"{self.path}.open")

    def reached(self) -> int:
        """Wait until it is reached; the number of the process."""
        with open(self.path) as told:
            return int(told.read())

    def open(self) -> None:
        """Let whoever waits go on."""
        with open(f"{self.path}.open", "w"):
            pass
