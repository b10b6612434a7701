"""What requests say: JSON that can be kept and told again, and parameters that there are, or a 422 that says why not.

Python reads more than JSON: infinite numbers, halves of characters, lists in lists without an end. Whoever asks for
what was stored would pay for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from lokki.errors import nearest
from twingraph.server.problems import Problem

_DEEPEST = 100
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_HUGE = re.compile(rb"\d[eE]\+?\d{3}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """A route whose body is read here, and whose parameters are looked at."""

    def get_route_handler(self) -> Handler:
        """What answers a request."""
        handle = super().get_route_handler()
        known = [each.alias for each in self.dependant.query_params]
        takes_any = bool(known or self.dependant.path_params or self.body_field)  # else its document has no 422

        async def handled(request: Request) -> Response:
            if takes_any:
                _look_at(request, known)
            made = _Request(request.scope, request.receive)
            if self.body_field is not None and not _is_json(request) and await made.body():
                raise _NO_JSON
            return await handle(made)

        return handled


_NO_JSON = Problem(
    422, "not_json", "A body is JSON here, and its type has to say so.", "Send Content-Type: application/json."
)


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _look_at(request: Request, known: Sequence[str]) -> None:
    """Refuse parameters that the call does not have: what was meant by them would be left out without a word."""
    wrong = [name for name in request.query_params if name not in known]
    if wrong:
        raise RequestValidationError([_stranger(name, request.query_params[name], known) for name in wrong])


def _stranger(name: str, value: str, known: Sequence[str]) -> dict[str, Any]:
    others = f"; there are {', '.join(known)}." if known else "."
    sentence = f"There is no parameter {name!r} here{nearest(name, known) or others}"
    return {"type": "unknown_parameter", "loc": ("query", name), "msg": sentence, "input": value}


class _Request(Request):
    async def json(self) -> Any:
        """The body."""
        return read(await self.body())


def read(body: bytes) -> Any:
    """What a body says; a `json.JSONDecodeError` for one that is no JSON."""
    try:
        told = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        if _HUGE.search(body):
            json.dumps(told, allow_nan=False)
        if _HALF.search(body):
            json.dumps(told, ensure_ascii=False).encode()
    except RecursionError:
        raise json.JSONDecodeError(f"nested more than {_DEEPEST} deep", "", 0) from None
    except json.JSONDecodeError:
        raise
    except UnicodeEncodeError:
        raise json.JSONDecodeError("a text holds half of a character", "", 0) from None
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from None
    _bounded(told)
    return told


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _bounded(told: Any) -> None:
    level, depth = [told], 0
    while level:
        depth += 1
        if depth > _DEEPEST + 1:
            raise json.JSONDecodeError(f"nested more than {_DEEPEST} deep", "", 0)
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
