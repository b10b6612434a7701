"""The command line of a flow file: `python flow.py COMMAND`, through `main(flow)`.

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 an error that has been explained, 130
interrupted. (`lokki.console` is the `lokki` command; only these two rooms print and exit.)
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from lokki.decorators import Flow
from lokki.errors import GraphTypeError, LokkiError, ParameterError, RunError, nearest
from lokki.events import Listener
from lokki.frozen import replace
from lokki.outcome import Watch, complain, explain, kept, print_result
from lokki.params import parse_flags, usage

if TYPE_CHECKING:
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph

_INTERRUPTED = 130
_OPTIONS = ("--run-id", "--resume", "--executor", "--workers", "--log-format", "--log-level", "--format", "--help")


class Parser(argparse.ArgumentParser):
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
    if _loading or flow_fn.fn.__module__ in ("__mp_main__", "__lokki_main__"):
        return  # the file is only imported, by `lokki run` or by a worker process, and nothing guards this call
    exiting(lambda: flow_command(flow_fn, f"{_started_as()} COMMAND", list(sys.argv[1:] if argv is None else argv)))


def _started_as() -> str:
    """How this process was started, to be typed again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {quoted(sys.argv[0] or 'flow.py')}"


_loading: list[str] = []


@contextmanager
def loading(path: str) -> Iterator[None]:
    """While a flow file is imported, its own `main()` does nothing."""
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()


def exiting(command: Callable[[], None]) -> None:
    """Carry out a command; errors become one line on stderr and the exit code."""
    try:
        command()
        sys.stdout.flush()
    except LokkiError as error:
        complain(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        complain("Interrupted.")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def flow_command(flow: Flow, spelling: str, argv: list[str]) -> None:
    """Carry out what a flow file was asked to do; `spelling` is how a COMMAND of it is typed."""
    named = next((each for each in argv if each in _FLOW_COMMANDS), None)
    parser = Parser(
        prog=spelling.partition(" COMMAND")[0],
        description=_first_line(flow) or f"The flow {flow.name}.",
        epilog=f"{spelling} --help explains a command.",
        allow_abbrev=False,
    )
    _logging_options(parser, flow, default=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="")
    for name, command in _FLOW_COMMANDS.items():
        if named in (None, name):  # the options of the others are not needed
            typed = spelling.replace("COMMAND", name)
            command.options(
                commands.add_parser(name, prog=typed, allow_abbrev=False, **_help(command, flow, typed)), flow
            )
    options, rest = parser.parse_known_args(argv)
    if options.command is None:
        parser.print_help(sys.stderr)
        sys.exit(1)
    _FLOW_COMMANDS[options.command].run(flow, spelling, options, rest)


def _help(command: _Command, flow: Flow, typed: str) -> dict[str, Any]:
    rows = usage(flow.parameters)
    width = max((len(f"{flag} {kind}") for flag, kind, _, _ in rows), default=0) + 4
    lines = [
        f"  {flag} {kind}".ljust(width) + ("required" if needed else f"default: {default}")
        for flag, kind, default, needed in rows
    ]
    must = "".join(f"{flag} ... " for flag, _, _, needed in rows if needed)
    flags = (f"{flag} ..." if needed else f"[{flag} ...]" for flag, _, _, needed in rows)
    return {
        "help": command.short,
        "description": f"{command.short[0].upper()}{command.short[1:]}.\n\n{command.text}",
        "epilog": "\n".join(
            [
                *(["flow parameters:", *lines] if lines else ["The flow has no parameters."]),
                "",
                "examples:",
                *(f"  {typed} {'' if 'resume' in example else must}{example}".rstrip() for example in command.examples),
            ]
        ),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "add_help": "--help" not in (row[0] for row in rows),
        "usage": " ".join(["%(prog)s [options]", *flags]),
    }


def _run_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    _option(
        parser, flow, "--run-id", metavar="K", help="keep the run under this name, and go on with it if it is there"
    )
    _option(
        parser, flow, "--resume", action="store_true", help="go on with the last run (or --run-id), with its parameters"
    )
    executors = ("threads", "processes", "inline")
    _option(parser, flow, "--executor", choices=executors, help="where items run; processes for CPU-bound steps")
    _option(parser, flow, "--workers", type=int, metavar="N", help="how many items run at once")
    _logging_options(parser, flow, default=argparse.SUPPRESS)


def _logging_options(parser: argparse.ArgumentParser, flow: Flow, default: Any) -> None:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    _option(parser, flow, "--log-format", choices=("human", "json"), default=default, help="how the log is written")
    _option(parser, flow, "--log-level", type=str.upper, choices=levels, default=default, help="the least to log")


def _option(parser: argparse.ArgumentParser, flow: Flow, flag: str, **settings: Any) -> None:
    """Add an option, unless the flow has a parameter of that name, which takes its place."""
    if flag not in {parameter.flag for parameter in flow.parameters}:
        parser.add_argument(flag, **settings)


def _run(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.runner import LocalRunner

    config = _configuration(flow, options)
    run_id, params = _which_run(flow, config, options, _given(flow, rest))
    graph = _made(flow, params)
    watch = Watch(_log(config, flow), config.logging.format == "json")
    runner = LocalRunner(
        config=config,
        executor=getattr(options, "executor", None),
        workers=getattr(options, "workers", None),
        listen=watch,
    )
    again = None if run_id is None else _again(spelling, options)
    try:
        with _ends_on_sigterm():
            result = runner.run(graph, run_id=run_id)
    except LokkiError as error:
        if watch.failure is None and not watch.started:
            raise
        explain(error, watch, again)
    except KeyboardInterrupt as error:
        _hear_no_more_interrupts()
        complain("" if watch.json else "\nInterrupted." + kept(watch, again))
        sys.exit(143 if error.args == ("SIGTERM",) else _INTERRUPTED)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: the step's own exception, explained
        explain(error, watch, again)
    print_result(result)


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Whoever stops the process politely gets what Ctrl-C gives: what is finished is kept."""
    import signal

    process = os.getpid()

    def stop(*_: Any) -> None:
        if os.getpid() != process:  # a child of this process has the handler too, until it sets its own
            os._exit(143)
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _hear_no_more_interrupts() -> None:
    """What is left is to say how the run can go on; another Ctrl-C must not cut that off."""
    import signal

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _given(flow: Flow, rest: list[str]) -> dict[str, object]:
    """The flow parameters on the command line; a mistyped option of the command is recognised."""
    try:
        return parse_flags(flow.parameters, rest)
    except ParameterError as error:
        hint = nearest(f"--{error.parameter.replace('_', '-')}", _OPTIONS)
        if "Unexpected parameter" in str(error) and "did you mean" not in str(error) and hint:
            raise ParameterError(str(error).partition(";")[0] + hint, error.parameter) from None
        raise


def _again(spelling: str, options: argparse.Namespace) -> str:
    """The command that goes on with this run in the same way."""
    named = {"--run-id": options.run_id, "--executor": getattr(options, "executor", None)}
    flags = [f" {flag} {quoted(value)}" for flag, value in named.items() if value]
    return f"{spelling.replace('COMMAND', 'run')} --resume{''.join(flags)}"


def quoted(text: str) -> str:
    """The text as a shell takes it for one word."""
    import shlex

    return shlex.quote(text)


def _configuration(flow: Flow, options: argparse.Namespace) -> LokkiConfig:
    from lokki.config import load_config

    config = load_config(flow.fn.__code__.co_filename)
    for warning in config.warnings:
        complain(f"[WARNING] {warning}")
    logging = replace(
        config.logging,
        level=getattr(options, "log_level", None) or config.logging.level,
        format=getattr(options, "log_format", None) or config.logging.format,
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
                'local.store_type is "memory", which keeps nothing: set it to "local" (LOKKI_STORE_TYPE=local).'
            )
        return None, given
    from lokki.runs import Runs, new_id

    if not resume:
        return new_id() if options.run_id is None else options.run_id, given
    runs = Runs(config.local.state_dir)
    run_id = runs.last(flow.name) if options.run_id is None else options.run_id
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
    except Exception as error:
        complain(user_trace(error).rstrip())
        raise RunError(f"The flow function {flow.fn.__name__!r} failed before any step ran.") from error


def _log(config: LokkiConfig, flow: Flow) -> Listener:
    from lokki.logging import listener

    return listener(config.logging, flow=flow.name)


def _graph_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    _option(parser, flow, "--format", choices=("tree", "mermaid", "json", "svg"), default="tree", help="default: tree")


def _graph(flow: Flow, _spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    import json

    from lokki.drawing import svg, tree

    graph = _made(flow, _given(flow, rest))
    match getattr(options, "format", "tree"):
        case "mermaid":
            text = graph.to_mermaid()
        case "json":
            text = json.dumps(graph.to_dict(), indent=2)
        case "svg":
            text = svg(graph)
        case _:
            text = tree(graph)
    print(text.rstrip("\n"))


class _Command(NamedTuple):
    short: str
    text: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser, Flow], None]
    run: Callable[[Flow, str, argparse.Namespace, list[str]], None]


_FLOW_COMMANDS = {
    "run": _Command(
        "run the flow on this machine and print its result",
        "The result is printed on stdout, the log on stderr. What is finished is kept under .lokki/,\n"
        "so a run that failed or was stopped goes on where it was.",
        ("", "--resume", "--run-id nightly --executor processes", "--log-format json --log-level WARNING"),
        _run_options,
        _run,
    ),
    "graph": _Command(
        "print the flow's steps and maps",
        "Nothing is run: only the flow function is called.",
        ("", "--format mermaid", "--format svg > flow.svg"),
        _graph_options,
        _graph,
    ),
}


def _first_line(flow: Flow) -> str:
    return (flow.fn.__doc__ or "").strip().partition("\n")[0]
