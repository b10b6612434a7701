"""When a workflow starts by itself, as its metadata says: `schedule`, `timezone`, `misfire`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from lokki.frozen import frozen
from twingraph import wire
from twingraph.executions.definitions import Stored
from twingraph.executions.fires import Fire
from twingraph.fields import utc
from twingraph.schedules import Cron, cron

_SHOWN = 5
_MOST_MISSED = 1_000


@frozen
class Timing:
    """When a workflow starts by itself."""

    cron: Cron
    zone: ZoneInfo
    misfire: str

    def after(self, moment: float, count: int = 1) -> list[float]:
        """The next times after this one."""
        times = self.cron.after(datetime.fromtimestamp(moment, self.zone))
        return [next(times).timestamp() for _ in range(count)]

    def between(self, moment: float, end: float) -> list[float]:
        """The times after one moment until another, the last of them where there are very many."""
        found: list[float] = []
        for each in self.cron.after(datetime.fromtimestamp(moment, self.zone)):
            if each.timestamp() > end:
                break
            found.append(each.timestamp())
            if len(found) > _MOST_MISSED:
                return self.between(end - 86_400, end) if end - moment > 86_400 else found[-1:]
        return found


def timing(metadata: Mapping[str, Any], workflow: str) -> Timing | None:
    """What a workflow's metadata says of when it starts; a `ComponentError` for what cannot be meant."""
    expression, zone = metadata.get("schedule"), metadata.get("timezone") or "UTC"
    if not expression:
        return None
    made = cron(expression, f"Workflow {workflow!r}", zone, metadata.get("misfire") or "skip")
    return None if made is None else Timing(made, ZoneInfo(made.timezone), made.misfire)


def told(stored: Stored, last: Fire | None, now: float, held: str) -> wire.Schedule | None:
    """The schedule of a workflow, as the API tells it; `held` says what keeps it from starting."""
    when = timing(json.loads(stored.metadata or "{}"), stored.id)
    if when is None:
        return None
    return wire.Schedule(
        schedule=when.cron.expression,
        timezone=str(when.zone),
        misfire=when.misfire,
        next=[] if held else [utc(each) for each in when.after(now, _SHOWN)],
        held=held or None,
        last=None if last is None else utc(last.due_at),
        last_outcome=None if last is None else last.outcome,
        last_execution_id=(last.execution_id or None) if last else None,
    )
