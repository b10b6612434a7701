"""Measures how many events of an execution reach those who listen, and what that costs the execution.

    python benchmarks/websocket.py [--subscribers 200] [--rate 1000] [--seconds 5] [--runs 3] [--pace fastest]

A server is started as a user does. A pipeline calls a component so often that its nodes make so many events a second,
once with nobody listening and once with all, by turns; each of the subscribers listens to all of it. They live in a
process of their own and read what comes: the bytes of all must be the same, and those of a few are taken apart, message
by message, and their delay noted. With `--pace fastest` the pipeline waits for nothing, so that what it takes from the
processors shows.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import selectors
import socket
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

PIPES = """
import time

from twingraph import component, pipeline

@component
def tick(at: float) -> float:
    return at

@pipeline
def told(door: str, calls: int, pause: float) -> dict:
    open(door).read()
    began, spent = time.perf_counter(), time.process_time()
    for number in range(calls):
        left = began + number * pause - time.perf_counter()
        if left > 0:
            time.sleep(left)
        tick(at=time.time())
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - spent}
"""
CHUNK = 1 << 16
QUIET = 10.0  # seconds without a byte after which nothing more is waited for
EVENTS = 2  # of each call: it begins, and is done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rate", type=int, default=1_000, help="events of nodes a second, which each subscriber gets")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pace", choices=["rate", "fastest"], default="rate")
    told = parser.parse_args()
    calls = int(told.rate * told.seconds) // EVENTS
    pause = EVENTS / told.rate if told.pace == "rate" else 0.0
    shared = sibling("server")
    alone: list[dict[str, Any]] = []
    heard: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as code, tempfile.TemporaryDirectory() as home:
        server = shared.Server(home, code=code, pipes=PIPES)
        try:
            one_run(server, home, 10, 0.0, 0)  # so that everything is loaded
            for _ in range(told.runs):
                alone.append(one_run(server, home, calls, pause, 0))
                heard.append(one_run(server, home, calls, pause, told.subscribers))
        finally:
            server.close()
    report(told, calls, alone, heard)


def report(told: argparse.Namespace, calls: int, alone: list[dict[str, Any]], heard: list[dict[str, Any]]) -> None:
    def middle(of: list[dict[str, Any]], name: str) -> float:
        return float(statistics.median(each[name] for each in of))

    seconds = middle(heard, "seconds")
    expected = EVENTS * calls * told.subscribers * told.runs
    delivered = sum(each["events"] for each in heard)
    print(f"events of nodes        {EVENTS * calls:,} in {seconds:.2f} s: {EVENTS * calls / seconds:,.0f} a second")
    print(f"subscribers            {told.subscribers}, each of all events")
    print(f"delivered              {delivered:,} of {expected:,} ({delivered / seconds / told.runs:,.0f} a second)")
    print(f"from event to receiver {middle(heard, 'median'):.0f} ms (median), {middle(heard, 'p99'):.0f} ms (p99)")
    for name, what in (("seconds", "the run's time"), ("cpu", "the run's processor"), ("server", "the server's")):
        before, now = middle(alone, name), middle(heard, name)
        print(f"{what:22} {before:.2f} s alone, {now:.2f} s heard ({now / before:.2f})")
    print(f"the subscribers'       {middle(heard, 'reader'):.2f} s of processor")


def sibling(name: str) -> Any:
    """Another benchmark of this folder, which is not on the path: twingraph.py lies in it as well."""
    told = importlib.util.spec_from_file_location(f"benchmark_{name}", Path(__file__).with_name(f"{name}.py"))
    if told is None or told.loader is None:
        raise ImportError(name)
    made = importlib.util.module_from_spec(told)
    told.loader.exec_module(made)
    return made


def one_run(server: Any, home: str, calls: int, pause: float, subscribers: int) -> dict[str, Any]:
    """One execution, and what came of it."""
    door = os.path.join(home, "door")
    Path(door).unlink(missing_ok=True)
    os.mkfifo(door)
    inputs = {"door": door, "calls": calls, "pause": pause}
    made = server.ask("POST", "/api/executions", {"workflow_id": "told", "inputs": inputs})["execution_id"]
    readers = Readers(server.port, made, subscribers, calls) if subscribers else None
    before = server.own_cpu()
    with open(door, "w") as opened:
        opened.write("begin")
    told = server.ask("GET", f"/api/executions/{made}?wait=60")
    while told["status"] not in ("completed", "failed", "stopped"):
        told = server.ask("GET", f"/api/executions/{made}?wait=60")
    if told["status"] != "completed":
        raise RuntimeError(f"The execution failed: {told['error']}")
    found: dict[str, Any] = dict(told["outputs"])
    if readers is not None:
        found |= readers.result()
    found["server"] = server.own_cpu() - before
    return found


class Readers:
    """The process of the subscribers."""

    def __init__(self, port: int, execution: str, subscribers: int, calls: int) -> None:
        import multiprocessing

        spawning = multiprocessing.get_context("spawn")
        ready, self._results = spawning.Queue(), spawning.Queue()
        told = (port, execution, subscribers, calls, ready, self._results)
        self._process = spawning.Process(target=read_all, args=told)
        self._process.start()
        ready.get(timeout=120)

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = self._results.get(timeout=120)
        self._process.join()
        return found


class Reader:
    """One subscriber: it counts and digests what comes, or keeps it with the time at which it came."""

    def __init__(self, port: int, execution: str, keeps: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        hello = (
            "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(hello.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(1)
        assert b" 101 " in answer
        text = json.dumps({"action": "subscribe", "execution_id": execution}).encode()
        self.socket.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)  # masked with zeros
        self._text = self.socket.recv(CHUNK)  # how things are
        assert b"execution:update" in self._text
        self._text = b""
        self.digest = hashlib.sha256()
        self.size = 0
        self.kept: list[tuple[float, bytes]] | None = [] if keeps else None
        self.socket.setblocking(False)

    def read(self) -> bool:
        """Take what is there; False where there is no more to come."""
        data = self.socket.recv(CHUNK)
        self.digest.update(data)
        self.size += len(data)
        if self.kept is not None:
            self.kept.append((time.time(), data))
        self._text = (self._text + data)[-400:]
        return bool(data) and b'"completed", "progress"' not in self._text


def read_all(port: int, execution: str, subscribers: int, calls: int, ready: Any, results: Any) -> None:
    """The process of the subscribers."""
    parted = {0, subscribers // 2, subscribers - 1}
    readers = [Reader(port, execution, at in parted) for at in range(subscribers)]
    ready.put(True)
    with selectors.DefaultSelector() as selector:
        for each in readers:
            selector.register(each.socket, selectors.EVENT_READ, each)
        begun = time.process_time()
        while selector.get_map():
            found = selector.select(QUIET)
            if not found:
                break
            for key, _ in found:
                if not key.data.read():
                    selector.unregister(key.fileobj)
        spent = time.process_time() - begun
    results.put({**taken_apart(readers, calls), "reader": spent})


def taken_apart(readers: list[Reader], calls: int) -> dict[str, Any]:
    """What came, of all: the events that are in the bytes of each whose bytes are those that were taken apart."""
    late: list[float] = []
    counts: dict[bytes, int] = {}
    for each in readers:
        if each.kept is not None:
            counts[each.digest.digest()] = events_in(each.kept, calls, late)
        each.socket.close()
    late.sort()
    events = sum(counts.get(each.digest.digest(), 0) for each in readers)
    return {"events": events, "median": late[len(late) // 2], "p99": late[int(len(late) * 0.99)]}


def events_in(kept: list[tuple[float, bytes]], calls: int, late: list[float]) -> int:
    """How many events of nodes are there, each once and in its order; notes how late each was."""
    states: Counter[str] = Counter()
    data = b""
    for at, piece in kept:
        data += piece
        whole, data = frames(data)
        for text in whole:
            message = json.loads(text)
            if message["event"] == "node:status":
                told = message["data"]
                states[told["status"]] += 1
                if told["status"] == "completed":
                    late.append((at - told["outputs"]["result"]) * 1e3)
    if data or max(states.values()) > calls:
        raise RuntimeError(f"{len(data)} bytes are left, and states came so often: {states}")
    return states["running"] + states["completed"]


def frames(data: bytes) -> tuple[list[bytes], bytes]:
    """The messages that are whole, and what is left."""
    found, start = [], 0
    while len(data) >= start + 4:
        assert data[start] == 0x81, data[start : start + 10]
        size, head = data[start + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[start + 2 : start + 4], "big"), 4
        if len(data) < start + head + size:
            break
        found.append(data[start + head : start + head + size])
        start += head + size
    return found, data[start:]


if __name__ == "__main__":
    main()
