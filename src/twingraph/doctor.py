"""What is available here, and why not: `twingraph doctor`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from lokki.errors import LokkiError
from lokki.frozen import frozen
from twingraph.platforms.base import platform, platform_names
from twingraph.settings import load_settings


@frozen
class Finding:
    """What was looked at, whether it can be used, and what it is or what to do."""

    name: str
    usable: bool
    text: str


def findings() -> Iterator[Finding]:
    """All that a run may need, one after the other; looking may take seconds."""
    yield Finding("python", True, f"{sys.version.split()[0]} at {sys.executable}")
    for name in platform_names():
        yield _looked(f"platform {name}", lambda name=name: platform(name).check())  # type: ignore[misc]
    yield _looked("execution graph", _graph)
    yield _looked("git", _git)


def _looked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except LokkiError as error:
        return Finding(name, False, str(error))


def _graph() -> str:
    from twingraph.executions.recorder import Recorder

    settings = load_settings()
    recorder = Recorder(settings.database)
    try:
        recorder.repository()
    finally:
        recorder.close()
    recording = "" if settings.record else ", but TWINGRAPH_RECORD is off: nothing is recorded"
    return f"{_without_password(settings.database)}{recording}"


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url


def _git() -> str:
    from twingraph.executions.machine import git

    facts = git()
    if not facts.get("git_commit"):
        return f"{os.getcwd()} is no checkout, so executions carry no commit"
    dirty = ", with changes that are not committed" if facts["git_dirty"] else ""
    return f"commit {facts['git_commit'][:10]} on {facts['git_branch']}{dirty}"
