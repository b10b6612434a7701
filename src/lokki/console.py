"""The `lokki` command: run flow files, and look after what their runs left on this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lokki.cli import Parser, exiting, flow_command
from lokki.commands.shared import quoted
from lokki.decorators import Flow
from lokki.errors import GraphValidationError, RunError
from lokki.outcome import complain
from lokki.start import loading

if TYPE_CHECKING:
    from lokki.runs import RunRecord, Runs


_OF_FILES = {
    "run": "run a flow file",
    "graph": "print a flow's steps and maps",
    "build": "compile a flow for AWS",
    "simulate": "execute what a build would deploy, on this machine",
}


def console(argv: Sequence[str] | None = None) -> None:
    """The `lokki` command."""
    exiting(lambda: _console_command(list(sys.argv[1:] if argv is None else argv)))


def _console_command(argv: list[str]) -> None:
    parser = Parser(prog="lokki", description="Run flows and look after what their runs left on this machine.")
    parser.add_argument("--version", action="version", version=f"lokki {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    files = {}
    for name, text in _OF_FILES.items():
        each = files[name] = commands.add_parser(
            name, help=text, add_help=False, usage=f"lokki {name} FILE[:FLOW] [options]"
        )
        each.epilog = f"lokki {name} FILE --help tells the options and the parameters of the flow."
        each.add_argument(
            "file", metavar="FILE[:FLOW]", nargs="?", help="the flow file, and which flow if it has several"
        )
    kept = commands.add_parser("list", help="list the runs that are kept here")
    kept.add_argument("flow", nargs="?", help="only the runs of this flow")
    kept.add_argument("--json", action="store_true", help="one JSON object per run")
    clean = commands.add_parser("clean", help="remove kept runs")
    clean.add_argument("flow", nargs="?", help="only the runs of this flow")
    clean.add_argument("--run-id", metavar="K", help="only this run")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    commands.add_parser("config", help="print the configuration in force and where each value comes from")
    options, rest = parser.parse_known_args(argv)
    if options.command in _OF_FILES and options.file:
        flow, name = _flow_of(options.file)
        flow_command(flow, name, [options.command, *rest])
        return
    if options.command in files and {"-h", "--help"} & set(rest):
        files[options.command].print_help()
        return
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    _keeping_command(parser, options)


def _keeping_command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    match options.command:
        case "list":
            _list(options.flow, as_json=options.json)
        case "clean":
            _clean(options.flow, options.run_id, ask=not options.yes)
        case "config":
            _show_config()
        case "run" | "graph" | "build" | "simulate":
            parser.error(f"which file? lokki {options.command} FILE")
        case _:
            parser.print_help(sys.stderr)
            sys.exit(1)


def _version() -> str:
    from importlib.metadata import version

    return version("lokki-twingraph")


def _flow_of(target: str) -> tuple[Flow, str]:
    """The flow in a file, named as in `flow.py` or `flow.py:birds_flow`."""
    path, _, wanted = target.partition(":")
    flows = {name: each for name, each in vars(_imported(path)).items() if isinstance(each, Flow)}
    chosen = [each for name, each in flows.items() if wanted in (name, each.name)] if wanted else list(flows.values())
    if len(chosen) != 1:
        found = f"it has {', '.join(flows)}" if flows else "it has no function with @flow"
        how = f"; name one: lokki run {path}:{next(iter(flows))}" if len(flows) > 1 else ""
        raise GraphValidationError(
            f"There is no single flow{f' {wanted!r}' if wanted else ''} in {path}: {found}{how}."
        )
    return chosen[0], f"lokki COMMAND {quoted(target)}"


def _imported(path: str) -> Any:
    from importlib.util import module_from_spec, spec_from_file_location

    from lokki.runtime.failure import user_trace

    if not os.path.isfile(path):
        raise RunError(f"There is no file {path}.")
    name = os.path.splitext(os.path.basename(path))[0]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RunError(f"{path} is not a Python file.")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with loading(path):
            spec.loader.exec_module(module)
    except Exception as error:
        complain(user_trace(error).rstrip())
        raise RunError(f"{path} cannot be loaded.") from error
    return module


def _list(flow: str | None, *, as_json: bool) -> None:
    import json

    records = _runs().all(flow)
    if as_json:
        for record in records:
            print(json.dumps(record._asdict()))
        return
    if not records:
        complain("No runs are kept here.")
    rows = [("FLOW", "RUN ID", "STATUS", "STARTED", "TOOK")] if records else []
    rows += [(each.flow, each.run_id, each.status, _local_time(each.started), _took(each)) for each in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _local_time(instant: str) -> str:
    return f"{datetime.fromisoformat(instant).astimezone():%Y-%m-%d %H:%M:%S}"


def _took(record: RunRecord) -> str:
    if not record.finished:
        return ""
    seconds = (datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)).total_seconds()
    return f"{seconds:.3f}s" if seconds < 60 else f"{timedelta(seconds=round(seconds))}"


def _clean(flow: str | None, run_id: str | None, *, ask: bool) -> None:
    runs = _runs()
    chosen = [record for record in runs.all(flow) if run_id in (None, record.run_id)]
    if not chosen:
        complain("There is nothing to remove.")
        return
    if ask and not sys.stdin.isatty():
        raise RunError(
            f"{len(chosen)} run(s) and what they kept would be removed: say --yes where nobody can be asked."
        )
    if ask and input(f"Remove {len(chosen)} run(s) and what they kept? (y/N) ").lower() != "y":
        complain("Nothing was removed.")
        return
    gone = runs.clean(flow, run_id)
    complain(f"Removed {len(gone)} run(s)." + (" Those that are running stay." if len(gone) < len(chosen) else ""))


def _runs() -> Runs:
    from lokki.config import load_config
    from lokki.runs import Runs

    return Runs(load_config().local.state_dir)


def _show_config() -> None:
    from lokki.config import describe, load_config

    config = load_config()
    for warning in config.warnings:
        complain(f"[WARNING] {warning}")
    rows = describe(config)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
