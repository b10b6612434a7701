"""`BaseComponent`: a component as a class, with a configuration, a check of its inputs, and the work itself.

class Threshold(BaseComponent):
    def __init__(self, config=None):
        super().__init__(config)
        self.limit = self.config.get("limit", 0.5)

    def execute(self, data):
        return {"kept": [each for each in data if each > self.limit]}

Threshold({"limit": 1})(data=[0, 2])["kept"]
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar


class BaseComponent:
    """A component as a class: say what it does in `execute`. An instance is called like a component.

    Attributes:
        config: what the instance was made with.
        placement: where instances run, as arguments of `@component`, for example `{"platform": "docker"}`.
        unchanging: whether an instance is its configuration, and nothing that calls change.
    """

    placement: ClassVar[Mapping[str, Any]] = {}
    unchanging: ClassVar[bool] = False
    __travels__: ClassVar[tuple[str, ...]] = ("__init__", "__init_subclass__", "validate_inputs", "execute", "run")

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = dict(config or {})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _never_none(cls.__init__)  # type: ignore[method-assign]

    def validate_inputs(self, /, **kwargs: Any) -> None:
        """Check what `execute` is about to be called with; raise what is wrong with it."""

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Do the work, and return a dict of outputs."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it does: give it a method execute().")

    def usage_of(self, outputs: Mapping[str, Any]) -> Mapping[str, float]:
        """What a call used besides time and memory, by name, as its outputs tell: it is recorded with the call."""
        return {}

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs and do the work, here; this is what a platform calls."""
        bound = inspect.signature(self.execute).bind_partial(*args, **kwargs)  # what is missing is told by the check
        inputs = dict(bound.arguments)
        for parameter in inspect.signature(self.execute).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                inputs.update(inputs.pop(parameter.name, {}))
            elif parameter.kind is parameter.VAR_POSITIONAL:
                inputs.pop(parameter.name, None)
        self.validate_inputs(**inputs)
        return self.execute(*args, **kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it where it is placed; returns a result as any component does."""
        from twingraph.decorators import component_of

        return component_of(self)(*args, **kwargs)


def _never_none(make: Any) -> Any:
    """The constructor, which gets a dict also where no configuration is given."""
    first = [*inspect.signature(make).parameters.values()][1:2]
    if not first or first[0].name != "config" or first[0].default is not None:
        return make

    @functools.wraps(make)
    def made(self: Any, config: Any = None, *args: Any, **kwargs: Any) -> None:
        make(self, {} if config is None else config, *args, **kwargs)

    return made
