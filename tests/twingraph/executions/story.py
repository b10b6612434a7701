"""Executions as the recorder hears of them, told in few words by tests."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from twingraph.events import (
    Event,
    ExecutionFinished,
    ExecutionStarted,
    Listener,
    NodeFailed,
    NodeFinished,
    NodeLogged,
    NodeRetried,
    NodeStarted,
    NodeSubmitted,
)

NOON = 1_700_000_000.0


def hash_of(*parts: Any) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


class Story:
    """One execution that is told to a listener; each event comes a second after the one before it."""

    def __init__(self, listen: Listener, run: str, at: float = NOON) -> None:
        self.listen = listen
        self.run = run
        self._clock = (at + second for second in itertools.count())

    def now(self) -> float:
        return next(self._clock)

    def tell(self, event: Event) -> None:
        self.listen(event)

    def begin(self, name: str = "birds", kind: str = "pipeline", **told: Any) -> Story:
        self.tell(ExecutionStarted(self.run, name, kind=kind, at=self.now(), **told))
        return self

    def hash(self, node: str) -> str:
        return hash_of(self.run, node)

    def submit(self, node: str, after: Sequence[str] = (), **told: Any) -> Story:
        event = NodeSubmitted(
            self.run,
            node,
            self.hash(node),
            node.partition("#")[0],
            told.get("platform", "local"),
            tuple(map(self.hash, after)),
            told.get("labels", {}),
            "",
            self.now(),
        )
        self.tell(event)
        return self

    def start(self, node: str, after: Sequence[str] = (), code: str = "1", content: str = "", **told: Any) -> Story:
        """The node begins; the same node of another story has the same content unless `content` differs."""
        component = node.partition("#")[0]
        self.tell(
            NodeStarted(
                self.run,
                node,
                hash=self.hash(node),
                component=component,
                at=self.now(),
                parents=tuple(map(self.hash, after)) + tuple(told.pop("parents", ())),
                content_hash=hash_of("content", node, code, content),
                code_hash=hash_of("code", component, code),
                source=f"def {component}(): return {code}",
                **told,
            )
        )
        return self

    def log(self, node: str, message: str, level: str = "info") -> Story:
        self.tell(NodeLogged(self.run, node, 0, level, message, self.now()))
        return self

    def retry(self, node: str, attempt: int = 0, error: str = "TimeoutError: slow") -> Story:
        self.tell(NodeRetried(self.run, node, attempt, 1.0, error, hash=self.hash(node), at=self.now()))
        return self

    def finish(self, node: str, seconds: float = 1.0, attempt: int = 0, reused: bool = False, **told: Any) -> Story:
        outputs = told.pop("outputs", {})
        usage: Mapping[str, float] = told.pop("usage", {})
        self.tell(
            NodeFinished(
                self.run,
                node,
                attempt,
                seconds,
                reused,
                hash=self.hash(node),
                outputs=outputs,
                usage=usage,
                at=told.pop("at", None) or self.now(),
            )
        )
        return self

    def fail(self, node: str, kind: str = "ValueError", status: str = "failed", attempt: int = 0) -> Story:
        self.tell(
            NodeFailed(
                self.run,
                node,
                attempt,
                1.0,
                f"{kind}: no",
                f"Traceback: {kind}",
                hash=self.hash(node),
                kind=kind,
                status=status,
                at=self.now(),
            )
        )
        return self

    def end(self, status: str = "completed", outputs: Any = None, **told: Any) -> Story:
        self.tell(ExecutionFinished(self.run, "birds", status, 9.0, outputs=outputs, at=self.now(), **told))
        return self

    def whole(self, node: str, after: Sequence[str] = (), **told: Any) -> Story:
        """A node that begins and is done."""
        outputs = told.pop("outputs", {})
        seconds = told.pop("seconds", 1.0)
        usage = told.pop("usage", {})
        return self.start(node, after, **told).finish(node, seconds, outputs=outputs, usage=usage)
