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


@frozen
class Cron:
    """A cron expression that can be used."""

    expression: str

    @property
    def fields(self) -> str:
        """The five fields."""
        return _WORDS.get(self.expression.strip().lower(), self.expression.strip())

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times at which it fires, after this one and in its time zone."""
        from cronsim import CronSim

        times: Iterator[datetime] = CronSim(self.fields, moment)
        return times


def cron(expression: Any, pipeline: str) -> Cron | None:
    """What `schedule=` says, or None; an expression that cannot be used, or never fires, is refused."""
    if expression is None:
        return None
    if not isinstance(expression, str):
        kind = type(expression).__name__
        raise ComponentTypeError(f"Pipeline {pipeline!r}: schedule takes a cron expression, not {kind}. {_HOW}")
    made = Cron(expression)
    if len(made.fields.split()) != 5:
        raise ComponentError(f"Pipeline {pipeline!r}: the schedule {expression!r} does not have five fields. {_HOW}")
    from cronsim import CronSimError

    try:
        next(made.after(datetime(2024, 1, 1)))
    except CronSimError as error:
        raise ComponentError(
            f"Pipeline {pipeline!r}: the schedule {expression!r} cannot be used: {error}. {_HOW}"
        ) from None
    except StopIteration:
        raise ComponentError(f"Pipeline {pipeline!r}: the schedule {expression!r} never fires. {_HOW}") from None
    return made
