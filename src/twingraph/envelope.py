"""A call as bytes that a foreign Python can run, and its answer as what became of the call.

`pack` and `unpack` are this end of it; the other is `twingraph.platforms.worker`, whose text `worker_source` gives.
Data travels as JSON with its types kept. A pickle is made, and read, only where `config={'pickle': True}` allows it;
frames of pandas have no other form of their own, and are read by what makes nothing but frames.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import re
import zlib
from base64 import b64decode
from functools import lru_cache
from pathlib import Path
from typing import Any

from twingraph.errors import PlatformError, RemoteError, TravelError
from twingraph.own import installed_there
from twingraph.placed import Outcome, Placed, Raised, Returned
from twingraph.platforms.worker import FORMAT, LEVELS, Reading
from twingraph.travel import Installed, Luggage


def pack(call: Placed) -> bytes:
    """The call as JSON; what cannot travel is a `TravelError` with its name."""
    try:
        return _packed(call)
    except Installed:
        with installed_there():
            return _packed(call)


def _packed(call: Placed) -> bytes:
    luggage = Luggage(call.component)
    pickles = bool(call.placement.config.get("pickle"))
    names = _parameters(call)
    told = {
        "twingraph": FORMAT,
        "id": call.id,
        "component": call.component,
        "environment": dict(call.placement.environment),
        "pickle": pickles,
        "function": luggage.value(call.fn, "its function"),
        "args": [
            luggage.given(each, f"argument {names[index] if index < len(names) else index + 1}", pickles)
            for index, each in enumerate(call.args)
        ],
        "kwargs": {
            name: luggage.given(each, f"argument {name!r}", pickles) for name, each in dict(call.kwargs).items()
        },
        "definitions": luggage.listed,
        "needs": _needs(call, luggage.extras) if luggage.extras else "",
    }
    return json.dumps(told).encode("ascii")


def _needs(call: Placed, extras: set[str]) -> str:
    """What is to be done where this library is not installed on the other side."""
    wanted = extras | {getattr(getattr(call.fn, "__self__", None), "extra", "")}
    command = f"pip install 'lokki-twingraph[{','.join(sorted(wanted - {''})) or 'components'}]'"
    if call.placement.platform == "lambda":
        return f"give the function a layer or an image with Python 3.11 or newer in which {command} was run"
    return f"make an image of Python 3.11 or newer in which {command} was run, and name it as docker_image"


def _parameters(call: Placed) -> list[str]:
    """The names of the parameters that are filled by place, for messages."""
    if not call.args:
        return []
    try:
        known = inspect.signature(call.fn).parameters.values()
    except (TypeError, ValueError):
        return []
    return [repr(each.name) for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]


def unpack(answer: bytes, call: Placed) -> Outcome:
    """What became of the call; what it used is told to `call.usage`."""
    try:
        told = json.loads(answer)
        if told.get("twingraph") != FORMAT or told.get("id") != call.id:
            raise ValueError("it belongs to another call")
    except (ValueError, AttributeError) as error:
        where = f"Component {call.component!r} on platform {call.placement.platform!r}"
        return Raised(PlatformError(f"{where}: what came back is not its answer: {error}."))
    call.usage(told["usage"])
    reading = Reading(_known, bool(call.placement.config.get("pickle")))
    if "error" in told:
        return Raised(_error(told["error"], reading, call, told["python"]))
    try:
        return Returned(reading(told["value"]))
    except Exception as error:  # noqa: BLE001 - values are made by their own types, which may raise anything
        return Raised(TravelError(f"Component {call.component!r}: what it returned cannot be read here: {error}."))


@lru_cache
def worker_source() -> str:
    """The text of the file that opens envelopes."""
    return Path(__file__).with_name("platforms").joinpath("worker.py").read_text(encoding="utf-8")


def _known(reference: dict[str, Any]) -> Any:
    """A class that an answer names; None where there is none of this name here."""
    return known_class(*reference["$import"][:2])


def known_class(module: str, qualname: str) -> type | None:
    """The class of this name; None where there is none here."""
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) else None


def _error(told: dict[str, Any], reading: Reading, call: Placed, python: str) -> BaseException:
    """The exception of the other side, made again where its type is known here."""
    if told["untravelled"]:
        return TravelError(f"Component {call.component!r}: {told['message']}.")
    error = _made(told, reading)
    where = f"in component {call.component!r} on platform {call.placement.platform!r}, Python {python}"
    error.add_note(f"{where}:\n{told['traceback'].rstrip()}")
    return error


def _made(told: dict[str, Any], reading: Reading) -> BaseException:
    error = _same(told, reading)
    if error is None:
        name = told["qualname"] if told["module"] == "builtins" else f"{told['module']}.{told['qualname']}"
        error = RemoteError(told["message"], name, tuple(told["names"]), told["traceback"])
    for note in told["notes"]:
        error.add_note(note)
    return error


def _same(told: dict[str, Any], reading: Reading) -> BaseException | None:
    kind = _known({"$import": [told["module"], told["qualname"]]})
    if kind is None or not issubclass(kind, Exception) or not told["exception"]:
        return None
    try:
        args, state = _arguments(told, reading), reading(told["state"]) or {}
    except Exception:  # noqa: BLE001 - values are made by their own types, which may raise anything
        return None
    for make in (_quietly, _called):
        try:
            error: BaseException = make(kind, args)
            for name, value in state.items():
                setattr(error, name, value)
            if str(error) == told["message"]:
                return error
        except Exception:  # noqa: BLE001, S112 - it is the user's class; there is another way, or a RemoteError
            continue
    return None


def _arguments(told: dict[str, Any], reading: Reading) -> list[Any]:
    """What the exception is made of; of one of Python's own whose arguments could not be sent, its message will do."""
    if told.get("group"):
        message, _, _ = told["message"].rpartition(" (")
        return [message, [_made(each, reading) for each in told["group"]]]
    if told["args"] is None and told["module"] == builtins.__name__:
        return [told["message"]]
    made: list[Any] = reading(told["args"])
    return made


def _quietly(kind: type[Exception], args: list[Any]) -> BaseException:
    """The exception as it was, without the `__init__` that may want other arguments than it keeps."""
    if kind.__module__ == builtins.__name__:
        return kind(*args)
    error: BaseException = kind.__new__(kind, *args)
    error.args = tuple(args)
    return error


def _called(kind: type[Exception], args: list[Any]) -> BaseException:
    return kind(*args)


class Frames:
    """The log of a foreign process, line by line: what the user printed, and an answer in between.

    `answer` is the answer once it is whole. `ended` says that the log of this call is over.
    """

    def __init__(self, call: Placed) -> None:
        self._call = call
        self._mark = f"\x01{call.id} "
        self._parts: dict[int, str] = {}
        self._begun: dict[str, bytes] = {}
        self.answer: bytes | None = None
        self.ended = False

    def write(self, data: bytes, level: str = "info") -> None:
        """Take what came; the end of it may be half a line. `level` is that of lines that do not say theirs."""
        *lines, rest = (self._begun.get(level, b"") + data).split(b"\n")
        self._begun[level] = rest
        for each in lines:
            self.line(each.decode("utf-8", "backslashreplace"), level)

    def close(self) -> None:
        """There will be no more: what is left is a line."""
        for level, rest in self._begun.items():
            if rest:
                self.line(rest.decode("utf-8", "backslashreplace"), level)
        self._begun.clear()

    def line(self, text: str, level: str = "info") -> None:
        """Take one line, without or with its end."""
        text = text.rstrip("\r\n")
        before, mark, frame = text.partition(self._mark)
        if before or not mark:
            self._say(before, level)
        if frame == "end":
            self.ended = True
        elif frame:
            self._frame(frame)

    def _say(self, text: str, level: str) -> None:
        if text.startswith("\x02") and text[1:2] in LEVELS:
            level, text = LEVELS[text[1]], text[3:]
        self._call.log(level, text)

    def _frame(self, frame: str) -> None:
        if found := re.fullmatch(r"(\d+) (\d+) (\S*)", frame):
            self._parts[int(found[1])] = found[3]
            if len(self._parts) == int(found[2]):
                text = "".join(self._parts[index] for index in range(len(self._parts)))
                self.answer = zlib.decompress(b64decode(text))
