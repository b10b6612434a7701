"""Measures how many events of executions reach those who listen, and what listening costs the execution.

    python benchmarks/websocket.py [--subscribers 200] [--rate 1000] [--seconds 5] [--executions 10]

A server on a free port of this machine is told events at a rate, from a thread as when executions run. Subscribers are
spread over the executions, in a process of their own, and count what they get. Beside that stands how fast the same
thread is without any listener.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import threading
import time
from typing import Any

# Beside this file lies twingraph.py, which is not what is measured.
sys.path[:] = [each for each in sys.path if os.path.abspath(each) != os.path.dirname(os.path.abspath(__file__))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second, of all executions together")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--executions", type=int, default=10, help="executions that subscribers are spread over")
    told = parser.parse_args()
    alone = publish_for(told, 0)
    heard = publish_for(told, told.subscribers)
    expected = int(told.rate * told.seconds) // told.executions * told.subscribers
    events, longer = int(told.rate * told.seconds), heard["told"] / alone["told"]
    print(f"events                 {events:,} of {told.executions} executions, {told.rate:,} a second")
    print(f"subscribers            {told.subscribers}")
    print(f"delivered              {heard['received']:,} of {expected:,}")
    print(f"from event to receiver {heard['median']:.1f} ms (median), {heard['p99']:.1f} ms (p99)")
    print(f"the teller's time      {alone['told']:.2f} s alone, {heard['told']:.2f} s heard ({longer:.2f})")
    print(f"the server's processor {heard['cpu']:.2f} s")


def publish_for(told: argparse.Namespace, subscribers: int) -> dict[str, float]:
    """Tell the events to so many subscribers."""
    with tempfile.TemporaryDirectory() as home:
        return asyncio.run(serve(told, subscribers, home))


async def serve(told: argparse.Namespace, subscribers: int, home: str) -> dict[str, float]:
    import multiprocessing

    import uvicorn

    from twingraph.executions import requests
    from twingraph.executions.repository import Repository
    from twingraph.server.app import create_app
    from twingraph.server.catalog import Catalog
    from twingraph.server.context import open_context
    from twingraph.server.limits import Limits
    from twingraph.server.service import Service

    class Idle:
        catalog = Catalog()

        def wake(self) -> None: ...
        def stop(self, execution: str) -> None: ...

    graph = Repository(f"sqlite:///{os.path.join(home, 'graph.db')}")
    names = [f"exec-{number}" for number in range(told.executions)]
    requests.ask(graph, [requests.Asked(name, "w", "w", {}, {}) for name in names])
    context = open_context(Service(graph, Idle()), Idle(), limits=Limits(0, 0, 0))
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(context), log_level="warning"))
    running = asyncio.create_task(server.serve([listening]))
    spawning = multiprocessing.get_context("spawn")
    ready, results = spawning.Queue(), spawning.Queue()
    count = int(told.rate * told.seconds) // told.executions
    child = spawning.Process(target=subscribe_all, args=(port, names, subscribers, count, ready, results))
    if subscribers:
        child.start()
        await asyncio.to_thread(ready.get)
    spent = time.process_time()
    teller = Teller(context.hub, names, told.rate, told.seconds)
    await asyncio.to_thread(teller.run)
    found: dict[str, float] = {"told": teller.busy}
    if subscribers:
        found |= await asyncio.to_thread(results.get)
        child.join()
    found["cpu"] = time.process_time() - spent
    server.should_exit = True
    await running
    return found


class Teller:
    """Tells events at a rate, and counts how long telling takes."""

    def __init__(self, hub: Any, names: list[str], rate: int, seconds: float) -> None:
        self.busy = 0.0
        self._hub, self._names, self._rate, self._count = hub, names, rate, int(rate * seconds)

    def run(self) -> None:
        began, pause = time.perf_counter(), threading.Event()
        for number in range(self._count):
            due = began + number / self._rate
            if (left := due - time.perf_counter()) > 0:
                pause.wait(left)
            execution = self._names[number % len(self._names)]
            data = {"execution_id": execution, "node_id": f"node-{number}", "status": "completed", "duration": 0.1,
                    "outputs": {"at": time.time()}}  # fmt: skip
            at = time.perf_counter()
            self._hub.publish(execution, {"event": "node:status", "data": data})
            self.busy += time.perf_counter() - at


def subscribe_all(port: int, names: list[str], subscribers: int, count: int, ready: Any, results: Any) -> None:
    """The process of the subscribers."""
    results.put(asyncio.run(subscribed(port, names, subscribers, count, ready)))


async def subscribed(port: int, names: list[str], subscribers: int, count: int, ready: Any) -> dict[str, float]:
    from websockets.asyncio.client import connect

    sockets = [await connect(f"ws://127.0.0.1:{port}/ws", compression=None) for _ in range(subscribers)]
    for number, each in enumerate(sockets):
        await each.send(json.dumps({"action": "subscribe", "execution_id": names[number % len(names)]}))
        await each.recv()
    ready.put(True)
    late: list[float] = []

    async def listen(each: Any) -> int:
        received = 0
        while received < count:
            try:
                text = await asyncio.wait_for(each.recv(), 10)
            except TimeoutError:
                break
            message = json.loads(text)
            if message["event"] == "node:status":
                received += 1
                if received % 20 == 0:
                    late.append((time.time() - message["data"]["outputs"]["at"]) * 1000)
        return received

    received = await asyncio.gather(*(listen(each) for each in sockets))
    for each in sockets:
        await each.close()
    late.sort()
    return {"received": sum(received), "median": late[len(late) // 2], "p99": late[int(len(late) * 0.99)]}


if __name__ == "__main__":
    main()
