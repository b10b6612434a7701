"""What a client says to the WebSocket, and what it makes of what it hears. It neither sends nor receives.

A subscription is followed by a ping: its answer says that all that was so far has been told. An execution has been
heard to its end when it is over and that has come.
"""

from __future__ import annotations

import json

from websockets.exceptions import InvalidStatus

from twingraph import wire
from twingraph.client.errors import ApiError, NotFoundError, refusal

LONGEST = 64 << 20
"""Bytes of one event."""

_OURS = ("pong", "subscribed", "unsubscribed")


class Listening:
    """Hears of one execution to its end, or of all without one."""

    def __init__(self, execution: str | None) -> None:
        self._execution = execution
        self._what = f"Watching execution {execution!r}" if execution else "Watching executions"
        self._all_told = False
        self._over = False

    @property
    def greeting(self) -> tuple[str, str]:
        """What is sent first on each connection."""
        self._all_told = False
        told = {"action": "subscribe", **({"execution_id": self._execution} if self._execution else {})}
        return json.dumps(told), json.dumps({"action": "ping"})

    @property
    def done(self) -> bool:
        """Whether nothing more will be heard."""
        return self._over and self._all_told

    def hear(self, text: str | bytes) -> wire.Event | None:
        """The event that came; None for what is between client and server."""
        event = wire.Event.model_validate_json(text)
        if event.event in _OURS:
            self._all_told = self._all_told or event.event == "pong"
            return None
        code = event.data.get("code") if event.event == "error" else None
        if code:
            kind = NotFoundError if str(code).endswith("not_found") else ApiError
            detail = str(event.data.get("error"))
            raise kind(f"{self._what}: {detail}", code=str(code), detail=detail, hint=event.data.get("hint"))
        mine = self._execution is not None and event.data.get("execution_id") == self._execution
        if mine and event.event == "execution:update" and event.data.get("status") in wire.OVER:
            self._over = True
        return event

    def refused(self, error: InvalidStatus) -> ApiError:
        """The error that a refused connection stands for."""
        return refusal(error.response.status_code, bytes(error.response.body or b""), self._what)

    def lost(self, error: Exception) -> str:
        """The sentence that says that the connection was lost for good."""
        return f"{self._what}: the connection was lost: {str(error) or type(error).__name__}."
