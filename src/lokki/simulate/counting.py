"""What an execution did, counted while it runs, and what it wrote."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from typing import Any

from lokki.simulate.machine import Counts, Failure, Line

_FAILURES = 20
_LINES = 200_000  # more than a reader can use, less than memory can hold


class Tally:
    """The counts of one execution; many threads count at once.

    Args:
        express: the maps whose children AWS would run as EXPRESS ones.
    """

    def __init__(self, express: frozenset[str] = frozenset()) -> None:
        self.express = express
        self._lock = threading.Lock()
        self._numbers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._requests: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._payload = 0
        self._substitutions: dict[str, None] = {}
        self.failures: list[Failure] = []
        self.logs: list[Line] = []

    def add(self, what: str, name: str = "", number: int = 1) -> None:
        """Count something of a name."""
        with self._lock:
            self._numbers[what][name] += number

    def request(self, caller: str, kind: str) -> None:
        """Count a request to S3."""
        with self._lock:
            self._requests[caller][kind] += 1

    def payload(self, text: str) -> None:
        """Look at what a state received or returned."""
        if "\\u" in text:  # the interpreter escapes what AWS does not
            text = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
        with self._lock:
            self._payload = max(self._payload, size)

    def substituted(self, sentence: str) -> None:
        """Remember that the interpreter did otherwise than AWS here."""
        self._substitutions[sentence] = None

    def failed(self, failure: Failure) -> None:
        """Remember the first children that failed."""
        with self._lock:
            if len(self.failures) < _FAILURES:
                self.failures.append(failure)

    def wrote(self, name: str, text: str) -> None:
        """Keep what a function or job wrote."""
        with self._lock:
            if len(self.logs) < _LINES:
                self.logs.extend((name, line) for line in text.splitlines())

    @property
    def substitutions(self) -> tuple[str, ...]:
        """The sentences, in the order in which they became true."""
        return tuple(self._substitutions)

    def counts(self) -> Counts:
        """The numbers so far."""
        with self._lock:
            numbers = {what: dict(found) for what, found in self._numbers.items()}
            requests = {caller: dict(kinds) for caller, kinds in self._requests.items()}
        parts: dict[str, Any] = {what: numbers.pop(what, {}).get("", 0) for what in ("retries", "children")}
        parts |= numbers
        return Counts(**parts, requests=requests, payload=self._payload)
