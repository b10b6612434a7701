"""What the files that are served define: pipelines, workflows and flows to run, and components to call for."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from lokki.errors import LokkiError
from lokki.frozen import frozen
from twingraph.loading import Runnable, load
from twingraph.pipelines import Pipeline
from twingraph.registry import list_components
from twingraph.schemas import inputs_of
from twingraph.server.catalog import Catalog, Served, described


@frozen
class Broken:
    """A file, or a part of one, that cannot be served: why, and the traceback of that."""

    file: str
    why: str
    trace: str = ""


@frozen
class Files:
    """What files define.

    Attributes:
        runnable: pipelines and workflows by their ids.
        components: components by name.
        catalog: what the server is told of all that.
        broken: what could not be served.
    """

    runnable: Mapping[str, Runnable]
    components: Mapping[str, Any]
    catalog: Catalog
    broken: tuple[Broken, ...]


def imported(paths: Iterable[str]) -> Files:
    """What these files define; one that cannot be imported leaves the others served."""
    runnable: dict[str, Runnable] = {}
    components: dict[str, Any] = {}
    told: list[Served] = []
    broken: list[Broken] = []
    whole: list[str] = []
    for path in paths:
        try:
            loaded = load(path)
        except LokkiError as error:
            broken.append(Broken(path, str(error)))
            continue
        except BaseException as error:  # whatever a file does when it is imported, the others are served
            if isinstance(error, KeyboardInterrupt):
                raise
            broken.append(Broken(path, f"{type(error).__name__}: {error}", traceback.format_exc()))
            continue
        whole.append(os.path.abspath(path))
        components.update(loaded.components)
        for name, each in loaded.runnable.items():
            id = slug(name)  # noqa: A001 - it is the workflow's
            if id in runnable:
                broken.append(Broken(path, f"{name!r} is left out: another pipeline or workflow is served as {id!r}"))
                continue
            runnable[id] = each
            told.append(_served(id, each, path))
    known = {name: described(each, name) for name, each in {**list_components(), **components}.items()}
    return Files(runnable, components, Catalog(known, tuple(told), tuple(whole)), tuple(broken))


def slug(name: str) -> str:
    """The id of a workflow of that name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "workflow"


def _served(id: str, runs: Runnable, path: str) -> Served:  # noqa: A002 - it is the workflow's
    if isinstance(runs, Pipeline):
        when = runs.schedule
        schedule = {}
        if when is not None:
            schedule = {"schedule": when.expression, "timezone": when.timezone, "misfire": when.misfire}
        about = (runs.__doc__ or "").strip().split("\n\n")[0]
        return Served(id, runs.name, _NOTHING, os.path.abspath(path), schedule, inputs_of(runs.fn), about)
    definition: Mapping[str, Any] = _NOTHING
    with suppress(LokkiError):  # a configuration that JSON has no word for
        definition = runs.to_dict()["definition"]
    return Served(id, runs.name, definition, os.path.abspath(path), description=runs.description)


_NOTHING: Mapping[str, Any] = {"nodes": [], "edges": []}
