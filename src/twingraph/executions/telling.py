"""How sentences speak of a database and of what went wrong with it."""

from __future__ import annotations

from twingraph.executions.secrets import veiled


def named(url: str) -> str:
    """The URL without its password; of an SQLite file, its path."""
    return veiled(url.removeprefix("sqlite:///"))


def reason(error: BaseException) -> str:
    """The first line of what a database said."""
    told = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return told.splitlines()[0].rstrip(".")
