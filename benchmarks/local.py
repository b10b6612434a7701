"""Measures what lokki costs on this machine, beside the bare pools of Python and whichever peers are installed.

    python benchmarks/local.py [--rows map,chain-durable] [--repeats N] [--quick] [--peers joblib,...] [--write]

Every figure is a median over interleaved rounds of whole processes. Rows, bars and peers are in `rows.py`, the work
itself is in `peers/`. A peer is measured when it can be imported here, or when BENCH_PYTHON_<PEER> (as in
BENCH_PYTHON_LUIGI) names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

from processes import BenchmarkError, Command, Sample, measure, wait_for_quiet
from rows import PEERS, ROWS, Figures, Peer, Row

HERE = os.path.dirname(os.path.abspath(__file__))
KNOWN = os.path.join(HERE, "figures.json")
PAGE = os.path.join(os.path.dirname(HERE), "docs", "benchmarks.md")
BEGIN, END = "<!-- figures: benchmarks/local.py --write -->", "<!-- end of figures -->"
HEAD = ("what", "bar", "lokki", "beside", "ratio", "")
NOTHING = "-"


@dataclass(frozen=True)
class Options:
    """What was asked for; `pythons` are the interpreters of the peers to measure, by the peer's name."""

    repeats: int
    quick: bool
    pythons: Mapping[str, str]


def main() -> None:
    arguments = _arguments()
    rows = [row for row in ROWS if _chosen(row.name, arguments.rows)]
    if not rows:
        sys.exit(f"No row is called {arguments.rows!r}; there are {', '.join(row.name for row in ROWS)}.")
    if arguments.write and arguments.quick:
        sys.exit("--write goes without --quick: the page shows measured figures, not a look.")
    options = Options(arguments.repeats, arguments.quick, {} if arguments.quick else _pythons(arguments.peers))
    measured: dict[str, Figures] = {}
    _print(_table(rows, options.quick, lambda row: measured.setdefault(row.name, _medians(row, options))))
    if options.pythons:
        _print(["", *_peers_table(rows, measured)])
    if arguments.write:
        _write(_renewed(measured, options))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only the rows whose names begin like this: map,chain-durable")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round, fewer items, no peers: a look, not a measure")
    parser.add_argument("--peers", default="", help="only these peers: joblib,luigi; or none")
    parser.add_argument("--write", action="store_true", help="keep the figures, and renew docs/benchmarks.md with them")
    return parser.parse_args()


def _chosen(name: str, wanted: str) -> bool:
    return not wanted or any(name.startswith(each.strip()) for each in wanted.split(","))


def _pythons(wanted: str) -> dict[str, str]:
    found = {}
    for peer in PEERS:
        named = os.environ.get(f"BENCH_PYTHON_{peer.package.upper()}", "")
        if _chosen(peer.name, wanted) and (named or find_spec(peer.package)):
            found[peer.name] = named or sys.executable
    return found


def _table(rows: Sequence[Row], quick: bool, figures: Callable[[Row], Figures]) -> Iterator[str]:
    """The lines of the table; the figures are asked for one row at a time."""
    yield _cells(HEAD)
    yield _cells(["---"] * len(HEAD))
    for row in rows:
        yield _line(row, row.quick if quick else row.items, figures(row))


def _medians(row: Row, options: Options) -> Figures:
    items = row.quick if options.quick else row.items
    commands = row.commands(items) | _peers_commands(row, options)
    rounds = 1 if options.quick else row.rounds * options.repeats
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        samples = _round(commands, alone=row.alone and not options.quick)
        for name in commands.keys() - samples.keys():  # a peer that failed once is not asked again
            del commands[name]
        for name, figure in row.figures(samples).items():
            taken.setdefault(name, []).append(figure)
    return {name: median(figures) for name, figures in taken.items()}


def _round(commands: Mapping[str, Command], *, alone: bool) -> dict[str, Sample]:
    samples = {}
    for name in random.sample(list(commands), len(commands)):
        if alone:
            wait_for_quiet()
        try:
            samples[name] = measure(commands[name])
        except BenchmarkError as error:
            if not any(name.startswith(peer.name) for peer in PEERS):
                raise
            print(f"left out: {name}: {error}", file=sys.stderr)
    return samples


def _peers_commands(row: Row, options: Options) -> dict[str, Command]:
    commands: dict[str, Command] = {}
    for peer, python in _present(options):
        if row.peer is not None and row.name in peer.sizes:
            commands |= row.peer(peer, python, peer.sizes[row.name])
    return commands


def _present(options: Options) -> Iterator[tuple[Peer, str]]:
    yield from ((peer, options.pythons[peer.name]) for peer in PEERS if peer.name in options.pythons)


def _line(row: Row, items: int, figures: Figures) -> str:
    own, beside = figures["lokki"], figures.get("beside")
    told = _amount(own, row) + (f" ({row.note.format_map(figures)})" if row.note else "")
    held = own <= row.bar and (row.ratio_bar is None or beside is None or own <= row.ratio_bar * beside)
    bar = f"≤ {_amount(row.bar, row)}" + (f", ≤ {row.ratio_bar:g}x" if row.ratio_bar is not None else "")
    ratio = NOTHING if beside is None else f"{own / beside:.2f}"
    against = NOTHING if beside is None else f"{row.beside}: {_amount(beside, row)}"
    return _cells([_title(row, items), bar, told, against, ratio, "holds" if held else "**missed**"])


def _title(row: Row, items: int) -> str:
    return row.title.format(items=items, most=items * 9 // 10)


def _amount(figure: float, row: Row) -> str:
    name, factor = row.unit
    amount = figure * factor
    digits = (
        0 if amount == int(amount) else next(at for at, least in enumerate((100, 10, 0.1, 0)) if abs(amount) >= least)
    )
    return f"{amount:,.{digits}f}{'' if name in {'', 'x', '%'} else ' '}{name}"


def _peers_table(rows: Sequence[Row], measured: Mapping[str, Figures]) -> Iterator[str]:
    """lokki's figures beside those of the peers, where there are any."""
    peers = [peer.name for peer in PEERS if any(peer.name in figures for figures in measured.values())]
    yield _cells(["what", "lokki", *peers])
    yield _cells(["---"] * (2 + len(peers)))
    for row in rows:
        figures = measured.get(row.name, {})
        if any(peer in figures for peer in peers):
            amounts = [_amount(figures[name], row) if name in figures else NOTHING for name in ["lokki", *peers]]
            yield _cells([_title(row, row.items), *amounts])


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _renewed(measured: Mapping[str, Figures], options: Options) -> dict[str, Any]:
    """What is known from earlier measurements, with what was measured now in its place."""
    known: dict[str, Any] = {"with": {}, "figures": {}}
    if os.path.exists(KNOWN):
        with open(KNOWN, encoding="utf-8") as file:
            known = json.load(file)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known["machine"] = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}"
    known["with"] |= {"Python": platform.python_version(), "lokki": version("lokki-twingraph")}
    known["with"] |= {peer.package: _version(peer, python) for peer, python in _present(options)}
    for name, figures in measured.items():
        rounded = {each: float(f"{figure:.4g}") for each, figure in figures.items()}
        known["figures"].setdefault(name, {}).update(rounded)
    return known


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(peer: Peer, python: str) -> str:
    code = (
        "import importlib.metadata as m;"
        f"print(m.version(m.packages_distributions()[{peer.package!r}][0]))"
    )  # a module may come from a package of another name
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _write(known: Mapping[str, Any]) -> None:
    """Keep the figures, and show them on the page."""
    with open(KNOWN, "w", encoding="utf-8") as file:
        file.write(json.dumps(known, indent=2, sort_keys=True) + "\n")
    figures = known["figures"]
    rows = [row for row in ROWS if row.name in figures]
    versions = ", ".join(f"{name} {number}" for name, number in known["with"].items())
    head = f"Measured on {known['machine']}; with {versions}."
    tables = [*_table(rows, False, lambda row: figures[row.name]), "", *_peers_table(rows, figures)]
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"docs/benchmarks.md has no place for the figures: it needs the lines {BEGIN} and {END}.")
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write("\n".join([before + BEGIN, "", head, "", *tables, "", END]) + after)


if __name__ == "__main__":
    main()
