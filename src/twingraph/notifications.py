"""Telling the world of an execution: `notifications={"on_failure": "https://...", "on_success": send_mail}`.

A listener hears the events and puts what is to be sent in a queue; a thread sends it. What cannot be sent is tried
again, then logged: a notification never fails a run. When the execution ends, what is left has a few seconds to go out.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from lokki.errors import nearest
from lokki.frozen import frozen
from twingraph.errors import ComponentError
from twingraph.events import Event, ExecutionFinished, ExecutionStarted, NodeFailed, NodeRetried
from twingraph.revealing import SCHEME, revealed

Message = dict[str, Any]
Send = Callable[[Message], Any]

MOMENTS = ("on_start", "on_success", "on_failure", "on_retry", "on_complete")
_SCHEMES = ("http://", "https://", SCHEME)
_TYPES = ("webhook", "slack", "email", "log")
_PATIENCE = 5.0  # seconds that the end of an execution waits for what is still to be sent
_WAITS = (0.2, 1.0)  # seconds before a second and a third attempt
_ANSWER = 10.0  # seconds that a receiver has
_log = logging.getLogger("twingraph")


@frozen
class Channel:
    """One way to tell: a function, and what it is called in the log."""

    name: str
    send: Send


def channels(told: Mapping[str, Any] | None, where: str) -> dict[str, tuple[Channel, ...]]:
    """What `notifications=` describes: for each moment, whom to tell. `where` is whose they are, for messages."""
    if told is not None and not isinstance(told, Mapping):
        raise ComponentError(f"{where}: notifications takes a dict, not {type(told).__name__}.")
    for moment in told or {}:
        if moment not in MOMENTS:
            near = nearest(str(moment), MOMENTS) or "."
            known = ", ".join(MOMENTS)
            raise ComponentError(f"{where}: notifications has no moment {moment!r}{near} It takes {known}.")
    return {moment: tuple(_channels(each, where)) for moment, each in (told or {}).items()}


def _channels(told: Any, where: str) -> Iterator[Channel]:
    match told:
        case list() | tuple():
            for each in told:
                yield from _channels(each, where)
        case str() if told.startswith(_SCHEMES):
            yield Channel(_host(told), lambda message: _post(told, message))
        case str() if told == "log":
            yield Channel("log", _write)
        case {"type": str(kind)}:
            yield _of_type(kind, told, where)
        case _ if callable(told):
            yield Channel(getattr(told, "__name__", "function"), told)
        case _:
            raise ComponentError(
                f"{where}: a notification is a URL, a function, 'log' or a dict with a type "
                f"({', '.join(_TYPES)}), not {told!r:.80}."
            )


def _of_type(kind: str, told: Mapping[str, Any], where: str) -> Channel:
    needed = {"webhook": ("url",), "slack": ("url",), "email": ("host", "to"), "log": ()}.get(kind)
    if needed is None:
        near = nearest(kind, _TYPES) or "."
        raise ComponentError(f"{where}: there is no notification of type {kind!r}{near}")
    for each in needed:
        if not told.get(each):
            raise ComponentError(f"{where}: a notification of type {kind!r} needs {each!r}.")
    if "url" in needed and not str(told["url"]).startswith(_SCHEMES):
        raise ComponentError(f"{where}: the url of a notification begins with {' or '.join(_SCHEMES)}.")
    match kind:
        case "webhook":
            return Channel(_host(told["url"]), lambda message: _post(told["url"], message, told.get("headers")))
        case "slack":
            return Channel("slack", lambda message: _post(told["url"], {"text": sentence(message)}))
        case "email":
            return Channel("email", lambda message: _mail(told, message))
        case _:
            return Channel("log", _write)


def sentence(message: Message) -> str:
    """What a person reads."""
    what = {
        "on_start": "started",
        "on_success": f"succeeded after {message.get('duration', 0):.1f} s",
        "on_complete": f"ended ({message.get('status')}) after {message.get('duration', 0):.1f} s",
        "on_failure": f"failed: {message.get('error')}",
        "on_retry": f"tries {message.get('node')} again: {message.get('error')}",
    }[message["event"]]
    kind = "workflow" if "workflow" in message else "pipeline"
    return f"{kind.capitalize()} {message[kind]!r} ({message['execution_id']}) {what}"


class Notifier:
    """The listener of one execution of a pipeline or, as `kind` says, a workflow of this name."""

    def __init__(self, told: Mapping[str, tuple[Channel, ...]], name: str, kind: str = "pipeline") -> None:
        self._told = told
        self._whose = {kind: name}
        self._where = f"{kind.capitalize()} {name!r}"
        self._queue: SimpleQueue[tuple[Channel, Message] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed: list[str] = []

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case ExecutionStarted():
                self._tell("on_start", event.run)
            case NodeRetried():
                self._tell("on_retry", event.run, node=event.node, attempt=event.attempt, error=event.error)
            case NodeFailed(status="failed"):
                self._failed.append(event.node)
            case ExecutionFinished():
                self._ended(event)
            case _:
                pass

    def _ended(self, event: ExecutionFinished) -> None:
        facts = {
            "status": event.status,
            "duration": event.seconds,
            "error": event.error or None,
            "failed_nodes": list(self._failed),
        }
        self._tell("on_success" if event.status == "completed" else "on_failure", event.run, **facts)
        self._tell("on_complete", event.run, **facts)
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_PATIENCE)
            if self._thread.is_alive():
                _log.warning("%s: not all notifications were sent within %g s.", self._where, _PATIENCE)

    def _tell(self, moment: str, run: str, **facts: Any) -> None:
        told = self._told.get(moment, ())
        message = {
            "event": moment,
            **self._whose,
            "execution_id": run,
            "at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            **facts,
        }
        for channel in told:
            self._queue.put((channel, message))
        if told and self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="twingraph-notifications", daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        while (each := self._queue.get()) is not None:
            self._send(*each)

    def _send(self, channel: Channel, message: Message) -> None:
        for wait in (*_WAITS, None):
            try:
                channel.send(message)
                return
            except Exception as error:  # noqa: BLE001 - the boundary to the user's function and to other servers
                if wait is None:
                    what = f"{type(error).__name__}: {error}"
                    _log.warning("%s: %s was not notified: %s", self._where, channel.name, what)
                else:
                    time.sleep(wait)


def _post(url: str, message: Message, headers: Mapping[str, str] | None = None) -> None:
    from urllib.request import Request, urlopen

    (where,), said = revealed((url,), headers or {})
    if not where.startswith(("http://", "https://")):
        raise ValueError("the secret that the notification names is no http or https address")
    data = json.dumps(message, default=str).encode()
    request = Request(where, data, {"Content-Type": "application/json", **said}, method="POST")  # noqa: S310
    with urlopen(request, timeout=_ANSWER):  # noqa: S310 - the scheme was looked at
        pass


def _mail(given: Mapping[str, Any], message: Message) -> None:
    import smtplib
    from email.message import EmailMessage

    told = revealed((), given)[1]
    mail = EmailMessage()
    mail["Subject"] = sentence(message)[:200].replace("\n", " ")
    mail["From"] = told.get("from", "twingraph@localhost")
    mail["To"] = told["to"] if isinstance(told["to"], str) else ", ".join(told["to"])
    mail.set_content(json.dumps(message, indent=2, default=str))
    with smtplib.SMTP(told["host"], int(told.get("port", 25)), timeout=_ANSWER) as server:
        if told.get("user"):
            server.starttls()
            server.login(told["user"], told.get("password", ""))
        server.send_message(mail)


def _write(message: Message) -> None:
    _log.log(logging.ERROR if message["event"] == "on_failure" else logging.INFO, "%s", sentence(message))


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return (not url.startswith(SCHEME) and urlsplit(url).hostname) or "webhook"  # what follows may be a secret
