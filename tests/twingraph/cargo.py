"""A module of one's own, from which things travel."""

from __future__ import annotations

import functools
import logging
import re
import xml.etree.ElementTree  # noqa: ICN001 - this is what binds `xml` alone
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from os import environ
from typing import Any, Generic, NamedTuple, NewType, TypeVar

from lokki import step
from twingraph import component
from twingraph.base import BaseComponent

T = TypeVar("T")
LIMIT = 10
SEEN: dict[str, int] = {}
WORDS = re.compile(r"[a-z]+")
log = logging.getLogger(__name__)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Pair(NamedTuple):
    left: int
    right: str = "r"


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y + by, [*self.tags, "moved"])


class Base:
    factor = 2

    def __init__(self, start: int) -> None:
        self.start = start

    def scaled(self) -> int:
        return self.start * self.factor


class Grown(Base):
    def scaled(self) -> int:
        return super().scaled() + LIMIT

    def execute(self, by: int) -> int:
        return self.scaled() + by


class OwnError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class Threshold(BaseComponent):
    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        assert config is not None
        self.limit = config.get("limit", LIMIT)

    def validate_inputs(self, **kwargs: Any) -> None:
        if not kwargs["data"]:
            raise OwnError(1, "no data")

    def execute(self, data: list[int], *, scale: int = 1) -> dict[str, Any]:
        return {"kept": [each * scale for each in data if each > self.limit]}


Spot = namedtuple("Spot", ["x", "y"], defaults=[0])
Metres = NewType("Metres", int)
loop: list[Any] = []
loop.append(loop)


@component(platform="docker")
def placed_elsewhere(x: int) -> int:
    return x + LIMIT


@step
def stepped(x: int) -> int:
    return x + 1


def relative() -> int:
    from .cargo import LIMIT as HERE  # noqa: TID252 - it is what is tested

    return HERE


class Tagging(type):
    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Tagging:
        return super().__new__(cls, name, bases, {**space, "tag": name.lower()})


class Stack(Generic[T], metaclass=Tagging):
    tag: str
    items: list[T]

    def __init__(self, *items: T) -> None:
        self.items = [*items]


@contextmanager
def opened(name: str) -> Iterator[list[str]]:
    told = [f"open {name}"]
    yield told
    told.append(f"close {name}")


def counted(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        SEEN[fn.__name__] = SEEN.get(fn.__name__, 0) + 1
        return fn(*args)

    return call


@counted
def double(x: int) -> int:
    return x * 2


@functools.cache
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def even(n: int) -> bool:
    if str(n) in {"no", "number", "at", "all"}:
        raise ValueError(n)
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def parsed(text: str) -> list[str]:
    return WORDS.findall(xml.etree.ElementTree.fromstring(text).text or "")


def variable(name: str) -> str | None:
    return environ.get(name)
