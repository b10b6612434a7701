"""Talking to a worker that serves (`worker.py --serve`), in a child process or a container.

It is sent frames, each a length of four bytes and an envelope; its stdout answers in the same way, and its stderr is
the log of the functions that it calls. The log of a call is over when the worker says so in it.
"""

from __future__ import annotations

import struct
from math import inf
from time import monotonic

from twingraph.envelope import Frames, unpack, worker_source
from twingraph.placed import Outcome, Placed

_GRACE = 3.0  # seconds that a log may end later than its answer

BOOT = """\
import os, sys
if sys.version_info < (3, 8):
    sys.exit("TwinGraph needs Python 3.8 or newer, and this is %d.%d" % tuple(sys.version_info[:2]))
def read(size):
    text = b""
    while len(text) < size:
        more = file.read(size - len(text))
        if not more:
            sys.exit(0)
        text += more
    return text
os.write(1, b".")
file = open(0, "rb", 0, closefd=False)
text = read(int.from_bytes(read(4), "big"))
exec(compile(text, "<twingraph worker>", "exec"), {"__name__": "__main__", "__file__": "<twingraph worker>"})
"""
"""A program for `python -c`: says a full stop on stdout when it is there, and is sent the worker as its first frame."""


def frame(body: bytes) -> bytes:
    """A body with its length."""
    return struct.pack(">I", len(body)) + body


def first_frame() -> bytes:
    """The worker, for `BOOT`."""
    return frame(worker_source().encode("utf-8"))


class Hearing:
    """What a worker says of one call."""

    def __init__(self, call: Placed) -> None:
        self.call = call
        self._frames = Frames(call)
        self._answer = bytearray()
        self._patience = inf

    def answered(self, data: bytes) -> None:
        """Take what came on stdout."""
        self._answer += data
        if len(self._answer) >= 4 and len(self._answer) >= 4 + struct.unpack_from(">I", self._answer)[0]:
            self._patience = monotonic() + _GRACE

    def logged(self, data: bytes) -> None:
        """Take what came on stderr."""
        self._frames.write(data)

    @property
    def over(self) -> bool:
        """Whether the answer is there, and all of the log: a function may have cut off the rest of that."""
        return self._patience < inf and (self._frames.ended or monotonic() > self._patience)

    @property
    def tidy(self) -> bool:
        """Whether the function left the worker as it was: answered, and its log not cut off."""
        return self._patience < inf and self._frames.ended

    def close(self) -> None:
        """There will be no more of the log."""
        self._frames.close()

    def outcome(self) -> Outcome:
        """What became of the call."""
        self.close()
        return unpack(bytes(self._answer[4:]), self.call)
