"""Calls as the kernel makes them, and a worker in a process of its own to send them to."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twingraph import envelope
from twingraph.placed import Placed, Raised, Returned
from twingraph.placement import Placement
from twingraph.platforms import worker

WORKER = Path(worker.__file__)


@dataclass
class Heard:
    """What a call told on its way."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    usage: dict[str, float] = field(default_factory=dict)

    def log(self, level: str, line: str) -> None:
        self.lines.append((level, line))

    def use(self, usage: Mapping[str, float]) -> None:
        self.usage.update(usage)


def placed(
    fn: Callable[..., Any],
    *args: Any,
    heard: Heard | None = None,
    place: Placement | None = None,
    call: str = "",
    **kwargs: Any,
) -> Placed:
    """One attempt of a call."""
    heard = heard or Heard()
    name = getattr(fn, "__name__", "call")
    call = call or f"tg-test-{uuid.uuid4().hex[:12]}"
    place = place or Placement()
    return Placed(
        call, "run", name, name, 0, fn, args, kwargs, place, heard.log, heard.use, threading.Event()
    )  # fmt: skip


def there(
    fn: Callable[..., Any],
    *args: Any,
    python: str = sys.executable,
    heard: Heard | None = None,
    place: Placement | None = None,
    **kwargs: Any,
) -> Any:
    """What a function returns, or raises, in a worker that is a process of its own and finds none of our modules."""
    call = placed(fn, *args, heard=heard, place=place, **kwargs)
    done = subprocess.run(
        [python, str(WORKER), "-", "-"],
        input=envelope.pack(call),
        capture_output=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    frames = envelope.Frames(call)
    frames.write(done.stdout)
    frames.write(done.stderr, "error")
    frames.close()
    assert frames.answer is not None, (done.returncode, done.stdout, done.stderr)
    match envelope.unpack(frames.answer, call):
        case Returned(value):
            return value
        case Raised(error):
            raise error
