"""`logs`: what the functions and jobs of a deployed flow have said, in the order of time."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lokki.commands.invoke import Commands
from lokki.commands.log_text import JsonText, LogText
from lokki.commands.shared import Command, configuration, logging_options
from lokki.decorators import Flow
from lokki.errors import LogsError, ParameterError
from lokki.outcome import INTERRUPTED, complain

if TYPE_CHECKING:
    from lokki.aws.client import Aws
    from lokki.aws.executions import Execution
    from lokki.aws.log_sources import Source
    from lokki.aws.logs import Line
    from lokki.aws.machines import Machine
    from lokki.config import LokkiConfig

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_USUAL = timedelta(hours=1)
_EARLY = timedelta(seconds=5)  # clocks differ
_AFTER = timedelta(minutes=1)  # reports and the last words of jobs come after the end
DEPLOY = "python FILE deploy (lokki list --aws tells which flows are)"
"""How a flow is deployed, for whoever has only its name."""


def logs_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `logs`, all but the run."""
    parser.add_argument("--start", metavar="TIME", help="from when on, as in 2026-05-01T14:30, 30m or 2h")
    parser.add_argument("--end", metavar="TIME", help="until when, likewise; default: now")
    parser.add_argument("--tail", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--step", metavar="STEP", help="only what this step says")
    parser.add_argument("--stack-name", metavar="NAME", help="the flow's stack; default: FLOW-stack")
    parser.add_argument("--region", metavar="REGION", help="default: aws.region")
    parser.add_argument("--json", action="store_true", help="one JSON object per line; lokki's own lines as they are")


def show_logs(flow: str, config: LokkiConfig, options: argparse.Namespace, deploy: str = DEPLOY) -> None:
    """Print the log of a deployed flow.

    Args:
        flow: its name.
        config: for endpoint and region.
        options: those of `logs_options`, and `run`.
        deploy: the command that deploys the flow.
    """
    from lokki.aws.client import Aws
    from lokki.aws.log_sources import log_sources
    from lokki.aws.machines import find_machine

    start, end = window = _window(options, datetime.now(UTC))
    aws = Aws(config, options.region)
    machine = find_machine(aws, flow, options.stack_name, kind=LogsError, deploy=deploy)
    sources = log_sources(aws, machine, options.step)
    run = _run(aws, machine, options) if options.run else None
    if run is not None:
        start, end = _of_execution(aws, machine, run, options, window)
    run_id = run.run_id if run is not None else options.run
    text = JsonText() if options.json else LogText(coloured=_coloured())
    if options.tail:
        _follow(aws, sources, start, run_id, text)
    else:
        _read(aws, sources, (start, end), run_id, text)


def _run(aws: Aws, machine: Machine, options: argparse.Namespace) -> Execution | None:
    """The execution that is meant; AWS forgets it after a while, and then the times must be given."""
    from lokki.aws.executions import find_execution

    try:
        return find_execution(aws, machine, options.run, LogsError)
    except LogsError:
        if options.start:
            return None
        raise


def _of_execution(
    aws: Aws, machine: Machine, run: Execution, options: argparse.Namespace, given: tuple[datetime, datetime]
) -> tuple[datetime, datetime]:
    """The times in which an execution logs, where no others are given: not those of its neighbours of that run id."""
    from lokki.aws.executions import beside

    before, after = beside(aws, machine, run, _AFTER, LogsError)
    start, end = run.started - _EARLY, given[1]
    if before is not None:
        start = max(start, run.started - (run.started - before) / 2)
    if run.stopped is not None:
        end = min(end, run.stopped + _AFTER)
        end = end if after is None else min(end, run.stopped + (after - run.stopped) / 2)
    start, end = given[0] if options.start else start, given[1] if options.end else end
    return start, max(start, end)


def _read(
    aws: Aws,
    sources: tuple[Source, ...],
    window: tuple[datetime, datetime],
    run: str | None,
    text: Callable[[Line], str],
) -> None:
    from lokki.aws.log_repeats import ToldOnce
    from lokki.aws.log_runs import OfRun
    from lokki.aws.logs import read

    lines: Iterator[Line] = read(aws, sources, _milliseconds(window[0]), _milliseconds(window[1]), _say)
    of_run = OfRun(run) if run else None
    count = _print(ToldOnce().kept(of_run.picked(lines) if of_run else lines), text)
    if not count:
        whose = f"of run {run!r} " if run else ""
        complain(f"Nothing {whose}was logged between {_told(window[0])} and {_told(window[1])}.")
    if of_run and of_run.unclaimed:
        complain(
            f"{of_run.unclaimed} of these lines are from calls that did not get so far as to say which run they were "
            "for; they may be another one's."
        )


def _follow(
    aws: Aws, sources: tuple[Source, ...], start: datetime, run: str | None, text: Callable[[Line], str]
) -> None:
    import time

    from lokki.aws.log_repeats import ToldOnce
    from lokki.aws.log_runs import OfRun
    from lokki.aws.logs import follow

    of_run, once = OfRun(run) if run else None, ToldOnce()
    try:
        for lines in follow(aws, sources, _milliseconds(start), _say, time.sleep):
            _print(once.kept(of_run.known(lines) if of_run else lines), text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if of_run:
            _print(once.kept(of_run.rest()), text)
        sys.stdout.flush()
        sys.exit(INTERRUPTED)


def _print(lines: Iterable[Line], text: Callable[[Line], str]) -> int:
    count = 0
    for line in lines:
        _write(text(line))
        count += 1
    return count


def _write(text: str) -> None:
    try:
        print(text)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode())


def _say(text: str) -> None:
    sys.stdout.flush()
    complain(text)


def _coloured() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _window(options: argparse.Namespace, now: datetime) -> tuple[datetime, datetime]:
    """From when to when; all times know their zone."""
    if options.tail and options.end:
        raise LogsError("--tail goes on until Ctrl-C: leave out --end.")
    end = moment(options.end, "--end", now) if options.end else now
    start = moment(options.start, "--start", now) if options.start else end - _USUAL
    if start > end and not options.tail:
        raise LogsError(f"--start ({_told(start)}) lies after {'--end' if options.end else 'now'} ({_told(end)}).")
    return start, end


def moment(text: str, option: str, now: datetime) -> datetime:
    """A time as people give it: ISO 8601, local unless it names its zone, or how long ago, as in `90m` or `1h30m`.

    Args:
        text: what was given.
        option: which option it was given for.
        now: what "ago" counts from.
    """
    try:
        ago = _ago(text)
        return now - ago if ago is not None else datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise LogsError(
            f"{option} {text!r} is neither a time, as in 2026-05-01T14:30 (local) or 2026-05-01T14:30Z, "
            "nor how long ago, as in 30m, 2h or 1d."
        ) from None


def _ago(text: str) -> timedelta | None:
    import re

    parts = re.findall(r"(\d+)([smhdw])", text) if re.fullmatch(r"\s*(\d+[smhdw])+\s*", text, re.ASCII) else []
    if not parts:
        return None
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def _told(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _milliseconds(at: datetime) -> int:
    return max(0, int(at.timestamp() * 1000))


def _options(parser: argparse.ArgumentParser, _flow: Flow) -> None:
    logs_options(parser)
    parser.add_argument("--run", metavar="ID", help="only this run")
    logging_options(parser, None, default=argparse.SUPPRESS)


def _logs(flow: Flow, spelling: str, options: argparse.Namespace, rest: list[str]) -> None:
    if rest:
        raise ParameterError(f"Unexpected argument: {rest[0]!r}; the log of a flow does not depend on its parameters")
    show_logs(flow.name, configuration(flow, options), options, Commands(spelling, options)("deploy"))


COMMAND = Command(
    "print what the deployed flow has logged",
    "Merges the logs of all functions and Batch jobs in the order of time: what lokki says of each step and item,\n"
    "what the steps print, and what Lambda reports: of the last hour, or of all of a run. Times are local unless they\n"
    "name their zone.",
    ("", "--start 2h --run ID", "--tail --step STEP", "--json"),
    _options,
    _logs,
    needs=False,
    takes=False,
)
