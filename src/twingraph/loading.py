"""Pipelines, workflows and flows from a Python file, as `twingraph run` and a server find them."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from types import ModuleType

from lokki.decorators import Flow
from lokki.errors import nearest
from lokki.frozen import frozen
from lokki.start import loading
from twingraph.base import BaseComponent
from twingraph.decorators import Component
from twingraph.errors import ComponentError
from twingraph.pipelines import Pipeline
from twingraph.workflows import Workflow

Runnable = Pipeline | Workflow


@frozen
class Loaded:
    """What a file defines.

    Attributes:
        path: the file.
        runnable: its pipelines, workflows and flows (as workflows), by name.
        components: its components, functions and classes, by name.
    """

    path: str
    runnable: Mapping[str, Runnable]
    components: Mapping[str, Component | type[BaseComponent]]

    def find(self, name: str | None) -> Runnable:
        """The one of that name, or the only one."""
        if name is None and len(self.runnable) == 1:
            return next(iter(self.runnable.values()))
        if not self.runnable:
            raise ComponentError(f"{self.path} defines no pipeline and no workflow: write @pipeline over a function.")
        known = ", ".join(self.runnable)
        if name is None:
            raise ComponentError(f"{self.path} defines {known}: say which one with --pipeline.")
        if name not in self.runnable:
            near = nearest(name, self.runnable) or f"; it has {known}."
            raise ComponentError(f"{self.path} defines no pipeline {name!r}{near}")
        return self.runnable[name]


def load(path: str) -> Loaded:
    """What a file defines at its top; it is imported, without its `if __name__ == "__main__"` part."""
    module = _imported(path)
    runnable: dict[str, Runnable] = {}
    components: dict[str, Component | type[BaseComponent]] = {}
    for value in list(vars(module).values()):
        if isinstance(value, Pipeline | Workflow):
            runnable[value.name] = value
        elif isinstance(value, Flow) and value.__module__ == module.__name__:
            runnable.setdefault(value.name, Workflow.from_flow(value))
        elif isinstance(value, Component):
            components[value.name] = value
        elif isinstance(value, type) and issubclass(value, BaseComponent) and value.__module__ == module.__name__:
            components[value.__name__] = value
    return Loaded(path, runnable, components)


def _imported(path: str) -> ModuleType:
    found = os.path.abspath(path)
    if not os.path.isfile(found):
        raise ComponentError(f"There is no file {path}.")
    folder, name = os.path.dirname(found), os.path.basename(found).removesuffix(".py")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, found)
    if spec is None or spec.loader is None:
        raise ComponentError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with loading(path):  # the main() of a flow file, which nothing guards, does nothing
        spec.loader.exec_module(module)
    return module
