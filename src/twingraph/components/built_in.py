"""`BuiltIn`: what the components have in common that come with this library.

    class FileReader(BuiltIn):
        extra = "files"

        def __init__(self, config: Mapping[str, Any] | None = None, *, format: Format | None = None) -> None:
            super().__init__(config)
            self.format = format

        def execute(self, path: str, limit: int | None = None) -> dict[str, Any]: ...

The parameters of `__init__` are its *settings*: `FileReader(format="csv")`, or from a workflow's definition
`FileReader({"format": "csv"})`. The parameters of `execute` are its *inputs*; the configuration may hold defaults for
them. Both are checked against their types before the work begins. Where a component reaches to with somebody's rights
is a setting, because whoever may only run a workflow chooses its inputs.

An instance is what it was made with: that is all that is pickled, hashed, and sent to where it runs. A library is
imported by the first call that needs it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from lokki.conversion import Mismatch, convert
from lokki.errors import nearest
from lokki.kinds import expected
from lokki.params import Parameter, describe
from twingraph.base import BaseComponent
from twingraph.decorators import Component, component_of
from twingraph.errors import ComponentError, ComponentTypeError, MissingLibraryError
from twingraph.executions.secrets import HIDDEN, is_secret, veiled
from twingraph.results import Result
from twingraph.revealing import SCHEME, revealed
from twingraph.schemas import described, settings_of, told_of

Make = TypeVar("Make", bound=Callable[..., None])

DISTRIBUTION = "lokki-twingraph"


def _configured(make: Make) -> Make:
    """The constructor of a class, which takes its settings by name and from a dict."""
    own = [each.name for each in settings_of(make)]

    @functools.wraps(make)
    def made(self: Any, config: Mapping[str, Any] | None = None, **settings: Any) -> None:
        given = {**_a_mapping(self, config), **settings}
        if "config" not in vars(self):  # and not called by the constructor of a subclass
            given = _checked(self, given)
            vars(self)["config"] = given
        rest = {name: value for name, value in given.items() if name not in own}
        make(self, rest, **{name: given[name] for name in own if name in given})

    return cast("Make", made)


class BuiltIn(BaseComponent):
    """A component that comes with this library.

    Attributes:
        config: what the instance was made with.
        extra: what installs the libraries that it needs.
    """

    extra: ClassVar[str] = ""
    unchanging: ClassVar[bool] = True

    @_configured
    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Nothing is left to do: the configuration was kept before a subclass sees its part of it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _configured(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """JSON schemas of its settings and of its inputs, for palettes and forms."""
        settings = described(_settings(cls).values(), _told(cls, "__init__"))
        for name, held in settings["properties"].items():
            if is_secret(name):
                held["writeOnly"] = True
        return {"settings": settings, "inputs": described(describe(cls.execute)[1:], _told(cls, "execute"))}

    @property
    def __signature__(self) -> inspect.Signature:
        """What it can be called with: what the configuration has needs not be given."""
        known, own = inspect.signature(self.execute).parameters, self.config
        told = [each.replace(default=own[name]) if name in own else each for name, each in known.items()]
        return inspect.Signature(told, __validate_parameters__=False)  # one that is needed may follow one that is not

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs and do the work, here; this is what a platform calls."""
        inputs = self._given(args, kwargs)
        self.validate_inputs(**inputs)
        return self.execute(**inputs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it where it is placed; returns a result as any component does."""
        return self._placed()(*args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> Result:
        """Start it, and go on: the result waits when it is read."""
        return self._placed().submit(*args, **kwargs)

    def map(self, items: Iterable[Any], /, **kwargs: Any) -> list[Result]:
        """Start it for each item, and go on; the results are in the order of the items."""
        return self._placed().map(items, **kwargs)

    def revealed(self, value: Any) -> Any:
        """The value with secrets in place of references such as `secret://NAME`; for a setting, as it is used."""
        (found,), _ = revealed((value,), {})
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) and name in _settings(type(self)):
            raise AttributeError(f"{_name(self)}: setting {name!r} cannot be changed; make another {_name(self)}.")
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.config,)

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(name, value)}" for name, value in self.config.items())
        return f"{_name(self)}({', '.join(shown)})"

    def _placed(self) -> Component:
        """What a call goes through, made by the first."""
        made: Component | None = vars(self).get("_component")
        if made is None:
            made = vars(self)["_component"] = component_of(self)
        return made

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs by name, of their types; one that is missing comes from the configuration."""
        known = _inputs(type(self))
        given = {name: self.revealed(value) for name, value in self.config.items() if name in known}
        given |= {**dict(zip(known, args, strict=False)), **kwargs}
        if len(args) > len(known):
            raise ComponentTypeError(f"{_name(self)} takes {len(known)} inputs, not {len(args)}.")
        for name, each in known.items():
            if each.required and name not in given:
                raise ComponentTypeError(
                    f"{_name(self)}: input {name!r} is missing: give it as {name}=..., or in the configuration."
                )
        return {name: _converted(self, "input", known.get(name), name, value) for name, value in given.items()}


@contextmanager
def needed(extra: str, name: str = "") -> Iterator[None]:
    """Around the imports of libraries that an extra installs: a missing one is an error that says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        who = f"{name} needs" if name else "This needs"
        raise MissingLibraryError(
            f"{who} {error.name}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'."
        ) from error


def _a_mapping(instance: BuiltIn, config: Any) -> Mapping[str, Any]:
    if config is None or isinstance(config, Mapping):
        return config or {}
    raise ComponentTypeError(
        f"{_name(instance)} takes its settings by name, or a dict of them, not {type(config).__name__}."
    )


def _checked(instance: BuiltIn, given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, with settings of their types; a name that is neither a setting nor an input is an error."""
    settings, inputs = _settings(type(instance)), _inputs(type(instance))
    for name in given:
        if name not in settings and name not in inputs:
            near = nearest(name, [*settings, *inputs]) or f"; it knows {', '.join([*settings, *inputs])}."
            raise ComponentError(f"{_name(instance)} has no setting or input {name!r}{near}")
    if missing := [each.name for each in settings.values() if each.required and each.name not in given]:
        raise ComponentTypeError(f"{_name(instance)}: setting {missing[0]!r} is missing: give {missing[0]}=...")
    return {name: _converted(instance, "setting", settings.get(name), name, value) for name, value in given.items()}


def _converted(instance: BuiltIn, what: str, known: Parameter | None, name: str, value: Any) -> Any:
    if known is None or (what == "setting" and isinstance(value, str) and value.startswith(SCHEME)):
        return value
    if known.hint is Any:
        return value
    try:
        return convert(known.kind, value)
    except Mismatch as problem:
        told = f"its value is not {expected(known.kind)}" if is_secret(name) else veiled(str(problem))
        raise ComponentTypeError(f"{_name(instance)}: {what} {name!r}: {told}.") from None


def _settings(cls: type[BuiltIn]) -> Mapping[str, Parameter]:
    return _parameters(cast("Any", cls))[0]


def _inputs(cls: type[BuiltIn]) -> Mapping[str, Parameter]:
    return _parameters(cast("Any", cls))[1]


@functools.cache
def _parameters(cls: Any) -> tuple[Mapping[str, Parameter], Mapping[str, Parameter]]:
    """The settings of a class and of those that it stands on, and its inputs.

    What it takes besides, as `**fields`, has no names.
    """
    settings: dict[str, Parameter] = {}
    for each in cls.__mro__:
        if issubclass(each, BuiltIn) and "__init__" in vars(each):
            settings = {one.name: one for one in settings_of(inspect.unwrap(vars(each)["__init__"]))} | settings
    return settings, {each.name: each for each in describe(cls.execute)[1:] if each.role != "extra"}


def _told(cls: type[BuiltIn], method: str) -> Mapping[str, str]:
    """What docstrings say of the parameters of a method: its own, and that of the class."""
    made: Callable[..., Any] = getattr(cls, method)
    return {**told_of(cls.__doc__ or ""), **told_of(made.__doc__ or "")}


def _shown(name: str, value: Any) -> str:
    if isinstance(value, dict) and not is_secret(name):
        return "{" + ", ".join(f"{each!r}: {_shown(str(each), held)}" for each, held in value.items()) + "}"
    return HIDDEN if is_secret(name) else veiled(repr(value) if not isinstance(value, str) else repr(veiled(value)))


def _name(instance: BuiltIn) -> str:
    return type(instance).__name__
