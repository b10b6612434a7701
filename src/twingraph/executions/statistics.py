"""How components did: counts, success, durations and what they used.

One query counts and averages; a second looks durations up by their rank. An index has the durations of each component
in their order, so neither sorts. Percentiles are nearest ranks: the least duration that so many of a hundred calls did
not exceed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import case, func, literal, select, union_all

from twingraph.executions import schema
from twingraph.executions.repository import Repository

_SHARES = (50, 95, 99)
_AT_ONCE = 100  # components


class Statistics(NamedTuple):
    """How a component did; durations in seconds, of the calls that completed.

    `executions` counts the calls that ran to an end; reused, skipped and stopped ones are counted beside them.
    `avg_cpu` is in processors: processor time over time.
    """

    component: str
    executions: int
    completed: int
    failed: int
    cached: int
    skipped: int
    stopped: int
    success_rate: float
    avg_duration: float | None
    p50_duration: float | None
    p95_duration: float | None
    p99_duration: float | None
    avg_cpu: float | None
    avg_memory_bytes: float | None
    peak_memory_bytes: float | None
    last_at: float | None


def statistics(graph: Repository, component: str = "", since: float | None = None) -> list[Statistics]:
    """How each component did, or the one that is named, by its name or the id of its node."""
    call = schema.nodes.c
    chosen = [call.kind != "pipeline", call.component != ""]
    if since is not None:
        chosen.append(call.started_at >= since)
    if not component:
        return _of(graph, chosen)
    return _of(graph, [*chosen, call.component == component]) or _of(graph, [*chosen, call.node_id == component])


class Total(NamedTuple):
    """How many executions there are of a status, and the seconds that they took."""

    status: str
    executions: int
    seconds: float


def totals(graph: Repository) -> list[Total]:
    """How many executions there are, by their status."""
    row = schema.executions.c
    query = select(row.status, func.count(), func.sum(row.duration)).group_by(row.status).order_by(row.status)
    return [Total(status, int(count), float(seconds or 0.0)) for status, count, seconds in graph.read(query)]


def _of(graph: Repository, chosen: Sequence[Any]) -> list[Statistics]:
    found = graph.read(_counts(chosen))
    percentiles: dict[str, dict[int, float | None]] = {}
    timed = [(row[0], row[1]) for row in found if row[1]]
    for start in range(0, len(timed), _AT_ONCE):
        ranked = [_ranked(chosen, *each, share) for each in timed[start : start + _AT_ONCE] for share in _SHARES]
        for component, share, duration in graph.read(union_all(*ranked)):
            percentiles.setdefault(component, {})[share] = duration
    return [_made(row, percentiles.get(row[0], {})) for row in found]


def _counts(chosen: Sequence[Any]) -> Any:
    call = schema.nodes.c
    done = call.status == "completed"

    def counted(status: str) -> Any:
        return func.sum(case((call.status == status, 1), else_=0))

    return (
        select(
            call.component,
            *map(counted, ("completed", "failed", "cached", "skipped", "stopped")),
            func.avg(case((done, call.duration))),
            func.avg(case((done & (call.duration > 0), call.cpu_seconds / call.duration))),
            func.avg(call.peak_memory_bytes),
            func.max(call.peak_memory_bytes),
            func.max(call.started_at),
        )
        .where(*chosen)
        .group_by(call.component)
        .order_by(call.component)
    )


def _ranked(chosen: Sequence[Any], component: str, completed: int, share: int) -> Any:
    """The duration at a rank among the completed calls of a component, with the component and the share."""
    call = schema.nodes.c
    theirs = select(call.duration).where(*chosen, call.component == component, call.status == "completed")
    rank = (completed * share + 99) // 100
    return select(
        literal(component), literal(share), theirs.order_by(call.duration).offset(rank - 1).limit(1).scalar_subquery()
    )


def _made(row: Sequence[Any], percentiles: dict[int, float | None]) -> Statistics:
    component, completed, failed, cached, skipped, stopped = row[0], *map(int, row[1:6])
    ran = completed + failed
    return Statistics(
        component,
        ran,
        completed,
        failed,
        cached,
        skipped,
        stopped,
        completed / ran if ran else 0.0,
        row[6],
        *(percentiles.get(share) for share in _SHARES),
        *row[7:],
    )
