"""`twingraph run`: a pipeline, workflow or flow of a file, here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lokki.cli import Parser
from lokki.errors import LokkiError
from lokki.outcome import complain
from twingraph.commands.shared import Command, print_json
from twingraph.errors import ComponentError
from twingraph.events import Event, Listener, NodeFailed, NodeLogged, NodeStarted, as_lokki

if TYPE_CHECKING:
    from twingraph.loading import Loaded, Runnable
    from twingraph.runs import Execution

_INTERRUPTED = 130


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a Python file with pipelines, workflows or flows")
    _own_options(parser)
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="options, and parameters: --name value")


def _own_options(parser: argparse.ArgumentParser) -> None:
    """Add our own options, which may stand before the file and among the parameters."""
    parser.add_argument("--pipeline", metavar="NAME", help="which one, where the file has several")
    parser.add_argument("--id", metavar="ID", help="what the execution is known by; default: a new id")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="log nothing")


def _run(options: argparse.Namespace) -> None:
    told, flags = _told(options)
    runnable = _loaded(options.file).find(told.pipeline)
    if told.help:
        _explain(options.file, runnable)
        return
    inputs = _inputs(runnable, flags)
    watch = _Watch(quiet=told.quiet)
    try:
        execution = _executed(runnable, inputs, watch, told.id)
    except KeyboardInterrupt:
        print(f"Interrupted. {_more(watch.run)}", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    if execution.error is not None:
        _end(execution.error, watch)
    if told.json:
        print_json({"execution": execution.id, "status": execution.status, "outputs": _plain(execution.outputs)})
    else:
        print(_value(execution.outputs))
    if execution.failed_nodes:
        count = f"{execution.failed_nodes} call{'s' if execution.failed_nodes > 1 else ''} failed"
        print(f"{count}, and the pipeline went on. {_more(execution.id)}", file=sys.stderr)


def _loaded(path: str) -> Loaded:
    from lokki.runtime.failure import user_trace
    from twingraph.loading import load

    try:
        return load(path)
    except LokkiError:
        raise
    except Exception as error:
        complain(user_trace(error).rstrip())
        raise ComponentError(f"{path} cannot be loaded.") from error


def _told(options: argparse.Namespace) -> tuple[argparse.Namespace, list[str]]:
    """Our own options, also those among what follows the file; the rest are parameters."""
    parser = Parser(prog="twingraph run FILE", add_help=False, allow_abbrev=False)
    _own_options(parser)
    parser.add_argument("--help", action="store_true")
    return parser.parse_known_args([each for each in options.rest if each != "--"], options)


def _executed(runnable: Runnable, inputs: Mapping[str, Any], watch: Listener, named: str | None) -> Execution:
    from twingraph.pipelines import Pipeline

    if isinstance(runnable, Pipeline):
        return runnable.run(listen=watch, execution_id=named, **inputs)
    return runnable.run(inputs, listen=watch, execution_id=named)


def _inputs(runnable: Runnable, flags: Sequence[str]) -> dict[str, Any]:
    """The parameters on the command line: of a pipeline typed by its signature, of a workflow by their looks."""
    from lokki.params import bind, describe, parse_flags
    from twingraph.pipelines import Pipeline

    if not isinstance(runnable, Pipeline):
        return _loose(flags)
    parameters = describe(runnable.fn)
    given = bind(parameters, parse_flags(parameters, flags), flow=runnable.name)
    return {name: value for name, value in given.items() if name in {each.name for each in parameters}}


def _loose(flags: Sequence[str]) -> dict[str, Any]:
    import json

    inputs: dict[str, Any] = {}
    words = list(flags)
    while words:
        flag, equals, text = words.pop(0).partition("=")
        if not flag.startswith("--"):
            raise ComponentError(f"{flag!r} is no parameter: write --name value.")
        if not equals:
            text = words.pop(0) if words and not words[0].startswith("--") else "true"
        try:
            inputs[flag[2:].replace("-", "_")] = json.loads(text)
        except ValueError:
            inputs[flag[2:].replace("-", "_")] = text
    return inputs


def _explain(file: str, runnable: Runnable) -> None:
    """What a pipeline takes."""
    from lokki.params import describe, usage
    from twingraph.pipelines import Pipeline

    print(f"usage: twingraph run {file} --pipeline {runnable.name} [parameters]\n")
    if not isinstance(runnable, Pipeline):
        nodes = ", ".join(each.id for each in runnable.nodes)
        print(f"Its nodes are {nodes}. A parameter is one of theirs, --name value, or of one node: --node.name value.")
        return
    if runnable.fn.__doc__:
        print(f"{runnable.fn.__doc__.strip()}\n")
    print("parameters:")
    for flag, kind, about, _ in usage(describe(runnable.fn)):
        print(f"  {flag:<24} {kind:<12} {about}".rstrip())


class _Watch:
    """The listener of the command: the log, lines of components elsewhere, and the first failure."""

    def __init__(self, *, quiet: bool) -> None:
        self.run = ""
        self.failed: list[NodeFailed] = []
        self._elsewhere: dict[str, bool] = {}
        self._log: Listener | None = None if quiet else _log()

    def __call__(self, event: Event) -> None:
        self.run = event.run
        if isinstance(event, NodeStarted):
            self._elsewhere[event.node] = event.platform != "local"
        elif isinstance(event, NodeLogged) and self._elsewhere.get(event.node):
            print(f"{event.node} | {event.message}", file=sys.stderr)
        elif isinstance(event, NodeFailed) and event.status == "failed":
            self.failed.append(event)
        if self._log is not None:
            self._log(event)


def _log() -> Listener:
    from lokki.config import load_config
    from lokki.logging import listener

    return as_lokki(listener(load_config().logging))


def _end(error: BaseException, watch: _Watch) -> None:
    from lokki.runtime.failure import summary, user_trace

    failed = next((each for each in watch.failed if each.error == summary(error)), None)
    trace = failed.trace if failed else "" if isinstance(error, LokkiError) else user_trace(error)
    if trace:
        print(f"\n{trace.rstrip()}\n", file=sys.stderr)
    what = f"{type(error).__name__}: {error}" if not isinstance(error, LokkiError) else str(error)
    where = f"Component {failed.node!r} failed: " if failed else "The body of the pipeline failed: " if trace else ""
    print(f"{where}{what}\n{_more(watch.run)}", file=sys.stderr)
    sys.exit(1)


def _more(run: str) -> str:
    return f"See twingraph show {run}" if run else ""


def _value(made: Any) -> Any:
    from twingraph.results import Result

    return made.value if isinstance(made, Result) and made.error is None else made


def _plain(value: Any) -> Any:
    from lokki.jsonable import plain

    value = _value(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return plain(value, repr)


COMMAND = Command(
    "Imports the file and runs its pipeline, workflow or flow on this machine. Parameters are flags, as\n"
    "--source data.csv; twingraph run FILE --help tells them. The result is printed last, on stdout.",
    ("report.py", "report.py --pipeline nightly --source data.csv", "report.py --json --quiet"),
    _options,
    _run,
)
