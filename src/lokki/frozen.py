"""`@frozen`: frozen dataclasses that cost next to nothing to define.

`@dataclass(frozen=True)` writes and compiles six methods for every class, half a millisecond each time, and brings
`inspect` with it. For the forty small values of this library that was a third of the time that a small flow takes from
start to end. Here the methods are written once and look at the class. To everyone else the values are dataclasses:
`dataclasses.replace`, `asdict` and `fields` work on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class _Missing:
    """Stands for a default that is not there."""


class _Field:
    def __init__(self, default: Any, default_factory: Callable[[], Any] | None, compare: bool) -> None:
        self.default = default
        self.default_factory = default_factory
        self.compare = compare


def field(*, default: Any = _Missing, default_factory: Callable[[], Any] | None = None, compare: bool = True) -> Any:
    """A field whose default is made anew for each value, or one that neither `==` nor `repr` looks at."""
    return _Field(default, default_factory, compare)


@overload
def frozen(cls: type[T], /) -> type[T]: ...
@overload
def frozen(*, eq: bool = True) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T] | None = None, /, *, eq: bool = True) -> Any:
    """Make a class with annotated fields a frozen dataclass; without `eq`, a value equals only itself."""
    if cls is None:
        return lambda decorated: _made(decorated, eq)
    return _made(cls, eq)


def replace(value: T, **changes: Any) -> T:
    """The value with some of its fields changed."""
    return type(value)(**named(value) | changes)


def named(value: Any) -> dict[str, Any]:
    """The fields of a value by name; those of values within it stay as they are."""
    return {name: getattr(value, name) for name in value.__match_args__}


def _made(cls: type[T], eq: bool) -> type[T]:
    made: Any = cls
    fields = dict(getattr(cls, "_fields_", {}))
    for name, hint in vars(cls).get("__annotations__", {}).items():
        if not str(hint).startswith("ClassVar"):
            given = vars(cls).get(name, _Missing)
            fields[name] = given if isinstance(given, _Field) else _Field(given, None, True)
            if isinstance(given, _Field):
                delattr(cls, name)
    made._fields_ = fields
    setattr(made, "__match_args__", tuple(fields))  # noqa: B010 - a type checker knows it as constant
    made.__dataclass_fields__ = _Asked(_dataclass_fields)
    made.__signature__ = _Asked(_signature)
    made.__replace__ = replace  # of `copy.replace`
    made.__init__, made.__setattr__, made.__delattr__ = _init, _refuse, _refuse
    if "__repr__" not in vars(cls):
        made.__repr__ = _repr
    if eq:
        made.__eq__, made.__hash__ = _eq, _hash
    return cls


def _init(self: Any, *args: Any, **given: Any) -> None:
    names = self.__match_args__
    if len(args) > len(names):
        raise TypeError(f"{type(self).__name__} takes {len(names)} values, but {len(args)} are given")
    state = dict(zip(names, args, strict=False))
    for name in names[len(args) :]:
        state[name] = given.pop(name) if name in given else _default(type(self), name)
    if given:
        name = next(iter(given))
        raise TypeError(f"{type(self).__name__} {'got two values for' if name in names else 'has no field'} {name!r}")
    self.__dict__.update(state)
    after = getattr(self, "__post_init__", None)
    if after is not None:
        after()


def _default(cls: Any, name: str) -> Any:
    known = cls._fields_[name]
    if known.default_factory is not None:
        return known.default_factory()
    if known.default is _Missing:
        raise TypeError(f"{cls.__name__} needs a value for {name!r}")
    return known.default


def _refuse(self: Any, name: str, *_: Any) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"{type(self).__name__} is frozen: {name!r} cannot be changed")


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name, known in self._fields_.items() if known.compare)


def _eq(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = (f"{name}={getattr(self, name)!r}" for name, known in self._fields_.items() if known.compare)
    return f"{type(self).__qualname__}({', '.join(shown)})"


class _Asked:
    """An attribute of the class that is made when somebody asks for it."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __get__(self, value: Any, cls: Any) -> Any:
        return self._make(cls)


def _dataclass_fields(cls: Any) -> Any:
    import dataclasses

    made: Any = dataclasses.make_dataclass(cls.__name__, list(cls._fields_))
    return made.__dataclass_fields__


def _signature(cls: Any) -> Any:
    import inspect

    hints = {
        name: hint for base in reversed(cls.__mro__) for name, hint in vars(base).get("__annotations__", {}).items()
    }
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            inspect.Parameter(name, kind, default=_shown(known), annotation=hints[name])
            for name, known in cls._fields_.items()
        ]
    )


def _shown(known: _Field) -> Any:
    import inspect

    if known.default_factory is not None:
        return known.default_factory()
    return inspect.Parameter.empty if known.default is _Missing else known.default
