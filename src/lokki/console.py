"""The `lokki` command: run flow files, look after what runs left on this machine, and look at what is deployed."""

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
    from lokki.config import LokkiConfig
    from lokki.runs import RunRecord, Runs


_OF_FILES = {
    "run": "run a flow file",
    "graph": "print a flow's steps and maps",
    "build": "compile a flow for AWS",
    "simulate": "execute what a build would deploy, on this machine",
    "deploy": "build a flow and bring it to AWS",
    "invoke": "run a deployed flow",
    "show": "show the runs of a deployed flow, or one in detail",
    "redrive": "mend a run of a deployed flow",
    "destroy": "remove a deployed flow from AWS",
}


def console(argv: Sequence[str] | None = None) -> None:
    """The `lokki` command."""
    exiting(lambda: _console_command(list(sys.argv[1:] if argv is None else argv)))


def _console_command(argv: list[str]) -> None:
    parser = Parser(
        prog="lokki", description="Run flows, look after what runs left on this machine, look at deployed flows."
    )
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
    kept = commands.add_parser("list", help="list the runs that are kept here, or the flows that are deployed")
    kept.add_argument("flow", nargs="?", help="only the runs of this flow")
    kept.add_argument("--aws", action="store_true", help="list the flows that are deployed, not runs on this machine")
    kept.add_argument("--region", metavar="REGION", help="of deployed flows; default: aws.region")
    kept.add_argument("--json", action="store_true", help="one JSON object per run or flow")
    _deployed_commands(commands, argv)
    clean = commands.add_parser("clean", help="remove kept runs")
    clean.add_argument("flow", nargs="?", help="only the runs of this flow")
    clean.add_argument("--run-id", metavar="K", help="only this run")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    commands.add_parser("config", help="print the configuration in force and where each value comes from")
    options, rest = parser.parse_known_args(argv)
    if options.command in _OF_FILES and options.file:
        flow, name = _flow_of(options.file, options.command)
        flow_command(flow, name, [options.command, *rest])
        return
    if options.command in files and {"-h", "--help"} & set(rest):
        files[options.command].print_help()
        return
    if rest:
        commands.choices.get(options.command, parser).refuse(rest)
    _keeping_command(parser, options)


def _deployed_commands(commands: Any, argv: list[str]) -> None:
    """Add what works on a deployed flow without its file."""
    runs = commands.add_parser("runs", help="list the executions of a deployed flow")
    runs.add_argument("flow", help="the flow's name")
    runs.add_argument("--limit", type=int, default=10, metavar="N", help="the newest N; default: 10")
    runs.add_argument("--stack-name", metavar="NAME", help="the flow's stack; default: FLOW-stack")
    runs.add_argument("--region", metavar="REGION", help="default: aws.region")
    runs.add_argument("--json", action="store_true", help="one JSON object per execution")
    logs = commands.add_parser("logs", help="print what a deployed flow has logged")
    logs.add_argument("flow", help="the flow's name")
    logs.add_argument("run", nargs="?", help="only this run")
    if "logs" in argv:
        from lokki.commands.logs import logs_options

        logs_options(logs)


def _keeping_command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    match options.command:
        case "list" if options.aws:
            _list_deployed(options)
        case "list":
            if options.region:
                parser.error("--region goes with --aws: runs on this machine have none")
            _list(options.flow, as_json=options.json)
        case "runs" if options.limit < 1:
            parser.error("--limit takes a number of 1 or more")
        case "runs":
            _show_runs(options)
        case "logs":
            _show_logs(options)
        case "clean":
            _clean(options.flow, options.run_id, ask=not options.yes)
        case "config":
            _show_config()
        case command if command in _OF_FILES:
            parser.error(f"which file? lokki {options.command} FILE")
        case _:
            parser.print_help(sys.stderr)
            sys.exit(1)


def _version() -> str:
    from importlib.metadata import version

    return version("lokki-twingraph")


def _flow_of(target: str, command: str) -> tuple[Flow, str]:
    """The flow in a file, named as in `flow.py` or `flow.py:birds_flow`."""
    path, _, wanted = target.partition(":")
    flows = {name: each for name, each in vars(_imported(path)).items() if isinstance(each, Flow)}
    chosen = [each for name, each in flows.items() if wanted in (name, each.name)] if wanted else list(flows.values())
    if len(chosen) != 1:
        found = f"it has {', '.join(flows)}" if flows else "it has no function with @flow"
        how = f"; name one: lokki {command} {path}:{next(iter(flows))}" if len(flows) > 1 else ""
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
        return
    rows = [(each.flow, each.run_id, each.status, _local_time(each.started), _took(each)) for each in records]
    _print_table(("FLOW", "RUN ID", "STATUS", "STARTED", "TOOK"), *rows)


def _list_deployed(options: argparse.Namespace) -> None:
    import json

    from lokki.aws.client import Aws
    from lokki.aws.flows import deployed_flows

    aws = Aws(_configuration(), options.region)
    flows = [each for each in deployed_flows(aws) if options.flow in (None, each.name)]
    if options.json:
        for each in flows:
            print(json.dumps(each.as_dict()))
        return
    if not flows:
        what = "No flow" if options.flow is None else f"No flow named {options.flow!r}"
        complain(f"{what} is deployed in {aws.region}.")
        return
    rows = [(each.name, _at(each.created), each.stack, each.arn) for each in flows]
    _print_table(("FLOW", "CREATED", "STACK", "STATE MACHINE"), *rows)


def _print_table(*rows: tuple[str, ...]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _local_time(instant: str) -> str:
    return _at(datetime.fromisoformat(instant))


def _at(when: datetime) -> str:
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"


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


def _configuration() -> LokkiConfig:
    from lokki.config import load_config

    config = load_config()
    for warning in config.warnings:
        complain(f"[WARNING] {warning}")
    return config


def _show_runs(options: argparse.Namespace) -> None:
    import json

    from lokki.aws.client import Aws
    from lokki.aws.machines import find_machine
    from lokki.aws.show import newest
    from lokki.commands.logs import DEPLOY
    from lokki.commands.show import took
    from lokki.errors import ShowError

    aws = Aws(_configuration(), options.region)
    machine = find_machine(aws, options.flow, options.stack_name, kind=ShowError, deploy=DEPLOY)
    runs = newest(aws, machine, options.limit)
    if options.json:
        for each in runs:
            print(json.dumps(each.as_dict()))
        return
    if not runs:
        complain(f"{machine.name} has not run yet.")
        return
    rows = [(each.name, each.run_id, each.status, _at(each.started), took(each.seconds)) for each in runs]
    _print_table(("RUN", "RUN ID", "STATUS", "STARTED", "TOOK"), *rows)


def _show_logs(options: argparse.Namespace) -> None:
    from lokki.commands.logs import show_logs

    show_logs(options.flow, _configuration(), options)


def _show_config() -> None:
    from lokki.config import describe

    config = _configuration()
    rows = describe(config)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")
