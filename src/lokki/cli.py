"""The command line: `python flow.py COMMAND` through `main(flow)`, and the `lokki` command.

The only room that prints results and exits. Results go to stdout, everything else to stderr. Exit codes: 0 success,
1 an error that has been explained, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from lokki.decorators import Flow
from lokki.errors import GraphTypeError, GraphValidationError, LokkiError, RunError
from lokki.events import Event, Listener, MapFinished, StepFailed
from lokki.params import parse_flags, usage

if TYPE_CHECKING:
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Unknown commands and options exit with 1, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"error: {message}\nSee {self.prog} --help.\n")


def main(flow_fn: Flow, argv: Sequence[str] | None = None) -> None:
    """The command line of a flow file.

    Put it at the end of the file: `if __name__ == "__main__": main(my_flow)`.

    Args:
        flow_fn: the flow, a function with @flow.
        argv: the arguments; by default those of the process.
    """
    if not isinstance(flow_fn, Flow):
        raise GraphTypeError(f"main() takes a flow, not {flow_fn!r:.60}. Is its @flow missing?")
    script = sys.argv[0] or "flow.py"
    _exit(lambda: _flow_command(flow_fn, f"python {script}", list(sys.argv[1:] if argv is None else argv)))


def console(argv: Sequence[str] | None = None) -> None:
    """The `lokki` command."""
    _exit(lambda: _console_command(list(sys.argv[1:] if argv is None else argv)))


def _exit(command: Callable[[], None]) -> None:
    try:
        command()
        sys.stdout.flush()
    except LokkiError as error:
        _complain(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("Interrupted.")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)


def _flow_command(flow: Flow, prog: str, argv: list[str]) -> None:
    parser = _Parser(
        prog=prog,
        description=_first_line(flow) or f"The flow {flow.name}.",
        epilog=f"{prog} COMMAND --help explains a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    run = commands.add_parser("run", **_help("run the flow on this machine and print its result", flow, _RUN_TEXT))
    _run_options(run, flow)
    graph = commands.add_parser("graph", **_help("print the flow's steps and maps", flow, _GRAPH_TEXT))
    graph.add_argument("--format", choices=("tree", "mermaid", "json", "svg"), default="tree", help="default: tree")
    for each in (parser, run, graph):
        each.allow_abbrev = False
    _add_logging(parser, default=None)
    options, rest = parser.parse_known_args(argv)
    match options.command:
        case "run":
            _run(flow, prog, options, rest)
        case "graph":
            _graph(flow, options.format, rest)
        case _:
            parser.print_help(sys.stderr)
            sys.exit(1)


_RUN_TEXT = (
    "What is finished is kept under .lokki/, so that a run which failed or was stopped goes on where it was: "
    "run --resume. The result is printed on stdout, the log on stderr."
)
_GRAPH_TEXT = "Nothing is run: only the flow function is called."


def _help(short: str, flow: Flow, text: str) -> dict[str, Any]:
    rows = usage(flow.parameters)
    lines = [f"  {flag} {kind}".ljust(28) + ("  required" if required else f"  default: {default}") for flag, kind, default, required in rows]
    return {
        "help": short,
        "description": f"{short[0].upper()}{short[1:]}. {text}",
        "epilog": "\n".join(["flow parameters:", *lines] if lines else ["The flow has no parameters."]),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "usage": "%(prog)s [options]" + "".join(f" {row[0]} ..." if row[3] else f" [{row[0]} ...]" for row in rows),
    }


def _run_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    """The options of `run`; a flow parameter of the same name takes an option's place."""
    taken = {parameter.name for parameter in flow.parameters}
    parser.add_argument("--run-id", metavar="K", help="keep the run under this name, and go on with it when it is there")
    if "resume" not in taken:
        parser.add_argument(
            "--resume", action="store_true", help="go on with the last run (or --run-id), with its parameters"
        )
    if "executor" not in taken:
        parser.add_argument(
            "--executor", choices=("threads", "processes", "inline"), help="where items run; processes for CPU-bound steps"
        )
    if "workers" not in taken:
        parser.add_argument("--workers", type=int, metavar="N", help="how many items run at once")
    _add_logging(parser, default=argparse.SUPPRESS)


def _add_logging(parser: argparse.ArgumentParser, default: Any) -> None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    parser.add_argument("--log-format", choices=("human", "json"), default=default, help="how the log is written")
    parser.add_argument("--log-level", type=str.upper, choices=levels, default=default, help="the least that is logged")


def _run(flow: Flow, prog: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.runner import LocalRunner

    config = _configuration(flow, options)
    run_id, params = _which_run(flow, config, options, parse_flags(flow.parameters, rest))
    graph = _made(flow, params)
    watch = _Watch(_log(config, flow))
    runner = LocalRunner(
        config=config,
        executor=getattr(options, "executor", None),
        workers=getattr(options, "workers", None),
        listen=watch,
    )
    again = None if run_id is None else f"{prog} run --resume" + (f" --run-id {run_id}" if options.run_id else "")
    try:
        result = runner.run(graph, run_id=run_id)
    except LokkiError as error:
        if watch.failure is None:
            raise
        _explain(error, watch, again)
    except KeyboardInterrupt:
        _complain("\nInterrupted." + _kept(watch, again))
        sys.exit(_INTERRUPTED)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: the step's own exception, explained
        _explain(error, watch, again)
    print(result)


def _configuration(flow: Flow, options: argparse.Namespace) -> LokkiConfig:
    from lokki.config import load_config

    config = load_config(flow.fn.__code__.co_filename)
    for warning in config.warnings:
        _complain(f"[WARNING] {warning}")
    logging = replace(
        config.logging,
        level=options.log_level or config.logging.level,
        format=options.log_format or config.logging.format,
    )
    return replace(config, logging=logging)


def _which_run(
    flow: Flow, config: LokkiConfig, options: argparse.Namespace, given: Mapping[str, Any]
) -> tuple[str | None, Mapping[str, Any]]:
    """The id to keep the run under, and its parameters."""
    resume = getattr(options, "resume", False)
    if config.local.store_type == "memory":
        if resume or options.run_id:
            raise RunError(
                'local.store_type is "memory", which keeps nothing to resume. Set it to "local" (LOKKI_STORE_TYPE=local).'
            )
        return None, given
    from lokki.runs import Runs, new_id

    if not resume:
        return options.run_id or new_id(), given
    runs = Runs(config.local.state_dir)
    run_id = options.run_id or runs.last(flow.name)
    known = {parameter.name for parameter in flow.parameters}
    kept = {name: value for name, value in runs.params(flow.name, run_id).items() if name in known}
    return run_id, {**kept, **given}


def _made(flow: Flow, params: Mapping[str, Any]) -> FlowGraph:
    """The graph; an exception of the flow function itself is shown as the user's."""
    from lokki.runtime.failure import user_trace

    try:
        return flow(**params)
    except LokkiError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: the flow function is the user's code
        _complain(user_trace(error).rstrip())
        raise RunError(f"The flow function {flow.fn.__name__!r} failed before any step ran.") from error


class _Watch:
    """The listener of a run from the command line: it also remembers what the last words need."""

    def __init__(self, log: Listener) -> None:
        self._log = log
        self.failure: StepFailed | None = None
        self.map: MapFinished | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepFailed):
            self.failure = self.failure or event
        elif isinstance(event, MapFinished):
            self.map = event
        self._log(event)


def _log(config: LokkiConfig, flow: Flow) -> Listener:
    from lokki.logging import listener

    return listener(config.logging, flow=flow.name)


def _explain(error: BaseException, watch: _Watch, again: str | None) -> NoReturn:
    """A step's failure: the user's traceback, then where it was and how to go on."""
    failure = watch.failure
    if failure is None:
        from lokki.runtime.failure import user_trace

        _complain(user_trace(error).rstrip())
    else:
        where = f" on item {'.'.join(map(str, failure.index))}: {failure.item}" if failure.index else ""
        _complain(f"\n{failure.trace.rstrip()}\n\nStep {failure.node!r} failed{where}.")
    if again is not None:
        _complain(_kept(watch, again).strip())
    sys.exit(1)


def _kept(watch: _Watch, again: str | None) -> str:
    if again is None:
        return ""
    done = ""
    if watch.map is not None and watch.map.done < watch.map.total:
        done = f" ({watch.map.done:,} of {watch.map.total:,} items of {watch.map.step})"
    return f" What is finished{done} is kept. Go on with: {again}"


def _graph(flow: Flow, form: str, rest: list[str]) -> None:
    import json

    from lokki.drawing import svg, tree

    graph = _made(flow, parse_flags(flow.parameters, rest))
    match form:
        case "mermaid":
            text = graph.to_mermaid()
        case "json":
            text = json.dumps(graph.to_dict(), indent=2)
        case "svg":
            text = svg(graph)
        case _:
            text = tree(graph)
    print(text.rstrip("\n"))


def _console_command(argv: list[str]) -> None:
    parser = _Parser(prog="lokki", description="Run flows and look after what their runs left on this machine.")
    parser.add_argument("--version", action="version", version=f"lokki {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, text in (("run", "run a flow file"), ("graph", "print a flow's steps and maps")):
        each = commands.add_parser(name, help=text, add_help=False, usage=f"lokki {name} FILE[:FLOW] [options]")
        each.add_argument("file", metavar="FILE[:FLOW]", nargs="?", help="the flow file, and which flow if it has several")
    kept = commands.add_parser("list", help="list the runs that are kept here")
    kept.add_argument("flow", nargs="?", help="only the runs of this flow")
    kept.add_argument("--json", action="store_true", help="one JSON object per run")
    clean = commands.add_parser("clean", help="remove kept runs")
    clean.add_argument("flow", nargs="?", help="only the runs of this flow")
    clean.add_argument("--run-id", metavar="K", help="only this run")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    commands.add_parser("config", help="print the configuration in force and where each value comes from")
    options, rest = parser.parse_known_args(argv)
    if options.command in ("run", "graph") and options.file:
        flow, name = _flow_of(options.file)
        _flow_command(flow, name, [options.command, *rest])
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
        case "run" | "graph":
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
        raise GraphValidationError(f"There is no single flow{f' {wanted!r}' if wanted else ''} in {path}: {found}{how}.")
    return chosen[0], f"lokki run {target}"


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
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - the boundary: importing runs the user's file
        _complain(user_trace(error).rstrip())
        raise RunError(f"{path} cannot be loaded.") from error
    return module


def _list(flow: str | None, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    records = _runs().list(flow)
    if as_json:
        for record in records:
            print(json.dumps(asdict(record)))
        return
    if not records:
        _complain("No runs are kept here.")
    rows = [("FLOW", "RUN ID", "STATUS", "STARTED")] if records else []
    rows += [(each.flow, each.run_id, each.status, each.started[:19].replace("T", " ")) for each in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _clean(flow: str | None, run_id: str | None, *, ask: bool) -> None:
    runs = _runs()
    chosen = [record for record in runs.list(flow) if run_id in (None, record.run_id)]
    if not chosen:
        _complain("There is nothing to remove.")
        return
    if ask and sys.stdin.isatty() and input(f"Remove {len(chosen)} run(s) and what they kept? (y/N) ").lower() != "y":
        _complain("Nothing was removed.")
        return
    gone = runs.clean(flow, run_id)
    _complain(f"Removed {len(gone)} run(s)." + (" Those that are running stay." if len(gone) < len(chosen) else ""))


def _runs() -> Any:
    from lokki.config import load_config
    from lokki.runs import Runs

    return Runs(load_config().local.state_dir)


def _show_config() -> None:
    from lokki.config import describe, load_config

    config = load_config()
    for warning in config.warnings:
        _complain(f"[WARNING] {warning}")
    rows = describe(config)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")


def _first_line(flow: Flow) -> str:
    return (flow.fn.__doc__ or "").strip().partition("\n")[0]
