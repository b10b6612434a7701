"""Bodies of requests: JSON that can be kept and told again, or a 422 that says what keeps it from that.

Python reads more than JSON: infinite numbers, halves of characters, lists in lists without an end. Whoever asks for
what was stored would pay for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

_DEEPEST = 100
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_HUGE = re.compile(rb"\d[eE]\+?\d{3}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(APIRoute):
    """A route whose body is read here."""

    def get_route_handler(self) -> Handler:
        """What answers a request."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handled


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
