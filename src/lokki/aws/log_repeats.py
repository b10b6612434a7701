"""An error is told once: by the line of lokki's own, which knows step and item and has the user's traceback.

A step's error has to leave its function, so that the state machine hears of it. Lambda then logs it as well: its
message with the traceback in it, and the way through this library. Where lokki's line is there, Lambda's is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lokki.aws.log_runs import facts
from lokki.aws.logs import Line

_CALL = ("START RequestId:", "END RequestId:", "REPORT RequestId:", "INIT_START")  # where a call begins or ends


class ToldOnce:
    """Leaves out what repeats an error that was told already; it may be given a log piece by piece."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], _Call] = {}

    def kept(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines that say something new."""
        for line in lines:
            call = self._calls.setdefault((line.group, line.stream), _Call())
            if not call.repeats(line.text):
                yield line


class _Call:
    """What a call of a function has told so far."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._repeating = False

    def repeats(self, text: str) -> bool:
        """Whether this line repeats an error."""
        if text.startswith(_CALL):
            self._errors, self._repeating = [], False
        elif (said := facts(text)) is not None:
            self._repeating = False
            if isinstance(error := said.get("error"), str) and error:
                self._errors.append(error.splitlines()[0])
        elif not self._repeating:
            return self._begins(text)
        return self._repeating

    def _begins(self, text: str) -> bool:
        """Whether Lambda's report begins here: all of it in one line of the log, or the first one of several."""
        if not (text.startswith("[ERROR]") and any(each in text for each in self._errors)):
            return False
        self._repeating = "\r" not in text and "\n" not in text.rstrip()
        return True
