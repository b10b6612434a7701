"""When a pipeline starts by itself: cron expressions with five fields, names, and words such as `@hourly`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lokki.frozen import frozen
from twingraph.errors import ComponentError, ComponentTypeError

_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HOW = "Write five fields (minute, hour, day, month, weekday), such as '0 */6 * * *', or a word such as '@hourly'."
_MISFIRES = ("skip", "once")


@frozen
class Cron:
    """A cron expression that can be used, in a time zone; `misfire` says what becomes of times that were missed."""

    expression: str
    timezone: str = "UTC"
    misfire: str = "skip"

    @property
    def fields(self) -> str:
        """The five fields."""
        return _WORDS.get(self.expression.strip().lower(), self.expression.strip())

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times at which it fires, after this one and in its time zone."""
        from cronsim import CronSim

        times: Iterator[datetime] = CronSim(self.fields, moment)
        return times


def cron(expression: Any, where: str, timezone: Any = "UTC", misfire: Any = "skip") -> Cron | None:
    """What `schedule=` says, or None; an expression that cannot be used, or never fires, is refused.

    Args:
        expression: five fields, or a word.
        where: whose it is, for messages.
        timezone: in which the times are meant.
        misfire: whether the last of missed times is made up for ("once") or not ("skip").
    """
    if expression is None:
        if (timezone, misfire) != ("UTC", "skip"):
            raise ComponentError(f"{where}: timezone and misfire are for a schedule, and there is none.")
        return None
    if not isinstance(expression, str):
        kind = type(expression).__name__
        raise ComponentTypeError(f"{where}: schedule takes a cron expression, not {kind}. {_HOW}")
    if misfire not in _MISFIRES:
        raise ComponentError(f"{where}: misfire is 'skip' or 'once', not {misfire!r}.")
    _check_zone(timezone, where)
    made = Cron(expression, str(timezone), misfire)
    if len(made.fields.split()) != 5:
        raise ComponentError(f"{where}: the schedule {expression!r} does not have five fields. {_HOW}")
    from cronsim import CronSimError

    try:
        next(made.after(datetime(2024, 1, 1)))
    except CronSimError as error:
        raise ComponentError(f"{where}: the schedule {expression!r} cannot be used: {error}. {_HOW}") from None
    except StopIteration:
        raise ComponentError(f"{where}: the schedule {expression!r} never fires. {_HOW}") from None
    return made


def _check_zone(timezone: Any, where: str) -> None:
    if timezone == "UTC":
        return
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(str(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ComponentError(f"{where}: there is no time zone {timezone!r}; write one such as Europe/Zurich.") from None
