"""What the execution graph costs: recording a call, and asking for the lineage of a node among a million.

    python -P benchmarks/twingraph_graph.py [--calls N] [--nodes N] [--db URL]

All is measured in processor time; recording: of the thread that calls and of the whole process, beside the same rows
written with the `sqlite3` module alone. The million nodes are written as a recorder would, in runs of a hundred: most
follow one or two of the three before them, and the first follows the last of the run before, fifty runs in a row.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sqlite3
import statistics
import tempfile
import time

from twingraph.events import ExecutionFinished, ExecutionStarted, NodeFinished, NodeStarted
from twingraph.executions.changes import Batch, change
from twingraph.executions.lineage import DOWN, UP, lineage, starting
from twingraph.executions.recorder import Recorder
from twingraph.executions.repository import Repository
from twingraph.settings import load_settings

RUN = 100


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--calls", type=int, default=10_000)
    options.add_argument("--nodes", type=int, default=1_000_000)
    options.add_argument("--db", help="of the million nodes; a database that holds them already is used as it is")
    told = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(folder, told.calls)
        ask(load_settings(folder, told.db or os.path.join(folder, "million.db")).database, told.nodes)


def digest(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def call(run: str, at: int, parents: tuple[str, ...]) -> tuple[NodeStarted, NodeFinished]:
    node, own = f"clean#{at}", digest(run, at)
    told = {"component": "clean", "content_hash": digest("content", run, at), "code_hash": digest("code")}
    inputs, outputs = {"row": at, "name": "owl"}, {"result": at, "text": f"a cleaned row, number {at}"}
    begun = NodeStarted(run, node, hash=own, parents=parents, inputs=inputs, source="def clean(): ...", at=1.0, **told)
    return begun, NodeFinished(run, node, 0, 0.001, hash=own, outputs=outputs, usage={"cpu_seconds": 0.001}, at=2.0)


def record(folder: str, calls: int) -> None:
    recorder = Recorder(home=folder)
    recorder(ExecutionStarted("warm", "clean", at=1.0))
    recorder(ExecutionFinished("warm", "clean", "completed", 1.0, at=2.0))
    events = [event for at in range(calls) for event in call("run", at, (digest("run", at - 1),) if at else ())]
    process, thread, clock = time.process_time(), time.thread_time(), time.perf_counter()
    for event in events:
        recorder(event)
    thread = time.thread_time() - thread
    recorder.flush()
    process, clock = time.process_time() - process, time.perf_counter() - clock
    bare = write_bare(os.path.join(folder, "bare.db"), calls)
    recorder.close()
    print(
        f"recording a call: {process / calls * 1e6:.0f} us of the process, {thread / calls * 1e6:.0f} us of the caller"
    )
    print(f"  {calls:,} calls took {clock:.2f} s; rows written with sqlite3 alone: {bare / calls * 1e6:.0f} us a call")


def write_bare(path: str, calls: int) -> float:
    """The processor time of writing as many rows of the same size, and their edges."""
    begun = time.process_time()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE nodes (key INTEGER PRIMARY KEY, run TEXT, node TEXT, hash TEXT, told TEXT)")
        connection.execute("CREATE UNIQUE INDEX by_id ON nodes (run, node)")
        connection.execute("CREATE INDEX by_hash ON nodes (hash)")
        connection.execute("CREATE TABLE edges (child TEXT, parent TEXT, PRIMARY KEY (child, parent)) WITHOUT ROWID")
        for start in range(0, calls, 500):
            rows = [("run", f"clean#{at}", digest(at), "x" * 300) for at in range(start, min(start + 500, calls))]
            connection.executemany("INSERT INTO nodes (run, node, hash, told) VALUES (?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO edges VALUES (?, ?)", [(row[2], digest(row[1])) for row in rows])
            connection.commit()
    return time.process_time() - begun


def ask(url: str, nodes: int) -> None:
    graph = Repository(url)
    chance = random.Random(7)
    if not graph.nodes("run-0"):
        fill(graph, nodes, chance)
    runs = nodes // RUN
    names = [f"run-{chance.randrange(runs)}/clean#{chance.randrange(RUN)}" for _ in range(60)]
    starting(graph, names[0])
    for what, direction, depth in (
        ("ancestors, 5 edges", UP, 5),
        ("descendants, 5 edges", DOWN, 5),
        ("ancestors within 120", UP, 120),
    ):
        took, reached = [], []
        for name in names:
            begun = time.process_time()
            found = lineage(graph, starting(graph, name), direction, depth)
            took.append(time.process_time() - begun)
            reached.append(len(found.relatives))
        worst, middle = max(took) * 1e3, statistics.median(took) * 1e3
        print(f"{what} among {nodes:,}: {middle:.1f} ms, at worst {worst:.1f} ms ({max(reached):,} nodes reached)")
    begun = time.process_time()
    found = lineage(graph, starting(graph, f"run-{runs - 1}/clean#{RUN - 1}"), UP)
    print(f"all ancestors of the last: {(time.process_time() - begun) * 1e3:.0f} ms ({len(found.relatives):,} reached)")
    begun = time.process_time()
    lineage(graph, starting(graph, digest("run-1", 5)[:12]), UP, 5)
    print(f"by the beginning of a hash: {(time.process_time() - begun) * 1e3:.1f} ms")
    graph.close()


def fill(graph: Repository, nodes: int, chance: random.Random) -> None:
    begun = time.perf_counter()
    for start in range(0, nodes // RUN, 100):
        batch = Batch()
        for number in range(start, min(start + 100, nodes // RUN)):
            fill_run(batch, number, chance)
        graph.write(batch)
    print(f"{nodes:,} nodes written in {time.perf_counter() - begun:.0f} s")


def fill_run(batch: Batch, number: int, chance: random.Random) -> None:
    run = f"run-{number}"
    batch.add(change(ExecutionStarted(run, "clean", at=float(number))))
    for at in range(RUN):
        if at == 0:
            parents = (digest(f"run-{number - 1}", RUN - 1),) if number % 50 else ()
        else:
            parents = tuple({digest(run, max(at - chance.randrange(1, 4), 0)) for _ in range(chance.randrange(1, 3))})
        for event in call(run, at, parents):
            batch.add(change(event))
    batch.add(change(ExecutionFinished(run, "clean", "completed", 1.0, at=number + 1.0)))


if __name__ == "__main__":
    main()
