"""Which database a URL means, and how it is named where nobody may see a password."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote, quote_plus

from twingraph.errors import ComponentError
from twingraph.executions.secrets import HIDDEN, is_secret, veiled

if TYPE_CHECKING:
    from sqlalchemy import URL

Kind: TypeAlias = Literal["sqlite", "postgres", "duckdb", "other"]

_OURS: dict[str, Kind] = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgres",
    "postgresql": "postgres",
    "postgresql+psycopg": "postgres",
    "duckdb": "duckdb",
}
_MEMORY = ("", ":memory:")

NO_URL = (
    "DatabaseQuery: connection is no URL of a database: write it as postgresql://user:password@host:5432/name, "
    "sqlite:///file.db or duckdb:///file.db, and a sign such as @ or / in a password as %40 or %2F."
)
"""What is said of a connection that cannot be understood; not the connection, which may hold a password anywhere."""


@dataclass(frozen=True)
class Target:
    """A database, and in which way it is used.

    Attributes:
        kind: which room talks to it.
        url: the whole URL, with the password.
        name: what people see of it.
        secrets: what they must not see, in every form that a driver may print.
        read_only: nothing may be written.
        pool: how many connections there may be at once.
    """

    kind: Kind
    url: str
    name: str
    secrets: tuple[str, ...]
    read_only: bool
    pool: int

    @cached_property
    def parsed(self) -> URL:
        """The parts of the URL."""
        from sqlalchemy import make_url

        return make_url(self.url)

    @cached_property
    def in_memory(self) -> bool:
        """Whether the database is gone with its last connection."""
        return self.kind in ("sqlite", "duckdb") and (self.parsed.database or "") in _MEMORY

    @cached_property
    def path(self) -> str:
        """The file, of a database that is one."""
        return os.path.abspath(self.parsed.database or "")

    def veil(self, text: str) -> str:
        """The text without the password, nor anything else that is secret."""
        for each in self.secrets:
            text = text.replace(each, HIDDEN)
        return veiled(text)


@lru_cache(maxsize=256)
def target(connection: str, read_only: bool = False, pool: int = 5) -> Target:
    """The database of a URL."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(connection.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        raise ComponentError(NO_URL) from None
    kind = _OURS.get(url.drivername, "other")
    if "@" in (url.host or "") or (kind in ("sqlite", "duckdb") and url.host):
        raise ComponentError(NO_URL)
    secrets = [url.password, *(str(value) for name, value in url.query.items() if is_secret(name))]
    forms = {
        form for each in secrets if each for form in (each, quote(each, safe=""), quote_plus(each), repr(each)[1:-1])
    }
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host or ""
    port, database = f":{url.port}" if url.port else "", f"/{url.database}" if url.database else ""
    name = f"{url.drivername}://{host}{port}{database}"
    return Target(kind, url.render_as_string(hide_password=False), name, tuple(sorted(forms, key=len, reverse=True)),
                  read_only, pool)  # fmt: skip
