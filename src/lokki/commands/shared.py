"""What the commands of a flow file share: how they are described, their flags, the flow's parameters and graph."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lokki.decorators import Flow
from lokki.errors import LokkiError, ParameterError, RunError, nearest
from lokki.frozen import replace
from lokki.outcome import complain
from lokki.params import parse_flags

if TYPE_CHECKING:
    from lokki.config import LokkiConfig
    from lokki.graph import FlowGraph

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Command(NamedTuple):
    """A command of a flow file.

    Attributes:
        short: what it does, in the list of commands.
        text: more about it, in its own help.
        examples: what may follow it.
        options: adds its options.
        run: carries it out: the flow, how a COMMAND is typed, the options, and the words that are the flow's flags.
        needs: whether the flow's required parameters must be given.
        takes: whether it takes the flow's parameters at all.
    """

    short: str
    text: str
    examples: tuple[str, ...]
    options: Callable[[argparse.ArgumentParser, Flow], None]
    run: Callable[[Flow, str, argparse.Namespace, list[str]], None]
    needs: bool = True
    takes: bool = True


def logging_options(parser: argparse.ArgumentParser, flow: Flow | None, default: Any) -> None:
    """Add the options about the log."""
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    option(parser, flow, "--log-format", choices=("human", "json"), default=default, help="how the log is written")
    option(parser, flow, "--log-level", type=str.upper, choices=levels, default=default, help="the least to log")


def option(parser: argparse.ArgumentParser, flow: Flow | None, flag: str, **settings: Any) -> None:
    """Add an option, unless the flow has a parameter of that name, which takes its place.

    A command that takes no parameters of the flow has no flow here: its options are its own, whatever those are called.
    """
    if flow is None or flag not in {parameter.flag for parameter in flow.parameters}:
        parser.add_argument(flag, **settings)


def given(flow: Flow, rest: list[str], options: argparse.Namespace) -> dict[str, object]:
    """The flow parameters on the command line; a mistyped one of the command's `options` is recognised."""
    try:
        return parse_flags(flow.parameters, rest)
    except ParameterError as error:
        own = [name.replace("_", "-") for name in vars(options) if name != "command"]
        hint = nearest(error.parameter.replace("_", "-"), own).replace("'", "'--", 1)
        if "Unexpected parameter" in str(error) and "did you mean" not in str(error) and hint:
            raise ParameterError(str(error).partition(";")[0] + hint, error.parameter) from None
        raise


def quoted(text: str) -> str:
    """The text as a shell takes it for one word."""
    import shlex

    return shlex.quote(text)


def configuration(flow: Flow, options: argparse.Namespace) -> LokkiConfig:
    """The configuration in force, with what the command line says of the log; its warnings are told."""
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


def made(flow: Flow, params: Mapping[str, Any]) -> FlowGraph:
    """The graph; an exception of the flow function itself is shown as the user's."""
    from lokki.runtime.failure import user_trace

    try:
        return flow(**params)
    except LokkiError:
        raise
    except Exception as error:
        complain(user_trace(error).rstrip())
        raise RunError(f"The flow function {flow.fn.__name__!r} failed before any step ran.") from error


def at_least_one(text: str) -> int:
    """What an option that takes a number of 1 or more was given."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"it takes a number of 1 or more, not {text!r}")
    return number


def in_bytes(count: float) -> str:
    """So many bytes, as people read them."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
