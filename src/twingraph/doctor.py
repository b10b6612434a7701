"""What is available here, and why not: `twingraph doctor`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator

from lokki.errors import LokkiError
from lokki.frozen import frozen
from twingraph.errors import MissingLibraryError
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
    for extra, names in sorted(_built_in().items()):
        yield _looked(f"components {extra}", lambda extra=extra, names=names: _libraries(extra, names))  # type: ignore[misc]
    yield _looked("execution graph", _graph)
    yield _looked("git", _git)


def _looked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except LokkiError as error:
        return Finding(name, False, str(error))


def _built_in() -> dict[str, list[str]]:
    """The built-in components, by what installs their libraries."""
    from twingraph.components.built_in import BuiltIn
    from twingraph.registry import list_components

    classes = {each for each in list_components().values() if isinstance(each, type) and issubclass(each, BuiltIn)}
    found: dict[str, list[str]] = {}
    for each in sorted(classes, key=lambda one: one.__name__):
        found.setdefault(each.extra, []).append(each.__name__)
    return found


def _libraries(extra: str, names: list[str]) -> str:
    from importlib.metadata import PackageNotFoundError, requires, version

    from twingraph.components.built_in import DISTRIBUTION

    missing = []
    for asked in requires(DISTRIBUTION) or ():
        if re.search(rf"extra == ['\"]{extra}['\"]", asked):
            library = re.split(r"[^\w.-]", asked)[0]
            try:
                version(library)
            except PackageNotFoundError:
                missing.append(library)
    if missing:
        raise MissingLibraryError(
            f"{' and '.join(names)}: {', '.join(missing)} not installed: pip install '{DISTRIBUTION}[{extra}]'"
        )
    return " and ".join(names)


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
