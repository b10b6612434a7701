"""Servers and workers on one PostgreSQL share the work; one that is killed loses nothing and doubles nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.twingraph.server.served import PIPES, Door, Process, Served

pytestmark = pytest.mark.postgres


class Worker(Process):
    """`twingraph worker` as a process."""

    def __init__(self, *options: str) -> None:
        super().__init__("worker", *options, str(PIPES))
        self.hear("Working for ")


@pytest.fixture
def four(postgres: str, tmp_path: Path) -> Iterator[tuple[Served, Served, Worker, Worker]]:
    """Two servers and two workers, each of which runs one execution at a time."""
    options = ("--db", postgres, "--home", str(tmp_path / "home"), "--workers", "1")
    with ExitStack() as stack:
        made: list[Any] = []
        for start in (lambda: Served([PIPES], *options), lambda: Worker(*options)):
            for _ in range(2):
                made.append(start())
                stack.callback(made[-1].close)
        yield made[0], made[1], made[2], made[3]


def test_the_work_is_shared_and_a_killed_worker_loses_nothing(
    four: tuple[Served, Served, Worker, Worker], tmp_path: Path
) -> None:
    first, second, third, fourth = four
    nodes = [{"id": "first", "component": "load"}, {"id": "second", "component": "hold"}]
    first.store("resuming", nodes, [("first", "second")], metadata={"resume": True})
    doors = [Door(tmp_path / f"door{number}") for number in range(4)]
    held = [second.ask("resuming" if number % 2 else "held", door=doors[number].path) for number in range(4)]
    places = {_server_of(door.reached()): number for number, door in enumerate(doors)}
    assert set(places) == {each.process.pid for each in four}  # each has one

    marks = tmp_path / "marks"
    second.store("mark", [{"id": "a", "component": "mark"}])
    marked = [second.ask("mark", path=str(marks), n=number) for number in range(10)]

    for each in (third, fourth):  # one of them, or both, have what resumes or what does not
        each.kill()
    lost = [places[each.process.pid] for each in (third, fourth)]
    for number in sorted(lost, key=lambda number: number % 2):
        if number % 2 == 0:
            told = first.over(held[number])
            assert (told["status"], told["error"]["type"]) == ("failed", "interrupted")
    for number in range(4):
        if number not in lost:
            doors[number].open()
            assert first.over(held[number])["status"] == "completed"
    for number in lost:
        if number % 2:
            doors[number].reached()
            doors[number].open()
            assert first.over(held[number])["status"] == "completed"
            assert first.nodes(held[number]) == {"first": "cached", "second": "completed"}
    assert {second.over(each)["status"] for each in marked} == {"completed"}
    assert sorted(map(int, marks.read_text().split())) == list(range(10))  # each of them once


def test_servers_hear_and_stop_what_runs_elsewhere(postgres: str, tmp_path: Path, door: Door) -> None:
    options = ("--db", postgres, "--home", str(tmp_path / "home"), "--workers", "1")
    with ExitStack() as stack:
        first = Served([PIPES], *options)
        stack.callback(first.close)
        mine = Door(tmp_path / "mine")
        own = first.ask("held", door=mine.path)
        mine.reached()  # it has no place left
        worker = Worker(*options)
        stack.callback(worker.close)
        with connect(f"{first.url.replace('http', 'ws', 1)}/ws") as talk:
            talk.send(json.dumps({"action": "subscribe"}))
            first.store("large", [{"id": "big", "component": "load"}, {"id": "wait", "component": "hold"}], [])
            execution = first.ask("large", n=2_000, door=door.path)
            assert _server_of(door.reached()) == worker.process.pid
            outputs = None
            while outputs is None:
                told = json.loads(talk.recv(timeout=30))["data"]
                if told.get("execution_id") == execution and told.get("node_id") == "big":
                    outputs = told.get("outputs")
            assert outputs == {"rows": list(range(2_000))}  # more than a notification holds
            first.http.post(f"/api/executions/{execution}/stop")
            assert first.over(execution)["status"] == "stopped"
        mine.open()
        assert first.over(own)["status"] == "completed"
        worker.process.send_signal(signal.SIGINT)
        assert worker.process.wait(30) == 0


def test_a_worker_says_what_keeps_it_from_working() -> None:
    command = [sys.executable, "-c", "from twingraph.cli import console; console()", "worker", "--db"]
    done = subprocess.run([*command, "mysql://x/y"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "sqlite:// or postgresql://" in done.stderr


def _server_of(pid: int) -> int:
    """The process whose nursery forked this one."""
    for _ in range(2):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid
