"""What is measured, and the bar that each figure is held to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from processes import Command, Sample

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")

Samples = Mapping[str, Sample]
Figures = dict[str, float]

SECOND, MILLI, MICRO = ("s", 1.0), ("ms", 1e3), ("us", 1e6)
MEGABYTE, TIMES, PERCENT, ITEM = ("MB", 1.0), ("x", 1.0), ("%", 1.0), ("", 1.0)


@dataclass(frozen=True)
class Peer:
    """Another library that does the same work.

    Attributes:
        module: what its users import.
        script: its script in `peers`, and how that is to use the library.
        sizes: the workloads it can do, each with the number of items; a slow peer gets fewer.
    """

    name: str
    module: str
    script: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def package(self) -> str:
        """The module that must be there, and the end of the name of BENCH_PYTHON_<PEER>."""
        return self.module.partition(".")[0]


_VALUES = {"array": 0, "frame": 0, "dicts": 0}

PEERS = (
    Peer("joblib", "joblib", ("with_joblib.py",),
         {"import-names": 0, "birds": 0, "map-memory": 10_000, "map-durable": 1_000, "cpu": 64, "resume": 1_000,
          **_VALUES}),
    Peer("luigi", "luigi", ("with_luigi.py",),
         {"import-names": 0, "birds": 0, "map-durable": 1_000, "chain-durable": 300, "resume": 1_000, **_VALUES}),
    Peer("dask threads", "dask.bag", ("with_dask.py", "threads"),
         {"import-names": 0, "birds": 0, "map-memory": 10_000, "chain-memory": 1_000}),
    Peer("dask processes", "dask.bag", ("with_dask.py", "processes"),
         {"birds": 0, "map-memory": 10_000, "cpu": 64}),
    Peer("hamilton", "hamilton.driver", ("with_hamilton.py",),
         {"import-names": 0, "birds": 0, "map-memory": 1_000, "chain-memory": 300, "resume": 1_000}),
    Peer("redun", "redun", ("with_redun.py",),
         {"import-names": 0, "birds": 0, "map-durable": 200, "chain-durable": 100, "resume": 1_000, **_VALUES}),
    Peer("dagster", "dagster", ("with_dagster.py",),
         {"import-names": 0, "birds": 0, "map-durable": 100, "chain-durable": 50, "resume": 1_000, **_VALUES}),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        title: what is measured; `{items}` is the number of items, `{most}` nine tenths of it.
        unit: how figures are shown, and the factor from seconds, MB or times to that.
        bar: what lokki's figure may be at most, in seconds, MB or times.
        beside: what the figure stands beside.
        commands: the processes of one round, by name, for a number of items.
        figures: what a round gives, by name.
        peer: a peer's process, by the peer and its number of items; None where none can do it.
        items: the usual number of items.
        quick: the number for a quick look.
        ratio_bar: what lokki's figure may be at most in terms of the one beside it.
        rounds: how many rounds for one that was asked for: cheap rows afford more.
        alone: the wall clock counts, so that other processes disturb it.
        note: more of what lokki's process said, to fill in.
    """

    name: str
    title: str
    unit: tuple[str, float]
    bar: float
    beside: str
    commands: Callable[[int], dict[str, Command]]
    figures: Callable[[Samples], Figures]
    peer: Callable[[Peer, str, int], dict[str, Command]] | None = None
    items: int = 0
    quick: int = 0
    ratio_bar: float | None = None
    rounds: int = 1
    alone: bool = False
    note: str = ""


def _script(name: str, *arguments: object, **how: object) -> Command:
    return Command((os.path.join(HERE, name), *map(str, arguments)), **how)


def _code(code: str, python: str = "") -> Command:
    return Command(("-c", code), python) if python else Command(("-c", code))


def _lokki(workload: str, *more: object, **how: object) -> Callable[[int], dict[str, Command]]:
    return lambda items: {"lokki": _script("with_lokki.py", workload, items, *more, **how)}


def _peer(workload: str, **how: object) -> Callable[[Peer, str, int], dict[str, Command]]:
    def commands(peer: Peer, python: str, items: int) -> dict[str, Command]:
        script, *mode = peer.script
        sizes = [items] if items else []
        return {peer.name: _script(script, *mode, workload, *sizes, python=python, **how)}

    return commands


def _said(samples: Samples) -> Figures:
    """What each process measured itself, and what lokki's measured beside it."""
    figures = {name: sample.said["figure"] for name, sample in samples.items()}
    own = samples["lokki"].said
    return figures | ({"beside": own["beside"]} if "beside" in own else {})


def _whole(samples: Samples) -> Figures:
    return {name: sample.cpu for name, sample in samples.items()}


def _over_bare_python(samples: Samples) -> Figures:
    """CPU seconds of each process beyond those of the same interpreter when it does nothing."""
    bare = {name.removesuffix(" bare"): each.cpu for name, each in samples.items() if name.endswith(" bare")}
    figures = {name: samples[name].cpu - cost for name, cost in bare.items()}
    return figures | {"beside": bare["lokki"]}


def _added(samples: Samples) -> Figures:
    """CPU seconds beyond those of plain calls."""
    plain = samples["plain"].said["figure"]
    return {name: each.said["figure"] - plain for name, each in samples.items() if name != "plain"} | {"plain": plain}


def _peak(samples: Samples) -> Figures:
    return {name: each.peak for name, each in samples.items()} | {"seconds": samples["lokki"].said["seconds"]}


def _overhead(samples: Samples) -> Figures:
    """What the log adds, in percent of the run without it."""
    own = samples["lokki"].said
    return {"lokki": 100 * (own["figure"] / own["beside"] - 1), "without": 1e3 * own["beside"]}


def _import(name: str, code: str, *, peers: bool = True) -> Row:
    def commands(_: int) -> dict[str, Command]:
        return {"lokki": _code(code), "lokki bare": _code("pass")}

    def peer(peer: Peer, python: str, _: int) -> dict[str, Command]:
        return {peer.name: _code(f"import {peer.module}", python), f"{peer.name} bare": _code("pass", python)}

    return Row(
        name, f"`{code}`, beyond Python itself", MILLI, 0.030, "Python itself",
        commands, _over_bare_python, peer if peers else None, rounds=4,
    )  # fmt: skip


def _birds(_: int) -> dict[str, Command]:
    return {"lokki": _script("birds.py", "run"), "beside": _script("bare.py", "birds"), "nothing": _code("pass")}


def _value(kind: str, title: str, bar: float) -> Row:
    def commands(_: int) -> dict[str, Command]:
        return {
            "lokki": _script("with_lokki.py", "value", kind),
            "plain": _script("bare.py", "value_called", kind),
            "beside": _script("bare.py", "value_pickled", kind),
        }

    def peer(peer: Peer, python: str, _: int) -> dict[str, Command]:
        return {peer.name: _script(peer.script[0], "value", kind, python=python)}

    title = f"{title} from one step to the next, durable: what it adds to plain calls"
    return Row(kind, title, SECOND, bar, "pickle to a file and back", commands, _added, peer)


def _million(keeping: str) -> Row:
    def commands(items: int) -> dict[str, Command]:
        lokki = _script("with_lokki.py", f"million_{keeping}", items)
        return {"lokki": lokki, "beside": _script("bare.py", "million", items)}

    kept = "in memory" if keeping == "memory" else "durable"
    return Row(
        f"million-{keeping}", f"map of {{items:,}} items, {kept}: peak memory of the process", MEGABYTE, 600,
        "thread pool", commands, _peak, items=1_000_000, quick=100_000, note="in order, {seconds:.1f} s",
    )  # fmt: skip


def _log(to: str) -> Row:
    return Row(
        f"log-{to}", f"log of a map of {{items:,}} no-ops to a {to}: what it adds to the run", PERCENT, 5, "",
        _lokki("log", stderr=to), _overhead, items=10_000, quick=10_000, note="of {without:.0f} ms",
    )  # fmt: skip


ROWS = (
    _import("import", "import lokki", peers=False),
    _import("import-names", "from lokki import flow, main, step"),
    Row(
        "birds", "a list of 3, mapped and joined; the whole process", SECOND, 0.080, "thread pool",
        _birds, _whole, _peer("birds"), rounds=4, note="Python itself {nothing:.3f} s",
    ),
    Row(
        "map-memory", "map of {items:,} no-ops, in memory, per item", MICRO, 10e-6, "thread pool",
        _lokki("map_memory"), _said, _peer("map_memory"), items=10_000, quick=1_000, ratio_bar=1,
    ),
    Row(
        "map-durable", "map of {items:,} no-ops, durable and resumable, per item", MICRO, 30e-6, "one append to a file",
        _lokki("map_durable"), _said, _peer("map_durable"), items=10_000, quick=1_000,
    ),
    Row(
        "cpu", "CPU-bound map on every core: time over the ideal", TIMES, 1.15, "process pool",
        lambda items: {"lokki": _script("with_lokki.py", "spins", items), "beside": _script("bare.py", "spins", items)},
        _said, _peer("spins"), items=64, quick=8, alone=True,
    ),
    _value("array", "a 256 MB array", 0.4),
    _value("frame", "a DataFrame of 5 million rows", 0.8),
    _value("dicts", "200,000 dicts", 1.3),
    Row(
        "chain-memory", "chain of {items:,} steps, in memory, per step", MICRO, 60e-6, "thread pool",
        _lokki("chain_memory"), _said, _peer("chain_memory"), items=1_000, quick=100,
    ),
    Row(
        "chain-durable", "chain of {items:,} steps, durable and resumable, per step", MICRO, 150e-6, "one file each",
        _lokki("chain_durable"), _said, _peer("chain_durable"), items=1_000, quick=100,
    ),
    Row(
        "resume", "run again after item {most:,} of {items:,} failed: items that run twice", ITEM, 1, "",
        _lokki("resume", again=True), _said, _peer("resume", again=True), items=1_000, quick=100,
    ),
    _million("memory"),
    _million("durable"),
    _log("pipe"),
    _log("pty"),
)  # fmt: skip
