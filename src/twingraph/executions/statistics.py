"""How components did: counts, success, durations and what they used, one query for all of them or for one.

Percentiles are nearest ranks: the least duration that so many of a hundred calls did not exceed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import case, func, or_, select

from twingraph.executions import schema
from twingraph.executions.repository import Repository


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
    base = select(
        call.component,
        call.status,
        call.duration,
        call.cpu_seconds,
        call.peak_memory_bytes,
        call.started_at,
        func.row_number().over(partition_by=(call.component, call.status), order_by=call.duration).label("rank"),
        func.count().over(partition_by=(call.component, call.status)).label("among"),
    ).where(call.kind != "pipeline", call.component != "")
    if component:
        base = base.where(or_(call.component == component, call.node_id == component))
    if since is not None:
        base = base.where(call.started_at >= since)
    rows = base.subquery("calls")
    query = select(rows.c.component, *_columns(rows)).group_by(rows.c.component).order_by(rows.c.component)
    return [_made(*row) for row in graph.read(query)]


def _columns(rows: Any) -> list[Any]:
    def counted(status: str) -> Any:
        return func.sum(case((rows.c.status == status, 1), else_=0))

    def percentile(share: int) -> Any:
        rank = (rows.c.among * share + 99) // 100
        return func.min(case(((rows.c.status == "completed") & (rows.c.rank >= rank), rows.c.duration)))

    done = rows.c.status == "completed"
    cores = case((done & (rows.c.duration > 0), rows.c.cpu_seconds / rows.c.duration))
    return [
        *map(counted, ("completed", "failed", "cached", "skipped", "stopped")),
        func.avg(case((done, rows.c.duration))),
        *map(percentile, (50, 95, 99)),
        func.avg(cores),
        func.avg(rows.c.peak_memory_bytes),
        func.max(rows.c.peak_memory_bytes),
        func.max(rows.c.started_at),
    ]


def _made(component: str, *row: Any) -> Statistics:
    completed, failed, cached, skipped, stopped = map(int, row[:5])
    ran = completed + failed
    rate = completed / ran if ran else 0.0
    return Statistics(component, ran, completed, failed, cached, skipped, stopped, rate, *row[5:])
