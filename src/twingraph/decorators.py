"""`@component`: a function with a place to run. Calling it runs it there, and records the call.

A component is a step of lokki with a placement: the same kernel calls it, tries it again and tells of it.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any, ClassVar, Protocol, SupportsIndex, overload, runtime_checkable

from lokki.chain import StepNode
from lokki.errors import nearest
from lokki.frozen import frozen
from lokki.source import sure_fingerprint
from twingraph.errors import ComponentError, ComponentTypeError
from twingraph.lineage import parent_hashes
from twingraph.own import found
from twingraph.placement import Placement, placement
from twingraph.platforms.base import platform as find_platform
from twingraph.results import Result
from twingraph.retries import Retries, retries
from twingraph.runs import scope

_RESOURCES = ("cpu", "memory", "gpu")
_PARENTS = ("parent_hash", "parent_hashes")
_warned: set[tuple[str, str]] = set()


@runtime_checkable
class Instance(Protocol):
    """A component that is a class: `twingraph.BaseComponent`."""

    placement: ClassVar[Mapping[str, Any]]

    def validate_inputs(self, /, **kwargs: Any) -> None:
        """Check the inputs."""

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Do the work."""

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Check the inputs and do the work."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it where it is placed."""


@frozen
class Cache:
    """How long a recorded result may be used again: so many seconds, or None for ever."""

    ttl: float | None = None


class Component:
    """A function with a place to run; made by `@component`.

    Attributes:
        fn: the function as it was written; calling it runs it here and records nothing.
        name: what its calls are known by.
        placement: where and with what it runs.
        retry: when it is tried again.
        cache: how long a recorded result may be used again, or None.
    """

    __name__: str

    def __init__(
        self, fn: Callable[..., Any], name: str, placement: Placement, retry: Retries, cache: Cache | None = None
    ) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.placement = placement
        self.retry = retry
        self.cache = cache
        self._code: tuple[str, bool] | None = None
        self._own_parents = {each for each in _PARENTS if each in self.signature.parameters}
        _namedtuple_for(fn)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Result:
        """Run it where it is placed; in a pipeline, see `twingraph.pipelines`."""
        return scope().call(self, args, kwargs, submit=False)

    def submit(self, /, *args: Any, **kwargs: Any) -> Result:
        """Start it, and go on: the result waits when it is read."""
        return scope().call(self, args, kwargs, submit=True)

    def map(self, items: Iterable[Any], /, **kwargs: Any) -> list[Result]:
        """Start it for each item, and go on; the results are in the order of the items."""
        given = items.value if isinstance(items, Result) else items
        if not isinstance(given, Iterable):
            raise ComponentTypeError(
                f"Component {self.name!r}: map takes items to run for, not {type(given).__name__}."
            )
        return [self.submit(each, **kwargs) for each in given]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return Component(self.fn.__get__(instance, owner), self.name, self.placement, self.retry, self.cache)

    def __repr__(self) -> str:
        return f"<component {self.name} on {self.placement.platform}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self.instance is not None:
            return Component, (self.fn, self.name, self.placement, self.retry, self.cache)
        return known_name(self) or super().__reduce_ex__(protocol)

    @cached_property
    def signature(self) -> inspect.Signature:
        """What it can be called with."""
        if self.instance is None:
            return self._of_function()
        told: inspect.Signature | None = getattr(self.instance, "__signature__", None)  # with defaults of its own
        return told or inspect.signature(self.instance.execute)

    def _of_function(self) -> inspect.Signature:
        try:
            return inspect.signature(self.fn)
        except ValueError:  # of some that are written in C
            raise ComponentTypeError(
                f"Python does not say what {self.fn!r:.60} takes: put @component on a function that calls it."
            ) from None

    @cached_property
    def source(self) -> str:
        """The text of the function, where there is one."""
        return _text_of_class(type(self.instance)) if self.instance else _text(self.fn)

    @cached_property
    def instance(self) -> Instance | None:
        """Of a component that is a class: the instance whose method it runs."""
        owner = getattr(self.fn, "__self__", None)
        return owner if isinstance(owner, Instance) else None

    def usage_of(self, given: Mapping[str, Any]) -> Mapping[str, float]:
        """What a call that gave these outputs used besides time and memory."""
        tells = getattr(self.instance, "usage_of", None)
        return tells(given) if callable(tells) else {}

    @property
    def code_identity(self) -> tuple[str, bool]:
        """What changes when the code does, and whether that can be relied on.

        What a closure or an instance holds may change from call to call, unless the instance says that it does not.
        """
        owner = getattr(self.fn, "__self__", None)
        changes = self.cache or getattr(self.fn, "__closure__", None) or owner is not None
        changes = changes and not getattr(owner, "unchanging", False)
        if self._code is None or changes:  # with a cache, also the functions that it uses
            made, sure = sure_fingerprint(self.fn)
            self._code = made.hex(), sure
        return self._code

    @property
    def code(self) -> CodeType | None:
        """The compiled code, of a function that has one."""
        return getattr(self.fn, "__code__", None)

    def accepted(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], tuple[str, ...]]:
        """The arguments for the function, and the parents that are named; a wrong argument is a TypeError."""
        named = dict(kwargs)
        given = tuple(
            named[each] if each in self._own_parents else named.pop(each) for each in _PARENTS if each in named
        )
        if not self._fits(args, named):
            try:
                self._bind(*args, **named)
            except TypeError as error:
                raise misfit(self.name, self.signature, named, error) from None
        return args, named, parent_hashes(self.name, *given) if given else ()

    def _fits(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> bool:
        """Whether the arguments surely fit: to bind them costs ten times as much, and is left to the others."""
        if self._plain is None or len(args) > len(self._plain[0]):
            return False
        names, needed = self._plain
        left = names[len(args) :]
        return all(each in left for each in named) and all(each in named for each in left if each in needed)

    @cached_property
    def _plain(self) -> tuple[tuple[str, ...], frozenset[str]] | None:
        """The parameters and those without a default, where each takes its argument by place and by name."""
        parameters = self.signature.parameters.values()
        if self.instance or any(each.kind is not each.POSITIONAL_OR_KEYWORD for each in parameters):
            return None
        needed = frozenset(each.name for each in parameters if each.default is each.empty)
        return tuple(each.name for each in parameters), needed

    def by_place(self, named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments by name as the function takes them: some parameters have a place only."""
        places = [name for name, each in self.signature.parameters.items() if each.kind is each.POSITIONAL_ONLY]
        args = tuple(named[each] for each in places if each in named)
        args, kwargs, _ = self.accepted(args, {name: each for name, each in named.items() if name not in places})
        return args, kwargs

    def inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, defaults included."""
        bound = self._bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    @cached_property
    def _bind(self) -> Callable[..., inspect.BoundArguments]:
        # a class says itself what its inputs lack
        return self.signature.bind_partial if self.instance else self.signature.bind


@overload
def component(fn: Callable[..., Any], /) -> Component: ...
@overload
def component(
    *,
    platform: str = "local",
    docker_image: str | None = None,
    config: Mapping[str, Any] | None = None,
    retry_policy: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    resources: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    cache: bool | Mapping[str, Any] = False,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Component]: ...
def component(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    platform: str = "local",
    docker_image: str | None = None,
    config: Mapping[str, Any] | None = None,
    retry_policy: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    resources: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    cache: bool | Mapping[str, Any] = False,
    name: str | None = None,
) -> Component | Callable[[Callable[..., Any]], Component]:
    """Make a function a component.

    Args:
        fn: the function.
        platform: where it runs: "local", "docker", "kubernetes", "lambda" or "batch".
        docker_image: the container image; by default one of this Python.
        config: what else the platform is told, in its own words.
        retry_policy: when to try again: `max_attempts`, `backoff`, `initial_delay`, `max_delay`, `exceptions`.
        timeout: seconds that an attempt may take, 0 for no limit; by default what `config` says, or 300.
        resources: `cpu`, `memory` and `gpu`, on every platform alike.
        environment: environment variables that the component sees.
        labels: what people find its calls by.
        cache: use the recorded result of an earlier call of the same code with the same inputs: True, or
            `{"ttl": seconds}`.
        name: what its calls are known by; by default the function's name.
    """

    def decorate(function: Callable[..., Any]) -> Component:
        called = _name(function, name)
        known = find_platform(platform)
        placed = placement(
            called,
            platform=platform,
            image=docker_image,
            config=config,
            timeout=timeout,
            resources=resources,
            environment=environment,
            labels=labels,
        )
        _warn_of_unknown(called, f"platform {platform!r} knows no config key", known.options, placed.config)
        _warn_of_unknown(called, "resources knows no key", _RESOURCES, placed.resources)
        policy = retries(retry_policy, f"retry_policy of component {called!r}")
        return Component(_function(function), called, placed, policy, _cache(called, cache))

    return decorate if fn is None else decorate(fn)


def misfit(name: str, signature: inspect.Signature, named: Mapping[str, Any], error: TypeError) -> TypeError:
    """What is wrong with arguments; where the name of one is, that others are missing because of it is not told."""
    known = signature.parameters
    odd = [each for each in named if each not in known]
    if not odd or any(each.kind is each.VAR_KEYWORD for each in known.values()):
        return TypeError(f"{name}() {error}")
    return TypeError(f"{name}() got an unexpected keyword argument {odd[0]!r}{nearest(odd[0], known)}")


def known_name(made: Any) -> str:
    """The name by which another process finds this in a module, as it finds functions; empty where it may not.

    What the program itself defines goes by value, for those picklers that can do that.
    """
    module, name = getattr(made, "__module__", ""), getattr(made, "__qualname__", "")
    return name if module != "__main__" and found(module, name) is made else ""


def component_of(instance: Instance) -> Component:
    """The component that an instance of a class is, placed as its class says."""
    made: Component = component(**instance.placement)(instance)
    return made


@lru_cache(maxsize=256)
def _text_of_class(cls: type) -> str:
    return _text(cls)


def _text(thing: Any) -> str:
    """The text of a function or class, where there is one."""
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return ""


def _function(given: Any) -> Callable[..., Any]:
    """What is run: a function as it is, of an instance its method."""
    if isinstance(given, Instance):
        return given.run
    function: Callable[..., Any] = given
    return function


def _name(function: Any, name: str | None) -> str:
    if isinstance(function, Component | StepNode) or not callable(function):
        raise ComponentTypeError(f"@component goes on a plain function, not on {function!r:.60}.")
    called = name or getattr(function, "__name__", "") or type(function).__name__
    if not isinstance(called, str) or not re.fullmatch(r"[^\s#/]+", called):
        raise ComponentError(f"A component needs a name without spaces, # and /, and {called!r} is none: give name=...")
    return called


def _cache(component: str, told: bool | Mapping[str, Any]) -> Cache | None:
    if isinstance(told, bool):
        return Cache() if told else None
    if not isinstance(told, Mapping) or set(told) - {"ttl"}:
        raise ComponentError(f"Component {component!r}: cache takes True, False or {{'ttl': seconds}}, not {told!r}.")
    seconds = told.get("ttl")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise ComponentError(f"Component {component!r}: cache['ttl'] takes seconds, more than 0, not {seconds!r}.")
    return Cache(seconds)


def _warn_of_unknown(component: str, what: str, known: Iterable[str], given: Mapping[str, Any]) -> None:
    for key in given:
        if key not in known and (what, key) not in _warned:
            _warned.add((what, key))
            near = nearest(str(key), known) or f"; it knows {', '.join(sorted(known))}."
            warnings.warn(f"Component {component!r}: {what} {key!r}{near}", stacklevel=4)


def _namedtuple_for(fn: Any) -> None:
    """A function that uses `namedtuple` without importing it gets it, as the documentation's first example wants."""
    names = getattr(fn, "__globals__", None)
    code = getattr(fn, "__code__", None)
    if names is not None and code is not None and "namedtuple" in code.co_names:
        names.setdefault("namedtuple", namedtuple)
