"""Measures what lokki costs on this machine, beside the bare pools of Python and whichever peers are installed.

    python benchmarks/local.py [--rows map,chain-durable] [--repeats N] [--quick] [--peers joblib,...] [--write]

Every figure is a median over interleaved rounds of whole processes. Rows, bars and peers are in `rows.py`, the work
itself is in `peers/`. A peer is measured when it can be imported here, or when BENCH_PYTHON_<PEER> (as in
BENCH_PYTHON_LUIGI) names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median

from processes import BenchmarkError, Command, Sample, measure, wait_for_quiet
from rows import PEERS, ROWS, Figures, Peer, Row

PAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "docs", "benchmarks.md")
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
    if arguments.write and (arguments.rows or arguments.quick):
        sys.exit("--write renews the whole table: it goes without --rows and --quick.")
    options = Options(arguments.repeats, arguments.quick, {} if arguments.quick else _pythons(arguments.peers))
    measured: dict[str, Figures] = {}
    lines = list(_told(_table(rows, options, measured)))
    lines += ["", *_told(_peers_table(rows, options, measured))] if options.pythons else []
    if arguments.write:
        _write([_machine(options), "", *lines])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="only the rows whose names begin like this: map,chain-durable")
    parser.add_argument("--repeats", type=int, default=5, help="rounds per row (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one round, fewer items, no peers: a look, not a measure")
    parser.add_argument("--peers", default="", help="only these peers: joblib,luigi; or none")
    parser.add_argument("--write", action="store_true", help="renew the tables in docs/benchmarks.md")
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


def _table(rows: Sequence[Row], options: Options, measured: dict[str, Figures]) -> Iterator[str]:
    """The lines of the table, as they are measured; the medians are left in `measured`."""
    yield _cells(HEAD)
    yield _cells(["---"] * len(HEAD))
    for row in rows:
        measured[row.name] = _medians(row, options)
        yield _line(row, options, measured[row.name])


def _medians(row: Row, options: Options) -> Figures:
    commands = row.commands(_items(row, options)) | _peers_commands(row, options)
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
        if row.peer is not None and (name := _workload(row)) in peer.sizes:
            commands |= row.peer(peer, python, peer.sizes[name])
    return commands


def _workload(row: Row) -> str:
    return "import" if row.name.startswith("import") else row.name


def _present(options: Options) -> Iterator[tuple[Peer, str]]:
    yield from ((peer, options.pythons[peer.name]) for peer in PEERS if peer.name in options.pythons)


def _items(row: Row, options: Options) -> int:
    return row.quick if options.quick else row.items


def _line(row: Row, options: Options, figures: Figures) -> str:
    items = _items(row, options)
    own, beside = figures["lokki"], figures.get("beside")
    told = _amount(own, row) + (f" ({row.note.format_map(figures)})" if row.note else "")
    held = own <= row.bar and (row.ratio_bar is None or beside is None or own <= row.ratio_bar * beside)
    bar = f"≤ {_amount(row.bar, row)}" + (f", ≤ {row.ratio_bar:g}x" if row.ratio_bar is not None else "")
    ratio = NOTHING if beside is None else f"{own / beside:.2f}"
    against = NOTHING if beside is None else f"{row.beside}: {_amount(beside, row)}"
    title = row.title.format(items=items, most=items * 9 // 10)
    return _cells([title, bar, told, against, ratio, "holds" if held else "**missed**"])


def _amount(figure: float, row: Row) -> str:
    name, factor = row.unit
    amount = figure * factor
    digits = 0 if abs(amount) >= 100 or amount == int(amount) else 1 if abs(amount) >= 10 else 2
    return f"{amount:,.{digits}f}{'' if name in {'', 'x', '%'} else ' '}{name}"


def _peers_table(rows: Sequence[Row], options: Options, measured: Mapping[str, Figures]) -> Iterator[str]:
    peers = [peer.name for peer, _ in _present(options)]
    yield _cells(["what", "lokki", *peers])
    yield _cells(["---"] * (2 + len(peers)))
    for row in rows:
        figures = measured[row.name]
        if any(peer in figures for peer in peers):
            amounts = [_amount(figures[name], row) if name in figures else NOTHING for name in ["lokki", *peers]]
            yield _cells([row.title.format(items=row.items, most=row.items * 9 // 10), *amounts])


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _told(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        print(line, flush=True)
        yield line


def _machine(options: Options) -> str:
    """What the figures were measured on and with."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}"
    versions = dict.fromkeys(f"{peer.package} {_version(peer, python)}" for peer, python in _present(options))
    with_what = ", ".join([f"Python {platform.python_version()}", f"lokki {version('lokki-twingraph')}", *versions])
    return f"Measured on {machine}; {with_what}; medians of {options.repeats} rounds or more."


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


def _write(lines: Sequence[str]) -> None:
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"docs/benchmarks.md has no place for the figures: it needs the lines {BEGIN} and {END}.")
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write("\n".join([before + BEGIN, "", *lines, "", END]) + after)


if __name__ == "__main__":
    main()
