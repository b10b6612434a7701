"""Measures `twingraph serve`: start, memory, requests a second, how soon an execution runs, and large answers.

    python benchmarks/server.py [--requests 4000] [--clients 8] [--executions 10000] [--nodes 10000] [--runs 30]
                                [--beside prefect]

A server is started as a user does, on a free port of this machine, after it was once before: what Python compiles then
is kept, as it is for whoever installed it. Requests come from threads of a process of its own; while they are counted,
the one place for executions is taken, so that what is measured is the API. The server's own processor time stands
beside each rate: on a busy machine it tells more.

With `--beside prefect`, the server of Prefect is installed in an environment of its own, for the time of the measuring
or where `BENCH_PREFECT` says, and asked in the same way: each request for a flow run is followed by reading it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

# Beside this file lies twingraph.py, which is not what is measured.
sys.path[:] = [each for each in sys.path if os.path.abspath(each) != os.path.dirname(os.path.abspath(__file__))]

HOST = "127.0.0.1"
COMMAND = "from twingraph.cli import console; console()"
PIPES = """
from twingraph import component, pipeline

@component
def first(): return 1

@component
def hold(door: str):
    open(door).read()

@pipeline
def quick(): return first()

@pipeline
def held(door: str): return hold(door)
"""


class Server:
    """A server, and what it costs."""

    def __init__(self, home: str, *options: str, code: str, pipes: str = PIPES) -> None:
        file = Path(home) / "pipes.py"
        file.write_text(pipes)
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", str(file), "--port", "0", "--home", home, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**kept, "TWINGRAPH_RATE_LIMIT": "0", "PYTHONPYCACHEPREFIX": code},
        )
        line = next(each for each in self.process.stderr if "TwinGraph at" in each)
        self.port = int(line.split()[2].rpartition(":")[2])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.ask("GET", "/health")
        self.start = time.perf_counter() - started
        self.start_cpu = self.cpu()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        told = answered(connection, method, path, body)
        connection.close()
        return told

    def cpu(self) -> float:
        """Seconds of processor time, of all its processes."""
        return sum(map(cpu_of, tree(self.process.pid)))

    def own_cpu(self) -> float:
        """The same, of the process that answers."""
        return cpu_of(self.process.pid)

    def memory(self) -> float:
        """Megabytes: its share of all pages, of all its processes."""
        return sum(map(pss, tree(self.process.pid))) / 1024

    def close(self) -> None:
        for _ in range(2):
            self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def answered(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    told = None if body is None else json.dumps(body)
    connection.request(method, path, told, {"Content-Type": "application/json"} if told else {})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
    return json.loads(data)


def tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                found += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def load(port: int, clients: int, pairs: int, what: dict[str, Any], results: Any) -> None:
    """Ask for executions and read them, so many times from each client; the seconds of each request, and refusals."""
    taken: list[float] = []
    refused: list[str] = []

    def client() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        mine = []
        for _ in range(pairs):
            before = time.perf_counter()
            try:
                made = answered(connection, "POST", what["path"], what["body"])
                between = time.perf_counter()
                answered(connection, "GET", f"{what['path'].rstrip('/')}/{made[what['id']]}")
            except (RuntimeError, OSError, http.client.HTTPException) as error:
                refused.append(str(error) or type(error).__name__)
                connection.close()  # it is opened anew
                continue
            mine += [between - before, time.perf_counter() - between]
        taken.extend(mine)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    results.put((time.perf_counter() - started, taken, refused))


OURS = {"path": "/api/executions", "id": "execution_id", "body": {"workflow_id": "quick"}}


def rate(server: Any, clients: int, requests: int, what: dict[str, Any] = OURS, name: str = "") -> float:
    """Ask and read from so many clients; the requests a second."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    pairs = requests // clients // 2
    before = server.cpu()
    process = context.Process(target=load, args=(server.port, clients, pairs, what, results))
    process.start()
    seconds, taken, refused = results.get(timeout=600)
    process.join()
    cpu = (server.cpu() - before) / len(taken) * 1e3
    p99 = sorted(taken)[int(len(taken) * 0.99)] * 1e3
    told = f"{len(taken) / seconds:,.0f} requests/s, p99 {p99:.0f} ms, {cpu:.2f} ms of the server's processor for each"
    told += f"; {len(refused)} refused: {refused[0][:100]}" if refused else ""
    print(f"{f'{name}create and get, {clients} clients':36}{told}")
    return len(taken) / seconds


def soon(server: Server, runs: int) -> None:
    """From the request to the first node."""
    taken = []
    for _ in range(runs):
        before = time.time()
        made = server.ask("POST", "/api/executions", {"workflow_id": "quick"})["execution_id"]
        server.ask("GET", f"/api/executions/{made}?wait=30")
        node = server.ask("GET", f"/api/graph/execution/{made}")["nodes"][0]
        taken.append(_seconds(node["started_at"]) - before)
    if not taken:
        return
    best, median = min(taken) * 1e3, statistics.median(taken) * 1e3
    print(f"{'request to first node':36}{median:.0f} ms (median of {runs}), {best:.0f} ms (best)")


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def fill(home: str, executions: int, nodes: int) -> str:
    """Executions that are over, and one with many nodes, each after the one before."""
    import secrets

    from twingraph.executions import schema
    from twingraph.executions.repository import Repository

    graph = Repository(f"sqlite:///{home}/graph.db")
    now = time.time()
    names = [f"exec-past-{number:06}" for number in range(executions)]
    big = "exec-big"
    hashes = [secrets.token_hex(32) for _ in range(nodes)]
    with graph.engine.begin() as connection:
        past = {"kind": "pipeline", "name": "quick", "status": "completed", "duration": 1.0}
        rows = [{"id": name, **past, "started_at": now - at} for at, name in enumerate([big, *names])]
        connection.execute(schema.executions.insert(), rows)
        asked = [{"execution_id": name, "workflow_id": "quick", "created_at": now} for name in [big, *names]]
        connection.execute(schema.requests.insert(), asked)
        told = {"component": "first", "platform": "local", "status": "completed", "started_at": now, "duration": 0.1}
        told |= {"inputs": '{"n": 1}', "outputs": '{"result": 2}', "kind": "component"}
        made = [{"execution_id": big, "node_id": f"node-{at}", "hash": each, **told} for at, each in enumerate(hashes)]
        made += [{"execution_id": each, "node_id": "first", "hash": secrets.token_hex(32), **told} for each in names]
        connection.execute(schema.nodes.insert(), made)
        edges = [{"child": child, "parent": parent} for parent, child in pairwise(hashes)]
        connection.execute(schema.edges.insert(), edges)
    graph.close()
    return big


def answer_times(server: Server, told: str, path: str) -> None:
    taken, before = [], server.cpu()
    for _ in range(10):
        started = time.perf_counter()
        server.ask("GET", path)
        taken.append(time.perf_counter() - started)
    cpu = (server.cpu() - before) / 10
    best, median = min(taken) * 1e3, statistics.median(taken) * 1e3
    print(f"{told:36}{median:.0f} ms (median), {best:.0f} ms (best), {cpu * 1e3:.0f} ms of processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--executions", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--beside", choices=["prefect"])
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as code:
        measured(told, code)


def measured(told: argparse.Namespace, code: str) -> None:
    """All of it; `code` keeps what Python compiles."""
    rates = {}
    for begun in (False, True):
        with tempfile.TemporaryDirectory() as home:
            server = Server(home, code=code)
            try:
                if begun:
                    time.sleep(2)  # to be idle
                    print(f"{'start':36}{server.start:.2f} s, {server.start_cpu:.2f} s of processor")
                    print(
                        f"{'memory when idle':36}{server.memory():.0f} MB in {len(tree(server.process.pid))} processes"
                    )
                soon(server, told.runs if begun else 0)
            finally:
                server.close()
    with tempfile.TemporaryDirectory() as home:
        server = Server(home, "--workers", "1", code=code)
        try:
            os.mkfifo(f"{home}/door")
            server.ask("POST", "/api/executions", {"workflow_id": "held", "inputs": {"door": f"{home}/door"}})
            for clients in (1, told.clients):
                rates[clients] = rate(server, clients, told.requests)
            if told.beside == "prefect":
                beside_prefect(told, rates)
            answers(server, fill(home, told.executions, told.nodes), told)
            print(f"{'memory at the end':36}{server.memory():.0f} MB")
        finally:
            server.close()


def used(server: Any) -> str:
    return f"{server.memory():.0f} MB in {len(tree(server.process.pid))} processes"


def answers(server: Server, big: str, told: argparse.Namespace) -> None:
    """What large answers cost."""
    answer_times(server, f"graph of {told.nodes:,} nodes", f"/api/graph/execution/{big}")
    answer_times(server, "first page of executions", "/api/executions?size=100")
    answer_times(server, "last page of executions", f"/api/executions?size=100&page={max(told.executions // 100, 1)}")
    answer_times(server, "page of a workflow", "/api/executions?size=100&workflow_id=quick&page=50")
    answer_times(server, "page by status", "/api/executions?size=100&status=completed&page=50")
    answer_times(server, "page of workflows", "/api/workflows")


class Prefect:
    """Prefect's server, with nothing in its way."""

    def __init__(self, python: str, home: str) -> None:
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        started = time.perf_counter()
        quiet = {"PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}
        quiet |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        self.process = subprocess.Popen(
            [python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet},
            process_group=0,
        )
        while not self._is_there():
            if self.process.poll() is not None or time.perf_counter() - started > 180:
                raise RuntimeError("Prefect's server does not start.")
            time.sleep(0.2)
        self.start_cpu = self.cpu()

    def _is_there(self) -> bool:
        try:
            self.ask("GET", "/api/health")
        except OSError:
            return False
        return True

    ask, cpu, memory = Server.ask, Server.cpu, Server.memory

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def beside_prefect(told: argparse.Namespace, ours: dict[int, float]) -> None:
    """The same requests to Prefect's server, while ours has nothing to do."""
    with tempfile.TemporaryDirectory() as home:
        python = os.environ.get("BENCH_PREFECT") or installed(home, "prefect", "fastapi<0.151")
        for begun in (False, True):  # the first start makes its database
            server = Prefect(python, home)
            try:
                if begun:
                    asked_of_prefect(server, told, ours)
            finally:
                server.close()


def asked_of_prefect(server: Prefect, told: argparse.Namespace, ours: dict[int, float]) -> None:
    time.sleep(5)  # to be idle
    print(f"{'Prefect: start and memory':36}{server.start_cpu:.2f} s of processor, {used(server)}")
    flow = server.ask("POST", "/api/flows/", {"name": "quick"})["id"]
    what = {"path": "/api/flow_runs/", "id": "id", "body": {"flow_id": flow, "state": {"type": "PENDING"}}}
    for clients, ours_here in ours.items():
        found = rate(server, clients, min(told.requests, 600), what, "Prefect: ")
        print(f"{f'ours beside that, {clients} clients':36}{ours_here / found:.1f} times as many")


def installed(home: str, *packages: str) -> str:
    """A Python that has these."""
    folder = Path(home) / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *packages], check=True)
    return str(folder / "bin" / "python")


if __name__ == "__main__":
    main()
