"""Measures what a call of a component costs on this machine, beside the bare thing that does the same.

    python benchmarks/twingraph.py [--rows import,call] [--repeats N] [--quick]

Every figure is the median of rounds, each in processes of their own, the bare thing measured right after. What follows
the table has programs of its own: `graph` is the execution graph, `docker` needs a Docker engine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from statistics import median

BARE = "import time, sys; began = time.perf_counter()\n{}\nprint(time.perf_counter() - began)"

CALLS = """
import time
from twingraph import component
@component
def same(x): return x
same(0)
best = 1e9
for _ in range({rounds}):
    began = time.perf_counter()
    for each in range({count}): same(each)
    best = min(best, (time.perf_counter() - began) / {count})
print(best)
"""
FUTURES = """
import time
from concurrent.futures import ThreadPoolExecutor
def same(x): return x
with ThreadPoolExecutor(1) as pool:
    pool.submit(same, 0).result()
    best = 1e9
    for _ in range({rounds}):
        began = time.perf_counter()
        for each in range({count}): pool.submit(same, each).result()
        best = min(best, (time.perf_counter() - began) / {count})
print(best)
"""
ROWS_OF_SQLITE = """
import os, sqlite3, time
base = sqlite3.connect(os.path.join(os.environ["TWINGRAPH_HOME"], "bare.db"))
base.execute("pragma journal_mode=wal")
base.execute("create table calls (id text primary key, inputs text, outputs text)")
best = 1e9
for turn in range({rounds}):
    began = time.perf_counter()
    for each in range({count}):
        base.execute("insert into calls values (?, ?, ?)", (f"{{turn}}-{{each}}", '{{"x": 1}}', '{{"result": 1}}'))
        base.commit()
    best = min(best, (time.perf_counter() - began) / {count})
print(best)
"""
PIPELINE = """
import time
from twingraph import component, pipeline
@component
def same(x): return x
@pipeline
def {how}(n):
    first = same(0)
    results = [same(each{parent}) for each in range(n)]
    return len(results)
began = time.perf_counter()
{how}({count})
print(time.perf_counter() - began)
"""
POOL = """
import time
from concurrent.futures import ThreadPoolExecutor
def same(x): return x
began = time.perf_counter()
with ThreadPoolExecutor(10) as pool:
    results = [each.result() for each in [pool.submit(same, n) for n in range({count})]]
print(time.perf_counter() - began)
"""


PROGRAMS = {"graph": "twingraph_graph.py", "docker": "twingraph_docker.py"}
"""What measures the rest."""


@dataclass(frozen=True)
class Row:
    """A figure: the program that measures ours, the bare thing, and the bar that ours is held to."""

    name: str
    title: str
    ours: str
    bare: str
    beside: str
    bar: float
    unit: tuple[str, float]
    recorded: bool


MILLI, SECOND = ("ms", 1e3), ("s", 1.0)


def rows(quick: bool) -> list[Row]:
    """The figures."""
    size = {"rounds": 1 if quick else 5, "count": 200 if quick else 2_000}
    many = 500 if quick else 10_000
    imported = "import time; began = time.perf_counter()\nfrom twingraph import component, pipeline, Workflow\n"
    told = "print(time.perf_counter() - began)"
    return [
        Row("import", "`from twingraph import component, pipeline, Workflow`", imported + told,
            BARE.format("import asyncio"), "import asyncio", 0.150, MILLI, recorded=False),
        Row("call", "a local call, not recorded", CALLS.format(**size), FUTURES.format(**size),
            "thread pool", 0.0001, MILLI, recorded=False),
        Row("recorded", "a local call, recorded", CALLS.format(**size), ROWS_OF_SQLITE.format(**size),
            "SQLite, a row and a commit", 0.0005, MILLI, recorded=True),
        Row("pipeline", f"{many:,} calls in one pipeline, one after the other, recorded",
            PIPELINE.format(how="one_by_one", parent="", count=many), POOL.format(count=many),
            "thread pool, 10 at once", 6.0, SECOND, recorded=True),
        Row("submitted", f"{many:,} calls in one pipeline, 10 at once, recorded",
            PIPELINE.format(how="at_once", parent=", parent_hash=first", count=many), POOL.format(count=many),
            "thread pool, 10 at once", 6.0, SECOND, recorded=True),
    ]  # fmt: skip


def measured(program: str, *, recorded: bool) -> float:
    """What a program in a process of its own prints."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "TWINGRAPH_HOME": home, "TWINGRAPH_RECORD": "on" if recorded else "off"}
        environment.pop("TWINGRAPH_DB", None)
        path = os.path.join(home, "program.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(program)
        done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def figures(row: Row, repeats: int) -> tuple[float, float]:
    """The medians of ours and of the bare thing, in turn."""
    taken = [
        (measured(row.ours, recorded=row.recorded), measured(row.bare, recorded=False)) for _ in range(max(repeats, 1))
    ]
    return median(each[0] for each in taken), median(each[1] for each in taken)


def line(row: Row, ours: float, bare: float) -> str:
    """The row of the table."""

    def shown(figure: float) -> str:
        return f"{figure * row.unit[1]:,.3g} {row.unit[0]}"

    held = "holds" if ours <= row.bar else "**missed**"
    cells = (row.title, f"≤ {shown(row.bar)}", shown(ours), f"{row.beside}: {shown(bare)}", f"{ours / bare:.2f}", held)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only the rows whose names begin like this: import,call")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round, fewer calls: a look, not a measure")
    arguments = parser.parse_args()
    wanted = [each.strip() for each in arguments.rows.split(",")]
    chosen = [row for row in rows(arguments.quick) if any(row.name.startswith(each) for each in wanted)]
    programs = [
        name for name in PROGRAMS if (arguments.rows and name in wanted) or not (arguments.rows or arguments.quick)
    ]
    if not chosen and not programs:
        known = ", ".join((*(row.name for row in rows(quick=True)), *PROGRAMS))
        sys.exit(f"No row is called {arguments.rows!r}; there are {known}.")
    if chosen:
        table(chosen, 1 if arguments.quick else arguments.repeats)
    for name in programs:
        print(f"\n{name}:", flush=True)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), PROGRAMS[name])
        subprocess.run([sys.executable, "-P", program], check=False)


def table(chosen: list[Row], repeats: int) -> None:
    """Measure and print the rows."""
    print("| what | bar | TwinGraph | beside | ratio | |\n| --- | --- | --- | --- | --- | --- |")
    for row in chosen:
        print(line(row, *figures(row, repeats)), flush=True)


if __name__ == "__main__":
    main()
