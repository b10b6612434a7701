"""The `twingraph` command. Results go to stdout, all else to stderr; what goes wrong is one sentence and exit code 1.

A command is a module of `twingraph.commands` that holds a `COMMAND`, and a line in the table here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from lokki.cli import Parser, exiting
from twingraph.commands.shared import Command

_COMMANDS = {
    "run": "run a pipeline, workflow or flow of a file",
    "list": "list executions",
    "show": "show an execution, or one node of it",
    "logs": "print what an execution logged",
    "graph": "draw or export an execution",
    "lineage": "tell what led to a value or what it led to",
    "diff": "tell what differs between two executions",
    "stop": "end an execution",
    "export": "write executions for other programs",
    "stats": "tell how components do",
    "doctor": "tell what is available here, and why not",
    "keys": "make, list and revoke keys of a server",
    "serve": "serve the API, and run what it is asked for",
    "worker": "run what servers on the same database are asked for",
}
"""Each command with what the list of commands says of it; its module bears its name."""


def console(argv: Sequence[str] | None = None) -> None:
    """The `twingraph` command."""
    exiting(lambda: _carry_out(list(sys.argv[1:] if argv is None else argv)))


def _carry_out(argv: list[str]) -> None:
    parser = Parser(
        prog="twingraph",
        description="Run pipelines, and ask the execution graph: what ran, what led to what, what changed.",
        epilog="twingraph COMMAND --help explains a command. TWINGRAPH_HOME and TWINGRAPH_DB say which graph is asked.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"twingraph {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    named = next((each for each in argv if not each.startswith("-")), None)
    asked = parser
    for name, short in _COMMANDS.items():
        if name == named:  # the others need not be imported
            asked = _add(commands, name, short, _command(name))
        else:
            commands.add_parser(name, help=short, add_help=False)
    options, rest = parser.parse_known_args(argv)
    if rest:
        asked.refuse(rest)
    if options.command is None:
        parser.print_help(sys.stderr)
        sys.exit(1)
    _command(options.command).run(options)


def _add(commands: argparse._SubParsersAction[Parser], name: str, short: str, command: Command) -> Parser:
    examples = "\n".join(f"  twingraph {name} {example}".rstrip() for example in command.examples)
    told = commands.add_parser(
        name,
        help=short,
        description=f"{short[0].upper()}{short[1:]}.\n\n{command.text}",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.options(told)
    return told


def _command(name: str) -> Command:
    found: Command = import_module(f"twingraph.commands.{name}").COMMAND
    return found


def _version() -> str:
    from importlib.metadata import version

    return version("lokki-twingraph")


if __name__ == "__main__":
    console()
