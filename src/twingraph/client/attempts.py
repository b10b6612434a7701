"""What becomes of one call: its answer, another attempt after a pause, or an error. It neither sends nor sleeps.

A request that never arrived is tried again, and one whose answer was lost if asking twice does no more than asking
once. So is what the server could not do at the moment (502, 503, 504). When it says that it was asked too often (429),
it also says how long to wait.
"""

from __future__ import annotations

import random
from typing import Generic, TypeVar

import httpx
from pydantic import ValidationError as Unexpected

from twingraph import wire
from twingraph.client.calls import Call
from twingraph.client.errors import ApiError, RateLimitError, ServerUnreachableError, refusal
from twingraph.client.server import Server

T = TypeVar("T", bound=wire.Body)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_AT_THE_MOMENT = (502, 503, 504)
_NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NO_JSON = "what came is no answer of a TwinGraph server; is this its address?"


class Attempts(Generic[T]):
    """The attempts of one call."""

    def __init__(self, call: Call[T], server: Server) -> None:
        self._call = call
        self._server = server
        self._made = 0
        self._waited = 0.0

    def lost(self, error: httpx.TransportError) -> float:
        """No answer came: the seconds after which to try again."""
        may = self._call.repeatable or isinstance(error, _NEVER_ARRIVED)
        if not may or self._made >= self._server.retries:
            raise ServerUnreachableError(
                f"{self._call.what}: no answer from {self._server.url}: {str(error) or type(error).__name__}."
            ) from error
        return self._pause()

    def taken(self, response: httpx.Response) -> T | float:
        """The answer, or the seconds after which to try again."""
        if response.is_success:
            return self._read(response)
        told = _seconds(response)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return self._patience(refusal(response.status_code, response.content, self._call.what, told))
        again = response.status_code in _AT_THE_MOMENT and self._call.repeatable
        if again and self._made < self._server.retries:
            return max(self._pause(), min(told, _LONGEST_PAUSE)) if told else self._pause()
        raise refusal(response.status_code, response.content, self._call.what, told)

    def _patience(self, refused: ApiError) -> float:
        """Asked too often, nothing was done: wait as long as the server says, in all no longer than one is told to."""
        told = refused.retry_after
        pause = self._pause() if told is None else told
        if not isinstance(refused, RateLimitError) or self._waited + pause > self._server.longest_wait:
            raise refused
        self._waited += max(pause, 0.01)
        return pause

    def _pause(self) -> float:
        """Longer from one attempt to the next, and never for all clients alike."""
        longest: float = min(_FIRST_PAUSE * 2**self._made, _LONGEST_PAUSE)
        self._made += 1
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - it is no secret

    def _read(self, response: httpx.Response) -> T:
        try:
            return self._call.answer.model_validate_json(response.content)
        except Unexpected as error:
            raise ApiError(f"{self._call.what}: {_NO_JSON}", status=response.status_code) from error


def _seconds(response: httpx.Response) -> float | None:
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdigit() else None
