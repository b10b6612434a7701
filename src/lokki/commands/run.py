"""`run`: the flow on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lokki.commands.shared import Command, configuration, given, logging_options, made, option, quoted
from lokki.decorators import Flow
from lokki.errors import LokkiError, RunError
from lokki.events import Listener
from lokki.outcome import INTERRUPTED, Watch, complain, explain, kept, print_result

if TYPE_CHECKING:
    from lokki.config import LokkiConfig


def _run_options(parser: argparse.ArgumentParser, flow: Flow) -> None:
    option(parser, flow, "--run-id", metavar="K", help="keep the run under this name, and go on with it if it is there")
    option(
        parser, flow, "--resume", action="store_true", help="go on with the last run (or --run-id), with its parameters"
    )
    executors = ("threads", "processes", "inline")
    option(parser, flow, "--executor", choices=executors, help="where items run; processes for CPU-bound steps")
    option(parser, flow, "--workers", type=int, metavar="N", help="how many items run at once")
    logging_options(parser, flow, default=argparse.SUPPRESS)


def _run(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    from lokki.runner import LocalRunner

    config = configuration(flow, options)
    run_id, params = _which_run(flow, config, options, given(flow, rest, options))
    graph = made(flow, params)
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
        sys.exit(143 if error.args == ("SIGTERM",) else INTERRUPTED)
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


def _again(spelling: str, options: argparse.Namespace) -> str:
    """The command that goes on with this run in the same way."""
    named = {"--run-id": options.run_id, "--executor": getattr(options, "executor", None)}
    flags = [f" {flag} {quoted(value)}" for flag, value in named.items() if value]
    return f"{spelling.replace('COMMAND', 'run')} --resume{''.join(flags)}"


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


def _log(config: LokkiConfig, flow: Flow) -> Listener:
    from lokki.logging import listener

    return listener(config.logging, flow=flow.name)


COMMAND = Command(
    "run the flow on this machine and print its result",
    "The result is printed on stdout, the log on stderr. What is finished is kept under .lokki/,\n"
    "so a run that failed or was stopped goes on where it was.",
    ("", "--resume", "--run-id nightly --executor processes", "--log-format json --log-level WARNING"),
    _run_options,
    _run,
)
