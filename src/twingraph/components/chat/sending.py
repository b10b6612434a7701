"""One question on its way: sent, heard as it comes, and asked again where that may help.

Asked again is what did not get through (a connection that fails, is cut or times out, 408, 409, 429 and from 500 on),
after as long as the provider says in `Retry-After`, or else a little longer each time. All tries together take no
longer than `Limits.total`.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from lokki.frozen import field, frozen
from twingraph.components.chat.connections import Connection, connection
from twingraph.components.chat.conversation import Answer, Json, Provider, Question
from twingraph.components.chat.failures import LLMError, LLMUnavailableError, Said, refused, said, short, used_up
from twingraph.components.chat.speaking import say
from twingraph.components.chat.sse import events
from twingraph.executions.secrets import HIDDEN, veiled
from twingraph.surroundings import when_left

if TYPE_CHECKING:
    import httpx

_LONGEST_PAUSE = 20.0
_AGAIN = (408, 409, 429)
_TROUBLE = ("overloaded_error", "rate_limit_error", "api_error", "timeout_error", "server_error", "rate_limit_exceeded")
_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_SHORT = 3  # characters of a key that hides nothing

Hear = Callable[[str], None]


@frozen
class Limits:
    """How long things may take, in seconds, and how often, and after what time, a question is asked again."""

    connect: float = 10.0
    read: float = 120.0
    total: float = 280.0
    retries: int = 4
    delay: float = 0.5


@frozen
class Account:
    """Whom to ask, and with which key; `key_from` says in messages where that is from."""

    provider: Provider
    base: str
    key: str = field(compare=False)  # what is not compared is not shown
    key_from: str = ""

    @property
    def place(self) -> str:
        """The address, as it may be told."""
        return veiled(self.base)

    def without_key(self, text: str) -> str:
        """A text that somebody else wrote, as it may be told."""
        return veiled(text.replace(self.key, HIDDEN) if len(self.key) > _SHORT else text)


class _Passing(Exception):
    """A try that failed, and what to say when it was the last; `after` is when the provider wants to be asked again."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class Asking:
    """Asks questions of one account, within one limit of time."""

    def __init__(self, account: Account, limits: Limits) -> None:
        self._account = account
        self._limits = limits
        self._end = time.monotonic() + limits.total
        self._left = threading.Event()
        self._line: Connection | None = None
        self._lock = threading.Lock()

    def ask(self, question: Question, hear: Hear) -> Answer:
        """The answer; `hear` gets its text as it comes."""
        provider, base = self._account.provider, self._account.base
        told = provider.body(question, base)
        body = json.dumps(told, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")
        tries = 0
        with when_left(self._leave):
            while True:
                try:
                    return self._once(question, body, hear)
                except _Passing as failure:
                    tries += 1
                    self._pause(failure, tries)

    def _pause(self, failure: _Passing, tries: int) -> None:
        """Wait before the next try; where there is none, the error that says so."""
        why = str(failure)
        if self._left.is_set():
            raise LLMError("The call was stopped, and its connection closed.") from None
        pause = min(self._limits.delay * 2 ** (tries - 1), _LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311
        pause = failure.after if failure.after is not None else pause
        left = self._end - time.monotonic()
        if tries > self._limits.retries:
            times = f" It was asked {tries} times." if tries > 1 else ""
            raise LLMUnavailableError(f"{why}.{times}") from failure.__cause__
        if pause >= left:
            told = f"of total_timeout={self._limits.total:g} s, {max(left, 0):.0f} s are left"
            asked = f"it wants to be asked again in {pause:.0f} s, and " if failure.after is not None else ""
            raise LLMUnavailableError(f"{why}; {asked}{told}.") from failure.__cause__
        say(f"{why}; asking again in {pause:.1f} s", logging.WARNING)
        if self._left.wait(pause):
            raise LLMError("The call was stopped while it waited to ask again.")

    def _once(self, question: Question, body: bytes, hear: Hear) -> Answer:
        with connection(self._account.base) as line, self._told():
            with self._lock:
                self._line = line
                if self._left.is_set():
                    line.cut()
            try:
                return self._said(question, line.send(self._request(line, body)), hear)
            finally:
                with self._lock:
                    self._line = None  # it may serve another call from now on

    def _said(self, question: Question, response: httpx.Response, hear: Hear) -> Answer:
        try:
            if response.status_code != 200:
                raise self._failure(question, response)
            return self._answer(response, hear)
        finally:
            response.close()

    def _leave(self) -> None:
        """Nobody waits any more; called from another thread."""
        with self._lock:
            self._left.set()
            if self._line is not None:
                self._line.cut()

    def _request(self, line: Connection, body: bytes) -> httpx.Request:
        import httpx

        account, limits = self._account, self._limits
        left = max(self._end - time.monotonic(), 0.001)
        timeout = httpx.Timeout(min(limits.read, left), connect=min(limits.connect, left))
        headers = {"Content-Type": "application/json", **account.provider.headers(account.key)}
        try:
            url = account.provider.url(account.base)
            return line.client.build_request("POST", url, content=body, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
            raise LLMError(f"{self._where} cannot be asked: {self._safe(error)}.") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What httpx raises, in a sentence."""
        import httpx

        label, limits = self._account.provider.label, self._limits
        try:
            yield
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise LLMError(f"{self._where} cannot be asked: {self._safe(error)}.") from None
        except httpx.TimeoutException as error:
            if time.monotonic() >= self._end:
                raise LLMUnavailableError(
                    f"{label} did not answer within {limits.total:g} s (total_timeout)."
                ) from error
            if not isinstance(error, httpx.ConnectTimeout):
                raise _Passing(f"{label} said nothing for {limits.read:g} s (read_timeout)") from error
            raise _Passing(f"{self._where} took no connection within {limits.connect:g} s (connect_timeout)") from error
        except httpx.ConnectError as error:
            if _CERTIFICATE in str(error):
                raise LLMError(f"{self._where} is not who it says it is: {self._safe(error)}.") from error
            raise _Passing(f"{self._where} cannot be reached: {self._safe(error)}") from error
        except httpx.TransportError as error:
            raise _Passing(f"The connection to {label} broke: {self._safe(error)}") from error
        except httpx.HTTPError as error:
            raise LLMError(f"What {label} sent cannot be read: {self._safe(error)}.") from error

    def _answer(self, response: httpx.Response, hear: Hear) -> Answer:
        if "text/event-stream" in response.headers.get("content-type", ""):
            return self._streamed(response, hear)
        text = response.read().decode("utf-8", "replace")
        told = self._json(text)
        if told.get("error"):
            raise self._trouble(text)
        answer: Answer = self._understood(lambda: self._account.provider.answer(told), text)
        hear(answer.text)
        return answer

    def _streamed(self, response: httpx.Response, hear: Hear) -> Answer:
        folding = self._account.provider.folding()
        for data in events(response.iter_bytes()):
            if data == "[DONE]":
                continue  # to the end, so that the connection can be used again
            told = self._json(data)
            if told.get("error"):
                raise self._trouble(data)
            hear(self._understood(lambda told=told: folding.take(told), data))  # type: ignore[misc]
            if time.monotonic() > self._end:
                raise LLMUnavailableError(
                    f"{self._account.provider.label} was still answering after {self._limits.total:g} s "
                    "(total_timeout)."
                )
        if not folding.over:
            raise _Passing(f"The answer of {self._account.provider.label} was cut off before its end")
        return folding.answer()

    def _json(self, text: str) -> Json:
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._nonsense(text)
        return told

    def _understood(self, read: Callable[[], Any], text: str) -> Any:
        try:
            return read()
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self._nonsense(text) from None

    def _nonsense(self, text: str) -> LLMError:
        shown = short(self._account.without_key(text)) or "nothing"
        return LLMError(f"{self._where} did not answer as {self._account.provider.label} does: {shown[:200]!r}.")

    def _failure(self, question: Question, response: httpx.Response) -> Exception:
        """The error that an answer with another status stands for."""
        account, status = self._account, response.status_code
        told = said(account.without_key(response.read().decode("utf-8", "replace")))
        if (status in _AGAIN or status >= 500) and not (status == 429 and used_up(told)):
            return _Passing(_busy(account.provider.label, status, told), asked_for(response.headers))
        return refused(account.provider.label, question.model, account.place, status, told, account.key_from)

    def _trouble(self, text: str) -> Exception:
        """The error that comes with status 200, in a stream that had begun."""
        told = said(self._account.without_key(text))
        why = f"{self._account.provider.label} broke off: {told.message}"
        return _Passing(why) if told.code in _TROUBLE else LLMError(f"{why}.")

    @property
    def _where(self) -> str:
        return f"{self._account.provider.label} at {self._account.place}"

    def _safe(self, error: Exception) -> str:
        return short(self._account.without_key(str(error))) or type(error).__name__


def _busy(label: str, status: int, told: Said) -> str:
    message = f": {told.message}" if told.message else ""
    return (
        f"{label} takes no more requests for now ({status}){message}"
        if status == 429
        else (f"{label} has trouble of its own ({status}){message}")
    )


def asked_for(headers: Mapping[str, str]) -> float | None:
    """In how many seconds a provider wants to be asked again: `Retry-After` has seconds or a date."""
    told = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, unit in zip(told, (0.001, 1.0), strict=True):
        if re.fullmatch(r"\d+(\.\d+)?", text or ""):
            return float(text or 0) * unit
    try:
        return max(parsedate_to_datetime(told[1] or "").timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
