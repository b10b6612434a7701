"""Who serves which workflows of files: all SQL about it. Servers and workers on one database say it time and again."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import delete, select, update

from twingraph.executions import schema
from twingraph.executions.repository import Repository, insert_new
from twingraph.executions.requests import database_time

UNSEEN = 60.0
"""Seconds after which who did not say anything is not there any more."""


def say(graph: Repository, name: str, workflows: Collection[str]) -> None:
    """Say that this server or worker is there, and which workflows of files it runs."""
    column = schema.serving.c
    row = {"workflows": json.dumps(sorted(workflows)), "seen_at": database_time(graph)}
    with graph.engine.begin() as connection:
        connection.execute(delete(schema.serving).where(column.seen_at < database_time(graph) - UNSEEN))
        if not connection.execute(update(schema.serving).where(column.name == name).values(**row)).rowcount:
            connection.execute(insert_new(graph.engine.dialect.name, schema.serving).values(name=name, **row))


def leave(graph: Repository, name: str) -> None:
    """This server or worker is not there any more."""
    with graph.engine.begin() as connection:
        connection.execute(delete(schema.serving).where(schema.serving.c.name == name))


def served(graph: Repository) -> set[str]:
    """The workflows of files that somebody runs."""
    column = schema.serving.c
    rows = graph.read(select(column.workflows).where(column.seen_at > database_time(graph) - UNSEEN))
    return {each for (told,) in rows for each in json.loads(told)}
