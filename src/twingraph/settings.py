"""What the environment says of TwinGraph on this machine; nothing else in the package reads it."""

from __future__ import annotations

import os
import re

from lokki.frozen import frozen
from twingraph.errors import GraphError

_YES, _NO = ("on", "1", "true", "yes"), ("off", "0", "false", "no")
_OF_SERVERS = ("API_KEYS", "JWT_SECRET", "RATE_LIMIT", "TICKET")
_LAUNCH = "TWINGRAPH_LAUNCH"
_POSTGRES = ("postgres://", "postgresql://")


@frozen
class Settings:
    """Where executions are recorded, and whether.

    Attributes:
        home: the folder for everything that TwinGraph keeps on this machine (`TWINGRAPH_HOME`, else `~/.twingraph`).
        database: the URL of the execution graph (`TWINGRAPH_DB`, else an SQLite file in `home`).
        record: whether runs are recorded (`TWINGRAPH_RECORD`, `on` or `off`; on by default).
        api_keys: of a server, the keys that it takes (`TWINGRAPH_API_KEYS`: `KEY` or `KEY:scope`, with commas between).
        jwt_secret: of a server, what tokens are signed with (`TWINGRAPH_JWT_SECRET`).
        rate_limit: of a server, requests a minute and bulk requests (`TWINGRAPH_RATE_LIMIT`: `100,10`; 0: none).
        ticket: of a worker, that of the job that it is, as whoever launched it said (`TWINGRAPH_TICKET`).
        origins: of a server, whose pages may use it from a browser (`TWINGRAPH_ORIGINS`, with commas between).
    """

    home: str
    database: str
    record: bool = True
    api_keys: str = ""
    jwt_secret: str = ""
    rate_limit: str = ""
    ticket: str = ""
    origins: tuple[str, ...] = ()


def load_settings(home: str | None = None, database: str | None = None) -> Settings:
    """The settings in force; what is given here wins over the environment."""
    folder = home or os.environ.get("TWINGRAPH_HOME") or os.path.join("~", ".twingraph")
    folder = os.path.abspath(os.path.expanduser(folder))
    told = database or ("" if home else os.environ.get("TWINGRAPH_DB"))
    url = _url(told) if told else sqlite_url(os.path.join(folder, "graph.db"))
    api_keys, jwt_secret, rate_limit, ticket = (os.environ.get(f"TWINGRAPH_{each}", "") for each in _OF_SERVERS)
    origins = tuple(filter(None, (each.strip() for each in os.environ.get("TWINGRAPH_ORIGINS", "").split(","))))
    return Settings(folder, url, _recording(), api_keys, jwt_secret, rate_limit, ticket, origins)


def launch_settings() -> dict[str, str]:
    """How a server launches executions: `launch` (`TWINGRAPH_LAUNCH`), `image` (`TWINGRAPH_LAUNCH_IMAGE`) and so on."""
    told = {name.removeprefix(f"{_LAUNCH}_").lower(): text for name, text in os.environ.items() if _LAUNCH in name}
    return {name.removeprefix("twingraph_"): text for name, text in told.items() if text}


def secret(name: str) -> str | None:
    """A secret by its name: `TWINGRAPH_SECRET_<NAME>`, else the file of that name in the folder `TWINGRAPH_SECRETS`."""
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise GraphError(f"The name of a secret has letters, digits and underscores only, not {name!r}.")
    found = os.environ.get(f"TWINGRAPH_SECRET_{name}")
    folder = os.environ.get("TWINGRAPH_SECRETS")
    if found is not None or not folder:
        return found
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def sqlite_url(path: str) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def _url(told: str) -> str:
    """The URL with the driver that is used; a path is one of an SQLite file."""
    if "://" not in told:
        return sqlite_url(os.path.abspath(os.path.expanduser(told)))
    for scheme in _POSTGRES:
        if told.startswith(scheme):
            return f"postgresql+psycopg://{told.removeprefix(scheme)}"
    if not told.startswith(("sqlite://", "postgresql+psycopg://")):
        scheme = told.partition("://")[0]
        raise GraphError(
            f"The execution graph is kept in sqlite:// or postgresql://, not in {scheme}:// (TWINGRAPH_DB)."
        )
    return told


def _recording() -> bool:
    told = os.environ.get("TWINGRAPH_RECORD", "").strip().lower()
    if told in _NO:
        return False
    if told in _YES or not told:
        return True
    raise GraphError(f"TWINGRAPH_RECORD is on or off, not {told!r}.")
