"""The command line of a flow file: `python flow.py COMMAND`, through `main(flow)`.

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 an error that has been explained, 130
interrupted. (The commands themselves are in `lokki.commands`; `lokki.console` is the `lokki` command. Only these rooms
print and exit.)
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from lokki.commands.shared import Command, logging_options, quoted
from lokki.decorators import Flow
from lokki.errors import LokkiError, nearest
from lokki.outcome import INTERRUPTED, complain
from lokki.params import usage

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_COMMANDS = ("run", "graph", "build", "simulate", "deploy", "destroy", "invoke", "show", "logs", "redrive")


class Parser(argparse.ArgumentParser):
    """Unknown commands and options exit with 1, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"error: {message}\nSee {self.prog} --help.\n")

    def refuse(self, rest: Sequence[str]) -> NoReturn:
        """There are arguments that nothing takes."""
        flags = [flag for each in self._actions for flag in each.option_strings]
        near = nearest(rest[0].partition("=")[0], flags) if rest[0].startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(rest)}{near}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = nearest(str(value), map(str, action.choices))
            if near:
                raise argparse.ArgumentError(action, f"there is no {value!r}{near}")
        super()._check_value(action, value)


def command_line(flow: Flow, argv: Sequence[str] | None = None) -> None:
    """Carry out what the process, or `argv`, asks of a flow file; ends the process with the exit code of an error."""
    exiting(lambda: flow_command(flow, f"{_started_as()} COMMAND", list(sys.argv[1:] if argv is None else argv)))


def _started_as() -> str:
    """How this process was started, to be typed again."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {quoted(sys.argv[0] or 'flow.py')}"


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
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _let_go()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        _let_go()
        complain(
            f"error: What this command prints cannot be written: {error.strerror}. What it did until then is done."
        )
        sys.exit(1)


def _let_go() -> None:
    """Nobody can be told anything more on stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flow_command(flow: Flow, spelling: str, argv: list[str]) -> None:
    """Carry out what a flow file was asked to do; `spelling` is how a COMMAND of it is typed."""
    named = next((each for each in argv if each in _COMMANDS), None)
    parser = Parser(
        prog=spelling.partition(" COMMAND")[0],
        description=_first_line(flow) or f"The flow {flow.name}.",
        epilog=f"{spelling} --help explains a command.",
        allow_abbrev=False,
    )
    logging_options(parser, flow, default=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", prog="")
    for name in _COMMANDS if named is None else (named,):  # the others are not needed
        command, typed = _command(name), spelling.replace("COMMAND", name)
        told = _help(command, flow, typed)
        command.options(commands.add_parser(name, prog=typed, allow_abbrev=False, **told), flow)
    options, rest = parser.parse_known_args(argv)
    if options.command is None:
        parser.print_help(sys.stderr)
        sys.exit(1)
    _command(options.command).run(flow, spelling, options, rest)


def _command(name: str) -> Command:
    found: Command = import_module(f"lokki.commands.{name}").COMMAND
    return found


def _help(command: Command, flow: Flow, typed: str) -> dict[str, Any]:
    rows = usage(flow.parameters) if command.takes else []
    width = max((len(f"{flag} {kind}") for flag, kind, _, _ in rows), default=0) + 4
    lines = [
        f"  {flag} {kind}".ljust(width) + ("required" if needed else f"default: {default}")
        for flag, kind, default, needed in rows
    ]
    must = "".join(f"{flag} ... " for flag, _, _, needed in rows if needed and command.needs)
    flags = (f"{flag} ..." if needed and command.needs else f"[{flag} ...]" for flag, _, _, needed in rows)
    return {
        "help": command.short,
        "description": f"{command.short[0].upper()}{command.short[1:]}.\n\n{command.text}",
        "epilog": "\n".join(
            [
                *(["flow parameters:", *lines, ""] if lines else []),
                *(["The flow has no parameters.", ""] if command.takes and not lines else []),
                "examples:",
                *(f"  {typed} {'' if 'resume' in example else must}{example}".rstrip() for example in command.examples),
            ]
        ),
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "add_help": "--help" not in (row[0] for row in rows),
        "usage": " ".join(["%(prog)s [options]", *flags]),
    }


def _first_line(flow: Flow) -> str:
    return (flow.fn.__doc__ or "").strip().partition("\n")[0]
