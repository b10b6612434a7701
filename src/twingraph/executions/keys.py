"""Keys of the API: all SQL about them. Only the digest of a key is kept; the key itself is shown once."""

from __future__ import annotations

import secrets
import time
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import func, insert, or_, select, update

from twingraph.executions import schema
from twingraph.executions.repository import Repository

PREFIX = "tg_"


class Key(NamedTuple):
    """A key, without what it takes to use it."""

    id: str
    name: str
    scope: str
    digest: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


def digest(key: str) -> str:
    """What is kept of a key. Keys are random and long, so a plain hash cannot be turned round."""
    return sha256(key.encode()).hexdigest()


def create(graph: Repository, name: str, scope: str, expires_at: float | None = None) -> tuple[Key, str]:
    """Make a key; returns it, and what its owner sends."""
    text = PREFIX + secrets.token_urlsafe(32)
    made = Key(f"key-{secrets.token_hex(4)}", name, scope, digest(text), time.time(), expires_at, None)
    with graph.engine.begin() as connection:
        connection.execute(insert(schema.keys).values(**made._asdict()))
    return made, text


def valid(graph: Repository, key: str) -> Key | None:
    """The key that this is, if it may still be used."""
    column = schema.keys.c
    usable = (column.revoked_at.is_(None), or_(column.expires_at.is_(None), column.expires_at > time.time()))
    rows = graph.read(select(schema.keys).where(column.digest == digest(key), *usable))
    return Key(*rows[0]) if rows else None


def listed(graph: Repository) -> list[Key]:
    """All keys, newest first."""
    return [Key(*row) for row in graph.read(select(schema.keys).order_by(schema.keys.c.created_at.desc()))]


def revoke(graph: Repository, named: str) -> bool:
    """Let a key, named by its id or name, not be used any more; whether there was such a one."""
    column = schema.keys.c
    mine = update(schema.keys).where(or_(column.id == named, column.name == named), column.revoked_at.is_(None))
    with graph.engine.begin() as connection:
        return bool(connection.execute(mine.values(revoked_at=time.time())).rowcount)


def are_there(graph: Repository) -> bool:
    """Whether there is any key that was not revoked."""
    query = select(func.count()).select_from(schema.keys).where(schema.keys.c.revoked_at.is_(None))
    return bool(graph.read(query)[0][0])
