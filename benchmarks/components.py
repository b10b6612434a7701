"""Measures what the built-in components cost on this machine, each beside the bare library that does the same.

    python benchmarks/components.py [--rows llm] [--repeats N] [--megabytes N] [--quick]

Every figure is the median of rounds, each in processes of their own, the bare library measured right after. A program
prints what it measured: processor seconds of its own process where others take part in the work, else seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import databases

MILLI, MICRO, SECOND = ("ms", 1e3), ("µs", 1e6), ("s", 1.0)
PART, MEGABYTE = ("", 1.0), ("MB", 1.0)


@dataclass(frozen=True)
class Row:
    """A figure: the program that measures ours, the one that measures the bare library, and how it is shown."""

    name: str
    title: str
    ours: str
    bare: str
    beside: str
    unit: tuple[str, float] = SECOND
    postgres: bool = False  # its programs find the URL of a database in POSTGRES


# ---- LLMPrompt: a question to a server that answers at once, from connecting (kept) to the answer; processor time

_ASKING = """
import json, subprocess, sys, time
command = [sys.executable, "-m", "twingraph.components.llm_server", "--port", "0"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
url = server.stderr.readline().split()[0].removeprefix("OPENAI_BASE_URL=")
try:
{ask}
    ask()
    began = time.process_time()
    for _ in range({count}):
        ask()
    print((time.process_time() - began) / {count})
finally:
    server.terminate()
    server.wait()
"""
_LLM = """
    from twingraph.components import LLMPrompt
    llm = LLMPrompt(model="gpt-5-mini", base_url=url, api_key="any", stream={stream})
    def ask():
        return llm{run}(prompt="Say this: {{text}}", text="one two three four five six seven eight")["response"]
"""
_HTTPX = """
    import httpx
    client = httpx.Client()
    body = {{"model": "gpt-5-mini", "messages": [{{"role": "user", "content": "Say this: " + "word " * 8}}]}}
    def ask():
        headers = {{"Authorization": "Bearer any"}}
        if not {stream}:
            said = client.post(url + "/chat/completions", json=body, headers=headers).json()
            return said["choices"][0]["message"]["content"]
        text = ""
        told = {{**body, "stream": True, "stream_options": {{"include_usage": True}}}}
        with client.stream("POST", url + "/chat/completions", json=told, headers=headers) as response:
            for line in response.iter_lines():
                if line.startswith("data: {{"):
                    for choice in json.loads(line[6:])["choices"]:
                        text += choice["delta"].get("content") or ""
        return text
"""


def llm(quick: bool) -> list[Row]:
    """What LLMPrompt adds to a request."""

    def program(ask: str, **told: object) -> str:
        return _ASKING.format(ask=ask.format(**told).strip("\n"), count=50 if quick else 500)

    return [
        Row(f"llm{name}", f"LLMPrompt: {title}", program(_LLM, stream=stream, run=run),
            program(_HTTPX, stream=stream), "httpx", MILLI)
        for name, title, stream, run in (
            ("", "a question, answered in one piece", False, ".run"),
            ("-stream", "a question, answered as a stream", True, ".run"),
            ("-call", "the same as a call of a component", True, ""),
        )
    ]  # fmt: skip


# ---- FileReader: a file that lies in the page cache, read by a process that has read another before

_TABLE = """
import os, time
import numpy as np
import polars as pl
place = os.path.join(os.environ["BENCH_FOLDER"], "rows.{kind}")
small = os.path.join(os.environ["BENCH_FOLDER"], "small.{kind}")
def table(rows):
    made = np.random.default_rng(1)
    return pl.DataFrame({{
        "id": np.arange(rows), "price": made.random(rows), "mass": made.normal(size=rows),
        "many": made.integers(0, 1 << 40, rows), "few": made.integers(0, 100, rows),
        "city": made.choice(["Bern", "Basel", "Chur", "Genève"], rows),
        "at": (np.datetime64("2024-01-01", "us") + made.integers(0, 1 << 42, rows)),
    }})
if not os.path.exists(place):
    wanted = int(os.environ["BENCH_MEGABYTES"]) * 1_000_000 // {part}
    table(100).write_{kind}(small)
    table(100_000).write_{kind}(place)
    table(100_000 * wanted // os.path.getsize(place)).write_{kind}(place)
with open(place, "rb") as file:
    while file.read(1 << 24): pass
{ready}
def read(place):
    return {reading}
read(small)
began = time.perf_counter()
found = read(place)
told = time.perf_counter() - began
assert found.height > 1000
print(told)
"""


def files(_quick: bool) -> list[Row]:
    """What FileReader adds to reading a file."""
    ready = "from twingraph.components import FileReader\nreader = FileReader(format='frame')"

    def row(name: str, title: str, kind: str, ours: str, bare: str) -> Row:
        table = {"kind": kind, "part": 4 if kind == "csv" else 1}
        own, beside = _TABLE.format(ready=ready, reading=ours, **table), _TABLE.format(ready="", reading=bare, **table)
        return Row(name, f"FileReader: {title}", own, beside, "Polars")

    some = "columns=['city', 'price'], where=\"id < 1000000 and city == 'Bern'\""
    lazily = "pl.scan_parquet(place).filter((pl.col('id') < 1000000) & (pl.col('city') == 'Bern'))"
    all_of_it = "pl.read_parquet(place)"
    return [
        row("files", "all of a Parquet file", "parquet", "reader.run(place)['data']", all_of_it),
        row("files-call", "the same as a call of a component", "parquet", "reader(place)['data']", all_of_it),
        row("files-some", "two columns of some of its rows", "parquet", f"reader.run(place, {some})['data']",
            f"{lazily}.select('city', 'price').collect()"),
        row("files-csv", "csv, a quarter of the size", "csv", "reader.run(place)['data']", "pl.read_csv(place)"),
    ]  # fmt: skip


# ---- DataTransform: the same chain of operations, on a frame in memory, on records, and on a frame of ten rows

_TABLES = """
import random, time
import polars as pl
random.seed(7)
rows = {rows}
orders = pl.DataFrame({{
    "city": random.choices(["Bern", "Basel", "Chur", "Genf", None], k=rows),
    "shop": random.choices(range(1_000), k=rows),
    "price": [random.random() * 9 for _ in range(rows)],
    "n": random.choices(range(10), k=rows),
    "note": random.choices(["as agreed", "gift", ""], k=rows),
}})
shops = pl.DataFrame({{"shop": range(1_000), "size": [shop % 7 for shop in range(1_000)]}})
orders, shops = {form}
{made}
done()
best = 1e9
for _ in range({rounds}):
    began = time.perf_counter()
    for _ in range({count}):
        done()
    best = min(best, (time.perf_counter() - began) / {count})
print(best)
"""
_TRANSFORM = """
from twingraph.components import DataTransform
transform = DataTransform(operations=[
    {"filter": "price * n > 3 and city in ['Bern', 'Basel', 'Chur']"},
    {"join": {"with": "shops", "on": "shop", "how": "left"}},
    {"derive": {"total": "price * n"}},
    {"group": {"by": ["city", "size"], "total": "sum(total)", "orders": "count()"}},
    {"sort": "-total"},
])
def done(): return transform.run(data=orders, shops=shops)["data"]
"""
_POLARS = """
c = pl.col
def done():
    left, right = (pl.from_dicts(orders), pl.from_dicts(shops)) if isinstance(orders, list) else (orders, shops)
    made = (
        left.lazy()
        .filter((c("price") * c("n") > 3) & c("city").is_in(["Bern", "Basel", "Chur"]))
        .join(right.lazy(), on="shop", how="left", maintain_order="left")
        .with_columns(total=c("price") * c("n"))
        .group_by("city", "size", maintain_order=True)
        .agg(total=c("total").sum(), orders=pl.len())
        .sort(c("total"), descending=True, nulls_last=True, maintain_order=True)
        .collect()
    )
    return made.to_dicts() if isinstance(orders, list) else made
"""


def transform(quick: bool) -> list[Row]:
    """What DataTransform adds to Polars."""
    frames, records = "orders, shops", "orders.to_dicts(), shops.to_dicts()"
    large, some = (100_000, 10_000) if quick else (2_000_000, 100_000)

    def program(made: str, rows: int, form: str, count: int) -> str:
        return _TABLES.format(made=made, rows=rows, form=form, count=count, rounds=2 if quick else 5)

    return [
        Row(f"transform-{name}", f"DataTransform: {title}", program(_TRANSFORM, rows, form, count),
            program(_POLARS, rows, form, count), "Polars", MILLI)
        for name, title, rows, form, count in (
            ("frame", f"five operations on a frame of {large:,} rows", large, frames, 1),
            ("records", f"the same on {some:,} records", some, records, 1),
            ("small", "the same on a frame of ten rows", 10, frames, 10 if quick else 100),
        )
    ]  # fmt: skip


# ---- Travelling: a table to another process and back; seconds

_TRAVELLING = """
import time
import polars as pl

def same(table):
    return table

def main():
    rows = {rows}
    kinds = ["owl", "jay"] * (rows // 2)
    frame = pl.DataFrame({{"n": range(rows), "x": [each / 7 for each in range(rows)], "kind": kinds}})
    table = frame{form}
{send}
    send(frame[:10]{form})
    began = time.perf_counter()
    assert len(send(table)) == rows
    print(time.perf_counter() - began)

if __name__ == "__main__":
    main()
"""
_COMPONENT = """
    from twingraph import component
    apart = component(config={"isolate": True})(same)
    def send(table):
        return apart(table).value
"""
_POOL = """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    def send(table):
        return pool.submit(same, table).result()
"""


def travelling(quick: bool) -> list[Row]:
    """What it costs that a table travels as data, and not as a pickle."""
    rows = 20_000 if quick else 1_000_000

    def program(send: str, form: str = "", rows: int = rows) -> str:
        return _TRAVELLING.format(rows=rows, form=form, send=send.strip("\n"))

    few = rows // 10
    return [
        Row("travel-frame", f"a frame of {rows:,} rows to a process of its own and back", program(_COMPONENT),
            program(_POOL), "a process pool, by pickle", MILLI),
        Row("travel-records", f"{few:,} records there and back", program(_COMPONENT, ".to_dicts()", few),
            program(_POOL, ".to_dicts()", few), "a process pool, by pickle", MILLI),
    ]  # fmt: skip


# ---- VectorSearch: clustered vectors, as embeddings are, with metadata; processor time, and beside NumPy's brute force

_VECTORS = """
import resource, sys, time
import numpy as np
rng = np.random.default_rng(7)
ways = rng.normal(size=(24, {dimension}))
made = np.tanh(rng.normal(size=({count} + 100, 24))) @ ways + 0.3 * rng.normal(size=({count} + 100, {dimension}))
made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
vectors, queries = made[:-100], made[-100:]
metadata = [{{"color": ("red", "green", "blue")[row % 3], "price": row % 1000}} for row in range({count})]
where = {{"color": "red", "price": {{"<": 500}}}}
fits = np.array([each["color"] == "red" and each["price"] < 500 for each in metadata])
def brute(query, mask=None):
    scores = vectors @ query
    if mask is not None:
        scores[~mask] = -np.inf
    best = np.argpartition(scores, -10)[-10:]
    return best[np.argsort(-scores[best])]
def spent(work, times):
    work(0)
    began = time.process_time()
    for each in range(times):
        work(each)
    print((time.process_time() - began) / times)
def recall(search):
    right = [len({{*map(int, search(each))}} & {{*brute(each).tolist()}}) for each in queries]
    print(sum(right) / 10 / len(right))
def index(**settings):
    from twingraph.components import VectorSearch
    made = VectorSearch(index="bench", **settings)
    made.add(vectors, ids=range({count}), metadata=metadata)
    return made
def ids(found):
    return [each["id"] for each in found]
"""
_KEPT = """
import os
began = time.process_time()
{work}
print(time.process_time() - began)
"""
_SAVED = """
with open(os.path.join(os.environ["TWINGRAPH_HOME"], "bare.npy"), "wb") as file:
    np.save(file, vectors)
    file.flush()
    os.fsync(file.fileno())
import json, sqlite3
base = sqlite3.connect(os.path.join(os.environ["TWINGRAPH_HOME"], "bare.db"))
base.execute("create table rows (id text primary key, metadata text)")
base.executemany("insert into rows values (?, ?)", ((str(row), json.dumps(told)) for row, told in enumerate(metadata)))
base.commit()
"""
_USEARCH = """
from usearch.index import Index
graph = Index(ndim={dimension}, metric="ip", dtype="f16", connectivity=16, expansion_add=128, expansion_search=256)
graph.add(np.arange(len(vectors)), vectors)
"""
_HELD = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"


def vectors(quick: bool) -> list[Row]:
    """What VectorSearch takes beside NumPy and usearch alone."""
    told = {"count": 5_000 if quick else 100_000, "dimension": 128}
    made = _VECTORS.format(**told)
    graph = _USEARCH.format(**told)
    times = 20 if quick else 100
    what = f"{told['count']:,} x {told['dimension']}"
    numpy, usearch = "NumPy", "usearch alone"
    few = "[each % 100]"
    of_numpy = f"spent(lambda each: brute(queries{few}), {times})"
    rows = [
        ("add", f"{what} added, on the disk",
         _KEPT.format(work="index()"), _KEPT.format(work=_SAVED), "np.save and rows of SQLite", SECOND),
        ("search", "a search of all of them",
         f"found = index()\nspent(lambda each: found.search(queries{few}), {times})", of_numpy, numpy, MILLI),
        ("filter", "a search with a filter that a sixth of them fit",
         f"found = index()\nspent(lambda each: found.search(queries{few}, where=where), {times})",
         f"spent(lambda each: brute(queries{few}, fits), {times})", numpy, MILLI),
        ("batch", "100 searches at once", "found = index()\nspent(lambda _: found.search(queries), 5)",
         "spent(lambda _: np.argpartition(queries @ vectors.T, -10, axis=1)[:, -10:], 5)", numpy, MILLI),
        ("recall", "recall of 10, exact", "found = index()\nrecall(lambda each: ids(found.search(each)))",
         "recall(brute)", numpy, PART),
        ("memory", "memory of a process that searches",
         f"index().search(queries[0])\n{_HELD}", f"brute(queries[0])\n{_HELD}", numpy, MEGABYTE),
        ("graph-build", f"{what} added, with a graph", _KEPT.format(work="index(approximate=True)"),
         _KEPT.format(work=graph), usearch, SECOND),
        ("graph-search", "a search by the graph",
         f"found = index(approximate=True)\nspent(lambda each: found.search(queries{few}), {times})",
         of_numpy, numpy, MILLI),
        ("graph-recall", "recall of 10, by the graph",
         "found = index(approximate=True)\nrecall(lambda each: ids(found.search(each)))",
         graph + "recall(lambda each: graph.search(each, 10).keys)", usearch, PART),
    ]  # fmt: skip
    return [
        Row(f"vectors-{name}", f"VectorSearch: {title}", made + ours, made + bare, beside, unit)
        for name, title, ours, bare, beside, unit in rows
    ]


# ---- DatabaseQuery: see databases.py


def database(quick: bool) -> list[Row]:
    """What DatabaseQuery adds to a driver."""
    return [Row(*each) for each in databases.rows(quick)]  # type: ignore[arg-type]


@contextmanager
def serving(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows that can be measured: some need a PostgreSQL, which runs meanwhile where it is installed."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from tests.postgres_server import _programs as installed
    from tests.postgres_server import running

    if not any(each.postgres for each in rows):
        yield rows
    elif (programs := installed()) is None:
        print("PostgreSQL is not installed: what needs it is left out.", file=sys.stderr)
        yield [each for each in rows if not each.postgres]
    else:
        with running(programs) as server:
            os.environ["POSTGRES"] = server.url("postgres")
            yield rows


PARTS = (files, transform, llm, travelling, vectors, database)


def measured(program: str) -> float:
    """What a program in a process of its own prints."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "TWINGRAPH_HOME": home, "TWINGRAPH_RECORD": "off"}
        path = os.path.join(home, "program.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(program)
        done = subprocess.run(
            [sys.executable, path], env=environment, cwd=home, capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def line(row: Row, repeats: int) -> str:
    """Measure a row; a line of the table."""
    taken = [(measured(row.ours), measured(row.bare)) for _ in range(max(repeats, 1))]
    ours, bare = (median(each[at] for each in taken) for at in range(2))
    shown = [f"{each * row.unit[1]:,.3g} {row.unit[0]}" for each in (ours, bare)]
    return f"| {row.title} | {shown[0]} | {row.beside}: {shown[1]} | {ours / bare:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only the rows whose names begin like this: llm,files")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the file that is read (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="one round, less of it: a look, not a measure")
    arguments = parser.parse_args()
    rows = [row for part in PARTS for row in part(arguments.quick)]
    wanted = tuple(each.strip() for each in arguments.rows.split(","))
    chosen = [row for row in rows if row.name.startswith(wanted)]
    if not chosen:
        sys.exit(f"No row is called {arguments.rows!r}; there are {', '.join(row.name for row in rows)}.")
    print("| what | TwinGraph | beside | ratio |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"BENCH_FOLDER": folder, "BENCH_MEGABYTES": str(20 if arguments.quick else arguments.megabytes)}
        with serving(chosen) as measurable:
            for row in measurable:
                print(line(row, 1 if arguments.quick else arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
